"""Shapes in UTM coordinates keep their form through every file that we write, and our readers find them there."""

import re

import numpy as np
import pytest
import torch
import trimesh
from neural3d.viewer.open import open_subject
from splats import synthetic_splats
from toy import ball_capture

from neural3d import convert
from neural3d.cli import main
from neural3d.fields.gaussians import Gaussians
from neural3d.files.meshes import write_mesh
from neural3d.files.splats import read_splats, write_splats
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.offset import offset_file
from neural3d.loading import load_data
from neural3d.methods.abilities import Splatted
from neural3d.methods.ngp import Ngp
from neural3d.render.extraction import surface_within
from neural3d.run import configure
from neural3d.shapes.shape import load_shape
from neural3d.train import Trainer

UTM = np.array([448_262.0, 5_411_932.0, 431.0])
RADIUS = 2.0
MOVED = np.array([[1.0, 0, 0, UTM[0]], [0, 1, 0, UTM[1]], [0, 0, 1, UTM[2]], [0, 0, 0, 1]])


def ball(colors=True):
    """Of radius RADIUS about UTM, red to the east, green elsewhere; double."""
    made = trimesh.creation.icosphere(subdivisions=3, radius=RADIUS)
    paint = np.where(made.vertices[:, :1] > 0, [[0.8, 0.2, 0.2]], [[0.2, 0.7, 0.3]])
    return Mesh(np.asarray(made.vertices) + UTM, made.faces.astype(np.int32), paint if colors else None)


def some_splats(count, **how):
    means, quats, scales, opacities, sh_dc, sh_rest = synthetic_splats(count, degree=0, **how)
    return Gaussians(means, scales, quats, opacities, sh_dc, sh_rest)


@pytest.fixture(autouse=True)
def unfitted(monkeypatch):
    """Splats on a mesh stay where they were put."""
    monkeypatch.setattr("neural3d.covering.STEPS", 0)


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb", "usdz"])
def test_meshes(tmp_path, ending):
    path = tmp_path / f"ball.{ending}"
    if ending == "usdz":
        pytest.importorskip("pxr", reason="usd-core, which writes USDZ, is not installed")
        from neural3d.files.usdz import read_usdz
    write_mesh(ball(), path, up="capture")
    if ending == "usdz":
        back = read_usdz(path).vertices
    else:
        shape = load_shape(path)
        inverse = torch.linalg.inv(shape.scene_from_capture).numpy()
        back = shape.vertices.astype(np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        subject = open_subject(path)
        seen = np.concatenate([m.vertices for m in subject.meshes])
        frame = subject.capture_from_scene.numpy()
        assert abs(np.linalg.norm(seen @ frame[:3, :3].T + frame[:3, 3] - UTM, axis=1) - RADIUS).max() < 1e-5
    assert abs(np.linalg.norm(back - UTM, axis=1) - RADIUS).max() < 1e-5
    assert offset_file(path).exists() == (ending == "stl")
    write_mesh(Mesh(ball().vertices - UTM, ball().faces), path, up="capture")
    assert not offset_file(path).exists()


def test_other_programs_read_them_too(tmp_path):
    """trimesh, of which only .stl and the splat formats have to be told the offset."""
    for ending in ("ply", "obj", "glb"):
        write_mesh(ball(), tmp_path / f"ball.{ending}", up="capture")
        read = trimesh.load(tmp_path / f"ball.{ending}", process=False)
        read = read.to_geometry() if isinstance(read, trimesh.Scene) else read
        assert abs(np.linalg.norm(read.vertices - UTM, axis=1) - RADIUS).max() < 1e-5


STEP = {"ply": 1e-5, "splat": 1e-5, "spz": 1e-4, "compressed.ply": 2e-3, "sog": 1e-4, "gs.glb": 1e-5}  # of a ball of 1


@pytest.mark.parametrize("ending", STEP)
def test_splats(tmp_path, ending):
    """Moved there in double, written, read back: the offset and the means say where, to a step of the format."""
    splats = some_splats(500, size=0.05)
    path = tmp_path / f"a.{ending}"
    inside = ending in ("ply", "compressed.ply", "gs.glb")
    notes = write_splats(splats, path, file_from_own=torch.from_numpy(MOVED))
    file = read_splats(path)
    back = np.sort(file.gaussians.means.detach().double().numpy() + file.offset, 0)
    true = np.sort(splats.means.detach().double().numpy() + UTM, 0)
    assert abs(back - true).max() < STEP[ending]
    assert offset_file(path).exists() != inside and bool(notes) != inside
    assert (b"comment offset 448262 5411932 431\n" in path.read_bytes()) == ending.endswith("ply")
    assert (b'"translation":[448262.0,5411932.0,431.0]' in path.read_bytes()) == (ending == "gs.glb")
    subject = open_subject(path)
    there = (
        subject.splats.means.detach().double() @ subject.capture_from_scene[:3, :3].T
        + subject.capture_from_scene[:3, 3]
    )
    assert abs(np.sort(there.numpy(), 0) - true).max() < STEP[ending]
    write_splats(splats, path)
    assert not offset_file(path).exists() and not read_splats(path).offset.any()


def test_splats_of_others_in_double(tmp_path):
    splats = some_splats(50)
    write_splats(splats, tmp_path / "a.ply")
    head, data = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    names = re.findall(rb"property float (\w+)", head)
    table = np.frombuffer(data, "<f4").reshape(50, -1)
    wide = np.empty(50, [(n.decode(), "<f8" if n in b"xyz" else "<f4") for n in names])
    for k, name in enumerate(wide.dtype.names):
        wide[name] = table[:, k] + (UTM["xyz".index(name)] if name in "xyz" else 0)
    head = re.sub(rb"property float ([xyz])\n", rb"property double \1\n", head)
    (tmp_path / "b.ply").write_bytes(head + b"end_header\n" + wide.tobytes())
    file = read_splats(tmp_path / "b.ply")
    assert abs(file.gaussians.means.detach().numpy() + file.offset - UTM - splats.means.detach().numpy()).max() < 1e-6


@pytest.mark.parametrize("ending", ["ply", "splat", "spz"])
def test_converting_measures_what_was_written(tmp_path, capsys, monkeypatch, ending):
    write_mesh(ball(), tmp_path / "ball.ply")
    main(["convert", str(tmp_path / "ball.ply"), str(tmp_path / f"out.{ending}"), "--splats", "5000"])
    chamfer = float(re.search(r"Chamfer ([\d.]+) %", capsys.readouterr().out)[1])
    file = read_splats(tmp_path / f"out.{ending}")
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) if ending == "spz" else np.eye(3)  # y up to z up
    means = file.gaussians.means.detach().double().numpy() + file.offset
    if ending == "spz":
        means = means * [1, -1, -1]  # in the file's own axes
    far = np.linalg.norm(means @ turn.T - UTM, axis=1) - RADIUS
    assert abs(far).max() < 0.02 * RADIUS and chamfer < 1
    if ending == "ply":  # a writer that loses what float32 does is found out
        wrong = convert.write_splats

        def rounded(splats, path, *, file_from_own, **how):
            return wrong(splats.transformed(file_from_own), path, **how)

        monkeypatch.setattr(convert, "write_splats", rounded)
        _, cost, _ = convert.splats_of_mesh(tmp_path / "ball.ply", tmp_path / "bad.ply", 5000)
        assert cost.lost + cost.added > 2 * chamfer + 1


