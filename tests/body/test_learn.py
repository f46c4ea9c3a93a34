"""Bodies learnt from scans: principal components, joints that follow the shape, registration of other topologies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from bodies import smpl_arrays

from neural3d.body import load_model
from neural3d.body.learn import learn, principal_components, registered, with_regressor, write_model
from neural3d.body.register import Surface, align, register, similar
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.geometry.solid import Solid


def test_components_are_the_exact_ones():
    """Beside numpy's singular value decomposition: the same subspace, the same deviations, the same rest."""
    rng = np.random.default_rng(0)
    bodies = rng.normal(size=(40, 12)) @ rng.normal(size=(12, 300)) + rng.normal(size=300)
    mean, components, deviations = principal_components(bodies, 5)
    _, s, vt = np.linalg.svd(bodies - bodies.mean(0), full_matrices=False)
    np.testing.assert_allclose(deviations, s[:5] / np.sqrt(39), rtol=1e-9)
    cosines = np.linalg.svd(components @ vt[:5].T)[1]
    assert np.sqrt(1 - min(cosines.min(), 1) ** 2) < 1e-6
    new = bodies[0] - mean
    np.testing.assert_allclose(components.T @ (components @ new), vt[:5].T @ (vt[:5] @ new), atol=1e-8)
    assert len(principal_components(bodies, 100)[1]) == 12  # no more than there are


def load_toy(folder):
    np.savez(folder / "toy.npz", **smpl_arrays(vertices=80, joints=5, shapes=3))
    return load_model(folder / "toy.npz")


@pytest.fixture
def toy(tmp_path):
    return load_toy(tmp_path)


def scans(model, folder, count=12):
    shape = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    for i, vertices in enumerate(model(shape).vertices):
        mesh = trimesh.Trimesh(vertices.numpy(), model.faces.numpy(), process=False)
        mesh.export(folder / f"{i:02d}.ply")
    return sorted(folder.glob("*.ply"))


def test_what_is_learnt_loads_and_holds_its_scans(toy, tmp_path):
    files = scans(toy, tmp_path)
    learnt = learn(files, toy, 3, "mine")
    write_model(learnt, tmp_path / "mine.npz")
    again = load_model(tmp_path / "mine.npz")
    assert again.joint_names == toy.joint_names and len(again.shapes) == 3 and again.parents == toy.parents
    for file in files[:3]:
        scan = torch.from_numpy(np.asarray(trimesh.load(file, process=False).vertices)).float()
        flat = again.shapes.flatten(1)
        beta = torch.linalg.lstsq(flat.T, (scan - again.template).flatten()[:, None]).solution.T
        posed = again(beta)
        torch.testing.assert_close(posed.vertices[0], scan, atol=1e-5, rtol=0)
        torch.testing.assert_close(posed.joints[0], toy.regressor @ scan, atol=1e-5, rtol=0)
        assert beta.abs().max() < 4  # deviations


def test_joints_of_a_model_without_a_regressor(toy):
    found = with_regressor(replace(toy, regressor=None)).regressor
    torch.testing.assert_close(found.sum(1), torch.ones(5), atol=1e-5, rtol=0)
    body = toy(torch.tensor([[1.0, -0.5, 0.3]]))
    torch.testing.assert_close(found @ body.vertices[0], body.joints[0], atol=2e-3, rtol=0)


def test_a_scan_of_another_topology_turned_and_moved(tmp_path):
    """A bent egg, which no turn leaves as it is, onto a taller, dented one of four times the faces, upside down."""
    egg = trimesh.creation.icosphere(subdivisions=3)
    egg.vertices *= [0.3, 0.8, 0.2]
    egg.vertices[:, 0] *= 1 + 0.4 * egg.vertices[:, 1]
    egg.vertices[:, 2] += 0.5 * egg.vertices[:, 1] ** 2
    turn = rotation_from_axis_angle(torch.tensor([3.0, 0.2, 0.1])).double().numpy()
    bent = egg.copy()
    bent.vertices += [[0, 0.05, 0]] * bent.vertices * 2 + 0.02 * np.sin(4 * bent.vertices[:, [1, 2, 0]])
    truth = bent.vertices @ turn.T + [2.0, 1, -3]
    fine = trimesh.Trimesh(truth, bent.faces, process=False).subdivide()
    scan = Mesh(fine.vertices, np.asarray(fine.faces))
    found = register(Mesh(np.asarray(egg.vertices), np.asarray(egg.faces)), scan)
    # An egg has no features to hold vertices in their places along it; upside down they would be half a metre off.
    assert np.median(np.linalg.norm(found - truth, axis=1)) < 0.06
    assert Solid(scan).distance(found).max() < 0.01


