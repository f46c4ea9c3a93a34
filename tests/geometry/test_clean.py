"""Surfaces with faults of stated sizes: what is dropped, cut and filled, and what must stay."""

import numpy as np
import pytest
import torch
import trimesh

from neural3d.errors import UserError
from neural3d.geometry.clean import cleaned, pieces, simplified, smoothed, with_holes_filled, without_spikes
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.solid import open_edges
from neural3d.synthetic.analytic import Torus

pytest.importorskip("open3d")
pytest.importorskip("fast_simplification")
TORUS = Torus(0.55, 0.25, (0.1, -0.07, 0.15))
BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])


def ball(radius: float = 1.0, centre: tuple = (0.0, 0, 0), fineness: int = 4) -> Mesh:
    mesh = trimesh.creation.icosphere(fineness, radius)
    return Mesh((mesh.vertices + centre).astype(np.float32), mesh.faces.astype(np.int32))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = [m.faces + start for m, start in zip(meshes, starts)]
    return Mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces).astype(np.int32))


def opened(mesh: Mesh, *holes: tuple) -> Mesh:
    """Without the faces around points: (x, y, z, radius) each."""
    centres = mesh.vertices[mesh.faces].mean(1)
    lost = [np.linalg.norm(centres - hole[:3], axis=1) < hole[3] for hole in holes]
    return mesh.kept(~np.any(lost, axis=0))


def test_islands_below_a_share_of_the_area_are_dropped():
    """Balls of 4 % and 0.25 % of the first one's area."""
    mesh = joined(ball(), ball(0.2, (2, 0, 0)), ball(0.05, (0, 2, 0)))
    result = cleaned(mesh)
    assert pieces(mesh) == 3 and pieces(result.mesh) == 2 and result.islands == 1
    assert result.removed == pytest.approx(0.0025 / 1.0425, rel=0.02)
    assert pieces(cleaned(mesh, keep_largest=True).mesh) == 1
    assert "1 islands (0.2% of the area) dropped" in str(result)


def test_spikes_are_cut_and_nothing_else_moves():
    mesh = ball()
    spiked = Mesh(mesh.vertices.copy(), mesh.faces)
    chosen = np.arange(0, len(mesh.vertices), 200)
    spiked.vertices[chosen] *= 1.5
    blunt, count = without_spikes(spiked)
    assert count == len(chosen)
    assert np.linalg.norm(blunt.vertices, axis=1).max() < 1.001
    still = np.setdiff1d(np.arange(len(mesh.vertices)), chosen)
    np.testing.assert_array_equal(blunt.vertices[still], mesh.vertices[still])


def test_thin_parts_stay():
    """A slab on a leg two and a half cells thick, as marching cubes give it."""

    def distance(x):
        leg = torch.stack([(x[:, :2].norm(dim=1) - 0.04), (x[:, 2].abs() - 0.9)]).amax(0)
        return torch.minimum(leg, torch.stack([x[:, :2].abs().amax(1) - 0.5, (x[:, 2] - 0.85).abs() - 0.08]).amax(0))

    mesh = extract(distance, BOX, 64)
    result = cleaned(mesh).mesh
    assert result.volume == pytest.approx(mesh.volume, rel=1e-3)
    assert result.vertices[:, 2].min() == pytest.approx(mesh.vertices[:, 2].min(), abs=0.01)
    small = simplified(result, len(mesh.faces) // 8)
    assert pieces(small) == 1 and small.vertices[:, 2].min() == pytest.approx(-0.9, abs=0.02)


@pytest.mark.parametrize(("size", "closed"), [(0.05, 0), (0.2, 1), (1.0, 2)])
def test_holes_up_to_a_size_are_filled(size, closed):
    """The ball's box has a diagonal of 3.5; the holes have diameters of about 0.3 and 1.2."""
    mesh = opened(ball(), (0, 0, 1, 0.15), (1, 0, 0, 0.6))
    assert open_edges(mesh) > 0
    filled = with_holes_filled(mesh, size)
    solid = trimesh.Trimesh(filled.vertices, filled.faces, process=False)
    assert solid.is_winding_consistent
    assert len(solid.outline().entities) == 2 - closed if closed < 2 else not open_edges(filled)
    np.testing.assert_array_equal(filled.faces[: len(mesh.faces)], mesh.faces)


def test_smoothing_takes_noise_and_keeps_the_volume():
    mesh = ball()
    noisy = Mesh(mesh.vertices + np.random.default_rng(0).normal(0, 0.01, mesh.vertices.shape), mesh.faces)
    smooth = cleaned(noisy, smooth=10).mesh
    before, after = (np.linalg.norm(m.vertices, axis=1).std() for m in (noisy, smooth))
    assert after < 0.4 * before
    assert smooth.volume == pytest.approx(mesh.volume, rel=0.01)
    assert np.array_equal(smoothed(mesh, 1).faces, mesh.faces)


def test_the_budget_holds_and_the_shape_stays():
    torus = extract(TORUS.sdf, BOX, 64)
    small = simplified(torus, 2000)
    assert 1900 < len(small.faces) <= 2000 < len(torus.faces)
    assert not open_edges(small)
    assert TORUS.sdf(torch.from_numpy(small.vertices)).abs().max() < 0.01
    assert small.volume == pytest.approx(torus.volume, rel=0.01)
    outward = TORUS.gradient(torch.from_numpy(small.vertices)).numpy()
    assert (small.normals * outward).sum(1).min() > 0.9
    assert simplified(torus, len(torus.faces)) is torus
    with pytest.raises(UserError, match="at least 4 faces"):
        simplified(torus, 3)


def test_progress_is_told():
    told = []
    cleaned(ball(), smooth=1, progress=lambda *step: told.append(step))
    assert told[0] == ("cleaning", 0, 4) and told[-1] == ("cleaning", 4, 4)