@pytest.mark.parametrize("ending", ["glb", "stl", "usdz"])
def test_splats_become_a_mesh_where_they_are(tmp_path, ending):
    if ending == "usdz":
        pytest.importorskip("pxr", reason="usd-core, which writes USDZ, is not installed")
    write_mesh(ball(), tmp_path / "ball.ply")
    convert.splats_of_mesh(tmp_path / "ball.ply", tmp_path / "ball.splat", 5000)
    out = tmp_path / f"back.{ending}"
    mesh, cost, _ = convert.mesh_of_splats(tmp_path / "ball.splat", out, 32, up="capture")
    assert abs(np.linalg.norm(mesh.vertices - UTM, axis=1) - RADIUS).mean() < 0.03 * RADIUS
    assert cost.lost < 1 and cost.added < 1
    if ending != "usdz":
        assert abs(np.linalg.norm(load_data_vertices(out) - UTM, axis=1) - RADIUS).mean() < 0.03 * RADIUS


def load_data_vertices(path):
    shape = load_data(path)
    inverse = torch.linalg.inv(shape.scene_from_capture).numpy()
    return shape.vertices.astype(np.float64) @ inverse[:3, :3].T + inverse[:3, 3]


def test_exports_of_a_run_whose_capture_is_far_away(tmp_path, monkeypatch):
    """Meshes and splats of a run, cut by a box, in coordinates of the capture."""
    small = ["log2_table=10", "levels=2", "samples_per_batch=1024", "grid_budget=1024"]
    config, scene = configure(ball_capture(tmp_path / "capture", train=6, test=2, size=16), "ngp", small)
    scene.scene_from_capture = scene.scene_from_capture @ torch.linalg.inv(torch.from_numpy(MOVED))
    trainer = Trainer.create(tmp_path / "run", config, scene, torch.device("cpu"))
    trainer.fit(1)

    def surface(self, resolution, crop=None, progress=None):  # of a ball of radius 0.5
        ball = surface_within(self.scene, lambda x: x.norm(dim=-1) - 0.5, resolution, crop, device=torch.device("cpu"))
        return ball, lambda x, normal: self.field.color(x, -normal)

    monkeypatch.setattr(Ngp, "surface", surface)
    whole = trainer.scene.scene_from_capture
    unit = float(torch.linalg.det(whole[:3, :3])) ** (1 / 3)
    middle = torch.linalg.inv(whole)[:3, 3].numpy()
    reach = np.full(3, 9)
    crop = [str(v) for v in np.concatenate([middle - reach * [1, 1, 0.1 / unit / 9], middle + reach])]
    main(["export", str(tmp_path / "run"), str(tmp_path / "a.ply"), "--resolution", "48", "--crop", *crop])
    points = trimesh.load(tmp_path / "a.ply", process=False).vertices - middle
    assert abs(points[:, 2].min() * unit + 0.1) < 0.03 and abs(np.linalg.norm(points, axis=1).max() * unit - 0.5) < 0.04

    class Beaded(Ngp, Splatted):
        def gaussians(self):
            return some_splats(400, spread=0.5), False

    monkeypatch.setattr("neural3d.run.method_class", lambda name: Beaded)
    main(["export", str(tmp_path / "run"), str(tmp_path / "b.splat"), "--crop", *crop])
    file = read_splats(tmp_path / "b.splat")
    heights = (file.gaussians.means.detach().numpy() + file.offset - middle)[:, 2] * unit
    up = (torch.linalg.inv(whole)[:3, 2] / torch.linalg.inv(whole)[:3, 2].norm()).tolist()
    assert up == pytest.approx([0, 0, 1], abs=1e-3) and heights.min() > -0.1 and heights.max() > 0.3
