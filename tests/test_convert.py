"""One representation from another: what comes out, and that the cost is told truly."""

import math

import numpy as np
import pytest
import torch
import trimesh
from neural3d.viewer.open import open_subject
from solids import solid_of
from splats import synthetic_splats

from neural3d import convert
from neural3d.cli import main
from neural3d.fields.gaussians import Gaussians
from neural3d.files.meshes import write_mesh
from neural3d.files.quantised import C0
from neural3d.files.splats import read_splats, write_splats
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import sample_places
from neural3d.render.paths import surround

CENTRE, RADIUS = np.array([4.0, -2.0, 1.0]), 3.0


def globe() -> Mesh:
    """A ball, one half dark red, the other light green, away from the origin."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=RADIUS)
    colors = np.where(ball.vertices[:, :1] > 0, [[0.4, 0.1, 0.1]], [[0.5, 0.9, 0.6]])
    return Mesh((ball.vertices + CENTRE).astype(np.float32), ball.faces.astype(np.int32), colors)


@pytest.fixture(autouse=True)
def hardly_fitted(monkeypatch):
    """`test_covering` fits splats in earnest."""
    monkeypatch.setattr("neural3d.covering.STEPS", 2)


def test_places_on_a_surface_are_even():
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2], [0, 2, 3]]))
    points, face, share = sample_places(square, 4096)
    np.testing.assert_allclose(np.einsum("nk,nkc->nc", share, square.vertices[square.faces[face]]), points)
    count = np.histogram2d(points[:, 0], points[:, 1], bins=16, range=[[0, 1], [0, 1]])[0]
    assert share.min() >= 0 and count.min() > 10 and count.max() < 23, "16 in each; by chance 5 to 30"


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_a_mesh_becomes_splats_on_its_surface_in_its_colours(tmp_path, capsys, ending):
    source, out = tmp_path / f"globe.{ending}", tmp_path / "globe.ply"
    write_mesh(globe(), source, up="capture")
    main(["convert", str(source), str(out), "--splats", "20000"])
    splats = read_splats(out).gaussians
    means = splats.means.detach().double().numpy() - CENTRE
    assert len(splats) == 20000
    assert abs(np.linalg.norm(means, axis=1) - RADIUS).max() < 0.05
    colors = 0.5 + C0 * splats.sh_dc.detach().numpy()
    clear = abs(means[:, 0]) > 0.9
    expected = np.where(means[:, :1] > 0, [[0.4, 0.1, 0.1]], [[0.5, 0.9, 0.6]])
    np.testing.assert_allclose(colors[clear], expected[clear], atol=0.04)  # 8 bits, in glTF of linear light
    flat = splats.log_scales.exp().sort(1).values
    assert (flat[:, 0] < 0.1 * flat[:, 1]).all() and (flat[:, 1] > 0.8 * flat[:, 2]).all()
    printed = " ".join(capsys.readouterr().out.split())
    assert "20,000 splats" in printed and "PSNR" in printed and "source to result" in printed


def test_splats_become_the_mesh_they_were_made_of(tmp_path):
    """There and back: a ball of the right size, place and colours, open at most where no picture looks from."""
    source = tmp_path / "globe.glb"
    write_mesh(globe(), source, up="capture")
    convert.splats_of_mesh(source, tmp_path / "globe.spz", 20_000)
    _, cost, _ = convert.mesh_of_splats(tmp_path / "globe.spz", tmp_path / "back.glb", 48)
    back = open_subject(tmp_path / "back.glb").meshes
    file = trimesh.load(tmp_path / "back.glb", process=False).to_geometry()
    radius = np.linalg.norm(file.vertices - CENTRE, axis=1)
    assert back is not None and abs(radius - RADIUS).mean() < 0.02 * RADIUS
    assert file.area == pytest.approx(4 * math.pi * RADIUS**2, rel=0.15)
    assert cost.psnr > 18 and cost.lost < 0.6 and cost.added < 0.6


def test_splat_formats_change_into_each_other_and_say_what_is_lost(tmp_path, capsys):
    means, quats, scales, opacities, sh_dc, sh_rest = synthetic_splats(800, size=0.05)
    write_splats(Gaussians(means, scales, quats, opacities, sh_dc, sh_rest), tmp_path / "a.ply")
    splats, exact, notes = convert.splats_to_splats(tmp_path / "a.ply", tmp_path / "b.ply")
    assert exact.psnr > 60 and exact.lost < 0.01 and not notes
    torch.testing.assert_close(read_splats(tmp_path / "b.ply").gaussians.means, splats.means)
    _, flat, notes = convert.splats_to_splats(tmp_path / "a.ply", tmp_path / "b.splat")
    assert flat.psnr < exact.psnr - 10 and any("view dependence" in note for note in notes)
    main(["convert", str(tmp_path / "b.splat"), str(tmp_path / "c.spz")])
    assert "800 splats" in capsys.readouterr().out


def test_the_cost_of_nothing_is_nothing_and_of_a_shift_is_the_shift():
    """Half the ball's diameter of its box apart: no pixel is right any more, distances are some of the shift."""
    solid = convert._drawn(solid_of(globe()))
    box = torch.from_numpy(np.stack([CENTRE - RADIUS, CENTRE + RADIUS])).float()
    cameras = surround(box, (5, 35), 2, side=100)
    same = convert.cost(solid, solid, cameras, box)
    assert same.psnr > 90 and same.lost == same.added == 0
    moved = Mesh(globe().vertices + np.float32([0.3, 0, 0]), globe().faces, globe().colors)
    cost = convert.cost(solid, convert._drawn(solid_of(moved)), cameras, box)
    diagonal = 2 * math.sqrt(3) * RADIUS
    assert cost.psnr < 25
    assert 0.15 < cost.lost * diagonal / 100 / 0.3 < 0.8  # the mean of |cos|, less what both see


def test_a_mesh_becomes_signed_distances(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("neural3d.shapes.samples.POOL", 1 << 12)
    monkeypatch.setattr("neural3d.shapes.samples.CELLS", 12)
    write_mesh(globe(), tmp_path / "globe.ply")
    options = ["--minutes", "0.02", "--resolution", "32"]
    main(["convert", str(tmp_path / "globe.ply"), str(tmp_path / "run"), *options])
    printed = capsys.readouterr().out
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file() and "cost: Chamfer" in printed
    with pytest.raises(SystemExit):  # what is there stays
        main(["convert", str(tmp_path / "globe.ply"), str(tmp_path / "run"), *options])


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("globe.glb", "other.glb", "cannot become"),
        ("globe.glb", "film.mp4", "cannot become"),
        ("none.ply", "a.glb", "no such file"),
        (".", "a.glb", "cannot become"),
    ],
)
def test_other_pairs_are_one_sentence(tmp_path, capsys, source, out, message):
    write_mesh(globe(), tmp_path / "globe.glb")
    with pytest.raises(SystemExit) as stop:
        main(["convert", str(tmp_path / source), str(tmp_path / out)])
    said = capsys.readouterr().err.replace("\n", " ")
    assert stop.value.code == 2 and message in said and not (tmp_path / out).exists()
    if message == "cannot become":
        assert "a mesh becomes splats" in said
