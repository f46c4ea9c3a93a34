"""`neural3d export --texture` from a small run on photos, and what it says where it cannot."""

import importlib.util
import shutil

import numpy as np
import pytest
import torch
import trimesh
from toy import ball_capture

from neural3d.cli import main
from neural3d.cli.export import Export
from neural3d.errors import UserError
from neural3d.methods.sdf import Sdf
from neural3d.progress import silent
from neural3d.run import Run, configure
from neural3d.train import Trainer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
SMALL = ["horizon=60", "log2_table=13", "levels=6", "samples_per_batch=8192", "grid_budget=8192", "steps_per_unit=32"]
HOW = ["--texture", "128", "--faces", "600", "--resolution", "40"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose photos may be lost: (run folder, folder of the photos)."""
    folder = tmp_path_factory.mktemp("texture")
    capture = ball_capture(folder / "ball", train=8)
    Trainer.create(folder / "run", *configure(capture, "ngp", SMALL), torch.device("cpu")).fit(60)
    return folder / "run", capture


def read(path):
    return trimesh.load(path, force="mesh", process=False)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_run_becomes_a_textured_mesh(run, tmp_path, capsys):
    main(["export", str(run[0]), str(tmp_path / "ball.glb"), *HOW])
    mesh, text = read(tmp_path / "ball.glb"), said(capsys)
    assert len(mesh.faces) <= 600 and "8 photos show" in text and "texture 128 × 128" in text
    image = np.asarray(mesh.visual.material.baseColorTexture)
    assert image.shape == (128, 128, 3) and mesh.visual.uv.min() >= 0 and mesh.visual.uv.max() <= 1
    main(["export", str(run[0]), str(tmp_path / "ball.obj"), *HOW, "--bake", "field", "--up", "y"])
    field, text = read(tmp_path / "ball.obj"), said(capsys)
    assert "baked from the learnt colours" in text
    assert {path.name for path in tmp_path.iterdir()} == {"ball.glb", "ball.obj", "ball.mtl", "ball.png"}
    other = np.asarray(field.visual.material.image, float)
    assert 2 < np.abs(other - image).mean() < 60  # alike, not equal


def test_without_its_photos_the_field_is_baked(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    text = (folder / "scene.json").read_text()
    (folder / "scene.json").write_text(text.replace(f"{run[1]}/train", str(tmp_path / "gone")))
    main(["export", str(folder), str(tmp_path / "ball.glb"), *HOW])
    text = said(capsys)
    assert "8 of 8 photos are" in text and "the texture shows the field" in text
    assert read(tmp_path / "ball.glb").visual.material.baseColorTexture.size == (128, 128)
    with pytest.raises(SystemExit):
        main(["export", str(folder), str(tmp_path / "ball.glb"), *HOW, "--bake", "photos"])


def test_faces_alone_simplify(run, tmp_path):
    main(["export", str(run[0]), str(tmp_path / "ball.ply"), "--faces", "500", "--resolution", "40"])
    mesh = read(tmp_path / "ball.ply")
    assert 300 < len(mesh.faces) <= 500 and mesh.visual.kind == "vertex"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ball.stl", "--texture", "128"], ".stl files hold no texture; choose one of .glb, .obj, .usdz"),
        (["ball.glb", "--texture", "16"], "--texture must be from 64 to 8192 texels, not 16"),
        (["ball.glb", "--bake", "field"], "--bake field makes a texture; say how large"),
        (["ball.glb", "--faces", "2", "--resolution", "40"], "at least 4 faces"),
    ],
)
def test_bad_input_is_said(run, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(run[0]), *arguments])
    both = capsys.readouterr()
    assert stopped.value.code == 2 and words in " ".join((both.out + both.err).split())
    assert not list(tmp_path.iterdir())


def test_a_shape_has_nothing_to_bake(tmp_path):
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.ply")
    config, shape = configure(tmp_path / "ball.ply", "sdf")
    run = Run(tmp_path, config, shape, Sdf(config.method_config(), shape), 0)
    with pytest.raises(UserError, match="sdf has learnt a shape without colours, so there is nothing to bake"):
        Export(tmp_path, tmp_path / "ball.glb", texture=256).mesh(run, None, silent)
