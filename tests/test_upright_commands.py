"""Whatever a command writes stands as `scene.upright` says: a table, of a leg and a top, in captures of any frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from captures import cloud, ring, write_colmap
from geometry.test_upright import turned
from solids import solid_of
from toy import ball_capture

from neural3d import convert
from neural3d.cli import main
from neural3d.cli.demo import Demo
from neural3d.cli.export import Export
from neural3d.covering import cover
from neural3d.fields.gaussians import Gaussians
from neural3d.files.meshes import write_mesh
from neural3d.files.splats import read_splats, write_splats
from neural3d.geometry.mesh import Mesh
from neural3d.methods.abilities import Meshable
from neural3d.run import Run, configure, load
from neural3d.train import Trainer

SMALL = ["log2_table=12", "levels=4", "samples_per_batch=2048", "grid_budget=1024"]


def table() -> Mesh:
    """Upright in the scene frame, +z: a red top on a green leg that stands off its middle."""
    parts = []
    for size, place, color in (
        ((0.8, 0.6, 0.1), (0, 0, 0.3), (0.9, 0.2, 0.2)),
        ((0.2, 0.2, 0.7), (0.2, 0.1, -0.1), (0.2, 0.8, 0.2)),
    ):
        box = trimesh.creation.box(size).subdivide().subdivide()
        parts.append((box.vertices + place, box.faces, np.tile(color, (len(box.vertices), 1))))
    offset = len(parts[0][0])
    mesh = Mesh(
        np.concatenate([part[0] for part in parts]).astype(np.float32),
        np.concatenate([parts[0][1], parts[1][1] + offset]).astype(np.int32),
        np.concatenate([part[2] for part in parts]),
    )
    return replace(mesh, normals=mesh.vertex_normals())


@pytest.fixture(scope="module", params=["upright", "turned"])
def run(request, tmp_path_factory) -> tuple[Path, Run]:
    """A run on a capture whose own up is +z, or by chance."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "upright":
        capture = ball_capture(folder / "capture")
    else:
        turn = turned(5)
        cameras = [camera.moved(turn) for camera in ring(centre=(0.0, 0.0, 0.0))]
        points = cloud((0, 0, 0)) @ turn[:3, :3].numpy().T
        capture = write_colmap(folder / "capture", cameras, points, binary=True)
    Trainer.create(folder / "run", *configure(capture, "ngp", SMALL), torch.device("cpu")).fit(1)
    return folder / "run", load(folder / "run", "cpu")


@pytest.fixture(autouse=True)
def every_field_is_a_table(monkeypatch):
    monkeypatch.setattr(Meshable, "mesh", lambda self, *_: table())
    monkeypatch.setattr(Export, "mesh", lambda self, *_: table())


def heights(vertices: np.ndarray, colors: np.ndarray, axis) -> float:
    """How far the red vertices are above the green ones, in shares of the whole extent along the axis."""
    along = vertices @ np.asarray(axis, float)
    red = colors[:, 0] > colors[:, 1]
    return float((along[red].mean() - along[~red].mean()) / np.ptp(along))


