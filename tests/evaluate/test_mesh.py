"""A run's surface against a true one, as the command line does it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from toy import ball_capture

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.evaluate.mesh import compare_files, evaluate_mesh
from neural3d.geometry.mesh import Mesh
from neural3d.methods.abilities import Meshable
from neural3d.render import mesh_error
from neural3d.run import Run, configure

RADIUS = 0.8  # of the toy's ball, around the capture's origin


def ball(radius: float = RADIUS, centre=(0, 0, 0)) -> trimesh.Trimesh:
    made = trimesh.creation.icosphere(4, radius)
    made.apply_translation(centre)
    return made


class Surface(Meshable):
    """A method that has made the ball, in the scene frame."""

    def __init__(self, scene, made: trimesh.Trimesh):
        mesh = Mesh(np.asarray(made.vertices), np.asarray(made.faces))
        self.found = mesh.transformed(scene.scene_from_capture)
        self.asked: list[int] = []

    def surface(self, resolution, crop=None, progress=None):
        self.asked.append(resolution)
        return self.found, None


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    drawn = partial(mesh_error.error_picture, width=80)
    monkeypatch.setattr(mesh_error, "error_picture", drawn)


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("ball"))


@pytest.fixture
def run(capture, tmp_path) -> Run:
    config, scene = configure(capture, "ngp")
    turn = torch.tensor([[0.0, -1.5, 0, 0.1], [1.5, 0, 0, 0.2], [0, 0, 1.5, -0.1], [0, 0, 0, 1]]).double()
    views = [replace(view, camera=view.camera.moved(turn)) for view in scene.views]
    scene = replace(scene, scene_from_capture=turn @ scene.scene_from_capture, views=views)
    return Run(tmp_path, config, scene, Surface(scene, ball()), 7)


def test_the_run_is_compared_in_the_captures_frame(run, tmp_path):
    ball().export(tmp_path / "truth.obj")
    report = evaluate_mesh(run, tmp_path / "truth.obj", samples=20_000, resolution=99)
    assert json.loads((tmp_path / "eval_mesh.json").read_text()) == report
    results, protocol = report["results"], report["protocol"]
    assert results["chamfer"] < 1e-3 and results["hausdorff"] < 1e-2 and results["iou"] > 0.999
    assert results["diagonal"] == pytest.approx(2 * np.sqrt(3) * RADIUS, rel=1e-3)
    assert run.method.asked == [99] and protocol["resolution"] == 99
    assert protocol["samples"] == 20_000 and protocol["seed"] == 0 and report["checkpoint"] == {"step": 7}
    assert report["notes"] == []
    with Image.open(tmp_path / "eval" / "mesh_error.png") as picture:
        assert picture.mode == "RGB" and picture.size[0] == 2 * 80 + 48


def test_a_run_on_a_shape(tmp_path):
    """All of the truth counts; the fitted file, which has y up, and the truth, which has z up, are in one frame."""
    made = ball(3.0, (7, 8, 9))
    made.export(tmp_path / "fitted.obj")
    made.export(tmp_path / "truth.ply")
    config, shape = configure(tmp_path / "fitted.obj", "sdf")
    run = Run(tmp_path, config, shape, Surface(shape, made), 7)
    report = evaluate_mesh(run, tmp_path / "truth.ply", samples=5000)
    assert report["results"]["chamfer"] < 1e-3 and report["results"]["seen"] == 1
    assert report["results"]["diagonal"] == pytest.approx(2 * np.sqrt(3) * 3, rel=1e-3)
    assert report["protocol"]["completeness"] == "all of the truth"
    run.method.found = Mesh(np.zeros((0, 3)), np.zeros((0, 3), int))
    with pytest.raises(UserError, match="result has no faces"):
        evaluate_mesh(run, tmp_path / "truth.ply")


def test_what_two_views_see_counts(run, tmp_path):
    """The toy's cameras look from above: what is missing at the bottom of the ball is not held against the result."""
    ball().export(tmp_path / "truth.obj")
    made = ball()
    above = made.submesh([made.triangles_center[:, 2] > -0.9 * RADIUS], append=True)
    run.method = Surface(run.scene, above)
    results = evaluate_mesh(run, tmp_path / "truth.obj", samples=20_000, picture=False)["results"]
    assert 0.6 < results["seen"] < 0.95
    assert results["completeness"] < 0.01
    below = made.submesh([made.triangles_center[:, 2] < 0], append=True)
    run.method = Surface(run.scene, below)
    assert evaluate_mesh(run, tmp_path / "truth.obj", samples=20_000, picture=False)["results"]["completeness"] > 5
    assert not (tmp_path / "eval").exists()


def test_the_command(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("neural3d.run.load", lambda *_: run)
    monkeypatch.setattr("neural3d.run.read_config", lambda *_: run.config)
    ball(1.01 * RADIUS).export(tmp_path / "truth.ply")
    main(["eval", str(tmp_path), "--mesh", str(tmp_path / "truth.ply"), "--resolution", "32"])
    said = capsys.readouterr().out
    assert run.method.asked == [32]
    assert "Chamfer distance" in said and "0.28" in said and "F-score at 0.5 %" in said and "volumetric IoU" in said
    assert "diagonal" in said and "seed 0" in said and "resolution 32" in said and "training views" in said

    def refused(truth) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["eval", str(tmp_path), "--mesh", str(truth)])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    assert "nothing.obj is no file" in refused(tmp_path / "nothing.obj")
    ball(RADIUS, (50, 0, 0)).export(tmp_path / "away.obj")
    assert "(-0.8, -0.8, -0.8) to (0.8, 0.8, 0.8), the truth's (49.2, -0.8, -0.8) to (50.8, " in (
        said := refused(tmp_path / "away.obj")
    )
    assert "do not overlap" in said
    trimesh.PointCloud(ball().vertices).export(tmp_path / "cloud.ply")
    assert "has no faces" in refused(tmp_path / "cloud.ply")
    (tmp_path / "broken.glb").write_bytes(b"glTF is not this")
    assert "cannot be read" in refused(tmp_path / "broken.glb")
    (tmp_path / "empty.obj").write_text("# nothing\n")
    assert "empty.obj" in refused(tmp_path / "empty.obj")


def test_other_units_are_doubted(run, tmp_path):
    ball(1000 * RADIUS).export(tmp_path / "millimetres.obj")
    report = evaluate_mesh(run, tmp_path / "millimetres.obj", samples=1000, picture=False)
    assert "0.001 times as large as the truth" in report["notes"][0]


def test_two_files(tmp_path):
    """In one frame, far from the origin; accuracy and completeness follow the order of the arguments."""
    centre = np.array([1e4, -2e4, 5e3])
    half = ball(RADIUS, centre)
    half = half.submesh([half.triangles_center[:, 0] > centre[0]], append=True)
    half.export(tmp_path / "half.ply")
    ball(RADIUS, centre).export(tmp_path / "whole.ply")
    report = compare_files(tmp_path / "half.ply", tmp_path / "whole.ply", picture=tmp_path / "p.png", samples=5000)
    assert report["results"]["accuracy"] < 0.1 and report["results"]["completeness"] > 5
    assert (tmp_path / "p.png").exists()
    with pytest.raises(UserError, match="half"):
        compare_files(tmp_path / "no-half.ply", tmp_path / "whole.ply")
