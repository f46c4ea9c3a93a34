"""sdf and occupancy of one closed mesh: near the truth in seconds, in the file's own frame, resumed exactly."""

import numpy as np
import pytest
import torch
import trimesh

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, open_edges
from neural3d.loading import load_data
from neural3d.run import configure, load
from neural3d.train import Trainer

SETTINGS = ["horizon=150", "batch=8192", "levels=8", "max_resolution=128", "log2_table=14"]


@pytest.fixture(scope="module")
def knot(tmp_path_factory):
    """A torus away from the origin, turned and not of unit size."""
    made = trimesh.creation.torus(2.0, 0.7)
    made.apply_transform(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0, 0, 0]))
    made.apply_translation([10, 20, -30])
    path = tmp_path_factory.mktemp("shapes") / "torus.stl"
    made.export(path)
    return path, made


@pytest.fixture(scope="module", params=["sdf", "occupancy"])
def fitted(request, knot, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    config, shape = configure(knot[0], request.param, SETTINGS)
    Trainer.create(out, config, shape, torch.device("cpu")).fit(150, previews=False)
    return load(out, "cpu")


def test_the_mesh_is_the_shape(fitted, knot):
    mesh = fitted.method.mesh(96).transformed(torch.linalg.inv(fitted.scene.scene_from_capture))
    truth = knot[1]
    assert open_edges(mesh) == 0
    assert abs(mesh.volume / truth.volume - 1) < 0.03
    surface = Solid(Mesh(np.asarray(truth.vertices), np.asarray(truth.faces)))
    assert surface.distance(mesh.vertices).mean() < 0.01  # of 5.4 units


def test_crop_is_a_box_in_the_files_own_frame(fitted):
    crop = torch.tensor([[10.0, 15, -35], [15, 25, -25]])
    mesh = fitted.method.mesh(64, crop).transformed(torch.linalg.inv(fitted.scene.scene_from_capture))
    assert open_edges(mesh) == 0
    assert 9.99 < mesh.vertices[:, 0].min() < 10.06 and mesh.vertices[:, 0].max() > 12


def test_pictures_show_the_shape(fitted):
    from neural3d.render.paths import orbit

    camera = orbit(fitted.scene, 4)[1]
    out = fitted.render(camera)
    xy, z = camera.project(torch.from_numpy(load_data(fitted.config.scene).vertices).double())
    column, row = xy.long().T
    assert (column >= 0).all() and (column < camera.width).all()
    assert out.alpha[row, column].mean() > 0.95  # all vertices are in the silhouette but some at its rim
    nearest = out.depth[row, column, 0]
    assert (z - nearest > -0.02)[nearest > 0].float().mean() > 0.98


def test_resuming_gives_the_same_bytes(knot, tmp_path):
    for parts in ([40], [25, 40]):
        config, shape = configure(knot[0], "sdf", SETTINGS)
        trainer = Trainer.create(tmp_path / str(len(parts)), config, shape, torch.device("cpu"))
        for steps in parts:
            trainer.fit(steps, previews=False)
            trainer = Trainer.resume(trainer.directory, torch.device("cpu"))
    a, b = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in "12")
    assert a == b


def test_extraction_of_an_exact_field_converges_with_the_square_of_the_cell(knot):
    """Marching cubes of a torus's own distance: a quarter of the error at twice the resolution."""
    from neural3d.geometry.mesh import extract

    def torus(x):
        return torch.hypot(torch.hypot(x[:, 0], x[:, 1]) - 0.6, x[:, 2]) - 0.25

    box = torch.tensor([[-1.0, -1, -0.4], [1, 1, 0.4]])
    errors = []
    for resolution in (32, 64, 128):
        mesh = extract(torus, box, resolution)
        centres = torch.from_numpy(mesh.vertices[mesh.faces].mean(1)).double()
        errors.append(float(torus(centres).abs().mean()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (abs(orders - 2) < 0.25).all()


def test_solid_and_field_agree_on_the_sign(fitted):
    shape = load_data(fitted.config.scene)
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 3)).astype(np.float32)
    truth = Solid(shape.mesh).signed_distance(points)
    clear = np.abs(truth) > 0.02
    method = fitted.method
    outward = method.signed_distance if fitted.config.method == "sdf" else lambda x: -method.logits(x)
    learned = outward(torch.from_numpy(points)).detach().numpy()
    assert (np.sign(learned) == np.sign(truth))[clear].mean() > 0.995