def read(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", process=False)


def test_export_stands_each_format_as_it_should(run, tmp_path, capsys):
    folder, opened = run
    in_capture = table().transformed(opened.capture_from_scene)
    up = np.array(opened.up_in_capture)
    for name in ("a.glb", "a.obj"):
        main(["export", str(folder), str(tmp_path / name)])
        mesh = read(tmp_path / name)
        np.testing.assert_allclose(mesh.vertices @ [0, 1, 0], in_capture.vertices @ up, atol=1e-5)
        assert heights(mesh.vertices, table().colors, (0, 1, 0)) > 0.3
        assert mesh.volume == pytest.approx(in_capture.volume, rel=1e-4)  # turned, not mirrored
        printed = " ".join(capsys.readouterr().out.split())
        assert "+Y is up" in printed and "in the capture's own units" in printed
        assert f"size: {np.ptp(mesh.vertices[:, 0]):.3g} ×" in printed
    for name in ("a.ply", "a.stl"):
        main(["export", str(folder), str(tmp_path / name)])
        assert "in the capture's own frame" in " ".join(capsys.readouterr().out.split())
    np.testing.assert_array_equal(read(tmp_path / "a.ply").vertices, in_capture.vertices)
    corners = np.asarray(read(tmp_path / "a.stl").triangles)
    np.testing.assert_array_equal(corners, in_capture.vertices[in_capture.faces])


def test_export_does_as_it_is_told(run, tmp_path):
    folder, opened = run
    in_capture = table().transformed(opened.capture_from_scene)
    main(["export", str(folder), str(tmp_path / "own.glb"), "--up", "capture"])
    np.testing.assert_array_equal(read(tmp_path / "own.glb").vertices, in_capture.vertices)
    main(["export", str(folder), str(tmp_path / "z.glb"), "--up", "z"])
    assert heights(read(tmp_path / "z.glb").vertices, table().colors, (0, 0, 1)) > 0.3
    main(["export", str(folder), str(tmp_path / "y.ply"), "--up", "y"])
    assert heights(read(tmp_path / "y.ply").vertices, table().colors, (0, 1, 0)) > 0.3


def test_the_demos_mesh_stands(tmp_path, monkeypatch):
    monkeypatch.setattr("neural3d.synthetic.analytic.make_demo_scene", lambda out, **_: small_scene(out))
    monkeypatch.setattr("neural3d.cli.demo.fit", lambda trainer, *_: trainer.fit(1))
    monkeypatch.setattr("neural3d.evaluate.views.evaluate", lambda *_, **__: {})
    monkeypatch.setattr("neural3d.cli.demo.print_scores", lambda scores: None)
    Demo(tmp_path / "demo", device="cpu").run()
    assert heights(read(tmp_path / "demo" / "mesh.glb").vertices, table().colors, (0, 1, 0)) > 0.3


def small_scene(folder: Path) -> Path:
    ball_capture(folder)
    (folder / "scene.toml").write_text('path = "."\n')
    return folder


# --- convert ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def splats() -> Gaussians:
    """The table as splats, +z up."""
    return cover(solid_of(table()), 6000)


@pytest.fixture
def costless(monkeypatch):
    """What it cost is told elsewhere, and takes most of the time."""
    monkeypatch.setattr("neural3d.convert.cost", lambda *_: convert.Cost(0, 0, 0))
    monkeypatch.setattr("neural3d.covering.STEPS", 0)


def converted(source: Path, out: Path, *options: str) -> None:
    main(["convert", str(source), str(out), "--resolution", "32", *options])


@pytest.mark.usefixtures("costless")
def test_splats_become_an_upright_mesh(splats, tmp_path, capsys):
    """The frame by chance: our own .ply says what is up there."""
    turn = turned(1)
    write_splats(splats.transformed(turn), tmp_path / "a.ply", up=turn[:3, 2].tolist())
    converted(tmp_path / "a.ply", tmp_path / "a.glb")
    mesh = read(tmp_path / "a.glb")
    assert heights(mesh.vertices, mesh.visual.vertex_colors, (0, 1, 0)) > 0.2
    printed = " ".join(capsys.readouterr().out.split())
    assert "does not say" not in printed and "size:" in printed
    converted(tmp_path / "a.ply", tmp_path / "own.glb", "--up", "capture")
    mesh = read(tmp_path / "own.glb")
    assert heights(mesh.vertices, mesh.visual.vertex_colors, turn[:3, 2].numpy()) > 0.2


@pytest.mark.usefixtures("costless")
def test_splats_of_others_have_y_down_and_may_be_told(splats, tmp_path, capsys):
    """As .splat, which says nothing."""
    down = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # +z to −y
    write_splats(splats.transformed(down), tmp_path / "a.splat")
    converted(tmp_path / "a.splat", tmp_path / "a.glb")
    mesh = read(tmp_path / "a.glb")
    assert heights(mesh.vertices, mesh.visual.vertex_colors, (0, 1, 0)) > 0.2
    assert "a.splat does not say what is up; −y is taken" in " ".join(capsys.readouterr().out.split())
    write_splats(splats, tmp_path / "b.splat")
    converted(tmp_path / "b.splat", tmp_path / "b.glb", "--source-up", "z")
    mesh = read(tmp_path / "b.glb")
    assert heights(mesh.vertices, mesh.visual.vertex_colors, (0, 1, 0)) > 0.2
    assert "does not say" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        converted(tmp_path / "b.glb", tmp_path / "c.ply", "--source-up", "z")
    assert "--source-up is for files of splats" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("costless")
def test_there_and_back_keeps_standing(splats, tmp_path):
    """Mesh to .spz, whose +y is up as the .glb's is, to .ply, which says what is up, and to a mesh again."""
    main(["convert", str(upright_glb(tmp_path)), str(tmp_path / "b.spz"), "--splats", "6000"])
    found = read_splats(tmp_path / "b.spz")
    assert found.up == (0, -1, 0)  # in the axes of .ply
    assert splat_heights(found.gaussians, found.up) > 0.3
    converted(tmp_path / "b.spz", tmp_path / "c.ply")
    found = read_splats(tmp_path / "c.ply")
    assert splat_heights(found.gaussians, found.up) > 0.3
    converted(tmp_path / "c.ply", tmp_path / "d.spz")
    torch.testing.assert_close(
        read_splats(tmp_path / "d.spz").gaussians.means, found.gaussians.means, atol=1e-3, rtol=0
    )
    converted(tmp_path / "d.spz", tmp_path / "e.glb")
    mesh = read(tmp_path / "e.glb")
    assert heights(mesh.vertices, mesh.visual.vertex_colors, (0, 1, 0)) > 0.2


def upright_glb(folder: Path) -> Path:
    write_mesh(table(), folder / "a.glb")
    return folder / "a.glb"


def splat_heights(gaussians: Gaussians, up) -> float:
    return heights(gaussians.means.detach().numpy(), gaussians.sh_dc.detach().numpy(), up)
