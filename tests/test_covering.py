"""Meshes covered with splats: where these must end, that they do, and that a plain box looks like itself."""

import math

import numpy as np
import pytest
import torch
import trimesh
from solids import solid_of

from neural3d import convert, covering
from neural3d.covering import REACH, cover, fitted, rows, sides
from neural3d.files.meshes import write_mesh
from neural3d.files.quantised import C0
from neural3d.files.splats import read_splats
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.render.paths import surround
from neural3d.render.splats import render_splats

EXTENTS = np.array([1.0, 0.7, 0.5])
SIX = np.array([[0.8, 0.15, 0.1], [0.1, 0.5, 0.8], [0.9, 0.8, 0.1], [0.2, 0.7, 0.2], [0.6, 0.2, 0.7], [0.3, 0.3, 0.3]])


def box(twelve=None) -> Mesh:
    """Each side in a plain colour, no vertex shared between triangles; or each triangle in a colour of its own."""
    made = trimesh.creation.box(EXTENTS)
    corners = made.vertices[made.faces].reshape(-1, 3)
    axis = np.abs(made.face_normals).argmax(1)
    which = 2 * axis + (made.face_normals[np.arange(12), axis] > 0)
    colors = SIX[which] if twelve is None else twelve(SIX[which])
    faces = np.arange(36, dtype=np.int32).reshape(12, 3)
    return Mesh(corners.astype(np.float32), faces, np.repeat(colors, 3, 0))


def total(found):
    return found.length.sum()


def test_splats_end_at_creases_steps_of_colour_and_borders():
    edges = 4 * EXTENTS.sum()
    assert total(sides(solid_of(box()), math.inf)) == pytest.approx(2 * edges), "twelve edges, two sides each"
    diagonals = sum(2 * math.hypot(*np.delete(EXTENTS, k)) for k in range(3))
    steps = np.linspace(0, 0.9, 12)[:, None] * [1, 0.5, 0]
    halves = solid_of(box(lambda colors: np.where(np.arange(12)[:, None] % 2, steps, 1 - steps)))
    assert total(sides(halves, math.inf)) == pytest.approx(2 * (edges + diagonals))
    ball = trimesh.creation.icosphere(subdivisions=3)
    smooth = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), np.full((len(ball.vertices), 3), 0.5))
    assert len(sides(solid_of(smooth), math.inf).face) == 0
    half = Mesh(smooth.vertices, smooth.faces[ball.triangles_center[:, 2] > 0], smooth.colors)
    border = trimesh.Trimesh(half.vertices, half.faces, process=False)
    open_edges = border.edges_unique_length[np.bincount(border.edges_unique_inverse) == 1].sum()
    assert total(sides(solid_of(half), math.inf)) == pytest.approx(open_edges)


def test_of_too_many_edges_the_hardest_stay():
    """Right angles before a small step of colour."""
    brighter = solid_of(box(lambda colors: colors + 0.12 * (np.arange(12) == 3)[:, None]))
    diagonal = total(sides(brighter, math.inf)) - 8 * EXTENTS.sum()
    assert diagonal > 1
    found = sides(brighter, 8 * EXTENTS.sum() + 0.1)
    assert total(found) == pytest.approx(8 * EXTENTS.sum())


def test_rows_lead_up_to_an_edge():
    """Each REACH of its deviations away, and as far from the next as discs of its size are."""
    found = np.array(rows(1.0, 0.02))
    distance, deviation = found.T
    np.testing.assert_allclose(distance, REACH * deviation)
    assert deviation[0] == pytest.approx(0.02 / 12) and deviation[-1] < 0.02
    np.testing.assert_allclose(np.diff(distance), deviation[:-1] / covering.DISC)
    assert rows(1.0, 1e-4) == [], "discs finer than the finest row need none"


def test_splats_of_a_box_end_at_its_edges():
    """Their deviations within their face, REACH times, stay on it; they lie in it, in its colour."""
    splats = cover(solid_of(box()), 8000)
    assert abs(len(splats) - 8000) < 400
    means = splats.means.detach().double().numpy()
    beyond = np.abs(means) / (EXTENTS / 2)
    axis = beyond.argmax(1)
    np.testing.assert_allclose(beyond.max(1), 1, atol=1e-5)
    expected = SIX[2 * axis + (means[np.arange(len(means)), axis] > 0)]
    np.testing.assert_allclose(0.5 + C0 * splats.sh_dc.detach().numpy(), expected, atol=0.003)
    frame = rotation_from_quaternion(splats.quats.detach().double()).numpy()
    deviation = splats.log_scales.detach().double().exp().numpy()
    world = np.sqrt(((frame * deviation[:, None]) ** 2).sum(2))  # along x, y, z
    margin = EXTENTS / 2 - np.abs(means) - REACH * world
    margin[np.arange(len(means)), axis] = np.inf
    out = (margin < -1e-6).any(1)
    assert out.mean() < 0.1, "but at corners, where rows are as long as discs"
    margin.sort(axis=1)
    assert (margin[~out, 0] < 0.003).mean() > 0.15, "and there are rows that reach the edges"


def test_smooth_surfaces_have_discs_alone():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=2.0)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), np.full((len(ball.vertices), 3), 0.5))
    splats = cover(solid_of(mesh), 5000)
    assert len(splats) == 5000
    deviation = splats.log_scales.exp()
    spacing = math.sqrt(mesh.area / (math.sqrt(3) / 2 * 5000))
    torch.testing.assert_close(deviation[:, 0], torch.full((5000,), 0.65 * spacing), rtol=1e-3, atol=0)
    normal = rotation_from_quaternion(splats.quats)[..., 2]
    assert ((normal * torch.nn.functional.normalize(splats.means, dim=1)).sum(1).abs() > 0.99).all()


def test_fitting_brings_pictures_nearer(monkeypatch):
    """From other views than it is fitted to; and the same on every run."""
    monkeypatch.setattr(covering, "STEPS", 12)
    solid, bounds = solid_of(box()), torch.from_numpy(np.stack([-EXTENTS / 2, EXTENTS / 2])).float()
    target, cameras = convert._drawn(solid), surround(bounds, (5, 35), 2, 96)

    def psnr(splats):
        def drawn(camera, ground):
            return convert._averaged(render_splats(splats, camera.resized(192, 192), ground), 2)

        return convert.cost(target, drawn, cameras, bounds).psnr

    once, again = (fitted(cover(solid, 2000), target, bounds, 96, False) for _ in range(2))
    assert psnr(once) > psnr(cover(solid, 2000)) + 1
    assert all(torch.equal(p, q) for p, q in zip(once.parameters(), again.parameters()))


def test_a_plain_box_looks_like_itself(tmp_path):
    """Above 35 dB, silhouettes included, told of the file as read back."""
    write_mesh(box(), tmp_path / "box.glb", up="capture")
    splats, cost, notes = convert.splats_of_mesh(tmp_path / "box.glb", tmp_path / "box.ply", 20_000)
    assert cost.psnr > 35 and cost.lost < 0.3 and cost.added < 0.3 and not notes
    assert abs(len(splats) - 20_000) < 1000
    assert read_splats(tmp_path / "box.ply").antialiased