def figure(arms: float, legs: float) -> Mesh:
    """A body, a head and four limbs of eggs; arms and legs: their lengths."""
    parts = []
    for size, place in (
        ((0.2, 0.4, 0.12), (0, 0, 0)), ((0.12, 0.15, 0.12), (0, 0.6, 0)),
        *(((arms, 0.05, 0.05), (side * (0.15 + arms), 0.3, 0)) for side in (-1, 1)),
        *(((0.08, legs, 0.08), (side * 0.12, -0.3 - legs, 0)) for side in (-1, 1)),
    ):  # fmt: skip
        egg = trimesh.creation.icosphere(subdivisions=3)
        egg.vertices = egg.vertices * size + place
        parts.append(egg)
    whole = trimesh.util.concatenate(parts)
    return Mesh(np.asarray(whole.vertices), np.asarray(whole.faces))


def test_a_template_of_other_proportions_is_not_shrunk_onto_a_part():
    """One-sided distances are least for a small copy that lies inside a limb."""
    scan = figure(0.2, 0.35)
    found = align(figure(0.45, 0.5), Surface(Mesh(scan.vertices + np.array([5.0, 0, 1]), scan.faces)))
    np.testing.assert_allclose(np.ptp(found, axis=0)[1], np.ptp(scan.vertices, axis=0)[1], rtol=0.25)


def test_a_scan_that_lies_is_turned_upright_and_keeps_its_size(tmp_path):
    body, other = figure(0.4, 0.5), figure(0.45, 0.6)
    template = replace(
        load_toy(tmp_path), template=torch.from_numpy(body.vertices).float(), faces=torch.from_numpy(body.faces)
    )
    turn = rotation_from_axis_angle(torch.tensor([1.5, 0.1, 0.3])).double().numpy()
    fine = trimesh.Trimesh(other.vertices @ turn.T + [3, 0, 1], other.faces, process=False).subdivide()
    fine.export(tmp_path / "lying.ply")
    found = registered(tmp_path / "lying.ply", template)
    assert np.abs(found - other.vertices).mean() < 0.03
    np.testing.assert_allclose(np.ptp(found, axis=0), np.ptp(other.vertices, axis=0), rtol=0.05)


def test_a_scan_that_is_no_body_is_named(tmp_path):
    body = figure(0.4, 0.5)
    template = replace(
        load_toy(tmp_path), template=torch.from_numpy(body.vertices).float(), faces=torch.from_numpy(body.faces)
    )
    trimesh.creation.annulus(0.8, 1.0, 0.2).subdivide().export(tmp_path / "ring.ply")
    with pytest.raises(UserError, match=r"ring\.ply: is not shaped like the template"):
        registered(tmp_path / "ring.ply", template)


def test_similarities():
    rng = np.random.default_rng(0)
    points, turn = rng.normal(size=(20, 3)), rotation_from_axis_angle(torch.tensor([0.3, -2.0, 0.5])).double().numpy()
    size, found, move = similar(points, 1.7 * points @ turn.T + [1, 2, 3])
    np.testing.assert_allclose(size, 1.7)
    np.testing.assert_allclose(found, turn, atol=1e-6)
    np.testing.assert_allclose(move, [1, 2, 3], atol=1e-6)


def test_scans_that_cannot_be_learnt_from(toy, tmp_path):
    with pytest.raises(UserError, match="1 meshes are too few"):
        learn(scans(toy, tmp_path, 1), toy, 3)
    files = scans(toy, tmp_path, 2)
    files[1].write_text("no mesh")
    with pytest.raises(UserError, match=r"01\.ply.*cannot be read"):
        learn(files, toy, 3)
