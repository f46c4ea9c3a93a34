"""`neural3d export --fill` and `--upscale`: from runs to files, and what is said of a wrong prior."""

import importlib.util

import numpy as np
import pytest
import torch
import trimesh
from toy import ball_capture

from neural3d.cli import main
from neural3d.run import configure
from neural3d.train import Trainer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
SMALL = ["horizon=60", "log2_table=13", "levels=6", "samples_per_batch=8192", "grid_budget=8192", "steps_per_unit=32"]
HOW = ["--texture", "128", "--faces", "600", "--resolution", "40"]
PRIORS = {
    "tiles": ("pixelcnn", ["patch=8", "values=levels", "width=6", "layers=1", "horizon=20", "batch=4"]),
    "large": ("srflow", ["patch=8", "width=6", "steps=1", "features=3", "scales=2", "horizon=20", "batch=8"]),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of a ball seen from one side, so that much of it is seen by no photo; priors of its photos."""
    folder = tmp_path_factory.mktemp("runs")
    capture = ball_capture(folder / "ball", train=3)
    device = torch.device("cpu")
    Trainer.create(folder / "run", *configure(capture, "ngp", SMALL), device).fit(60)
    for name, (method, settings) in PRIORS.items():
        Trainer.create(folder / name, *configure(capture / "train", method, settings), device).fit(20, previews=False)
    return folder


def texture(path):
    mesh = trimesh.load(path, force="mesh", process=False)
    return np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), int)


def test_what_no_photo_shows_is_drawn(runs, tmp_path, capsys):
    main(["export", str(runs / "run"), str(tmp_path / "smooth.glb"), *HOW])
    main(["export", str(runs / "run"), str(tmp_path / "drawn.glb"), *HOW, "--fill", str(runs / "tiles")])
    text = " ".join(capsys.readouterr().out.split())
    assert "the rest by" in text
    differs = np.abs(texture(tmp_path / "smooth.glb") - texture(tmp_path / "drawn.glb")).max(2) > 8
    assert 0.02 < differs.mean() < 0.9


def test_textures_are_doubled(runs, tmp_path, capsys):
    arguments = ["export", str(runs / "run"), str(tmp_path / "ball.glb"), *HOW, "--upscale", str(runs / "large")]
    main([*arguments, "--temperature", "1", "--samples", "2"])
    assert "texture 64 × 64" in " ".join(capsys.readouterr().out.split())
    assert {path.name for path in tmp_path.iterdir()} == {"ball_0.glb", "ball_1.glb"}
    a, b = (texture(tmp_path / f"ball_{i}.glb") for i in range(2))
    assert a.shape == (128, 128, 3) and np.abs(a - b).mean() > 1
    main([*arguments, "--temperature", "0"])
    cold = texture(tmp_path / "ball.glb")
    assert np.abs(cold - (a + b) / 2).mean() < np.abs(a - b).mean()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fill", "large"], "srflow has not learnt the 256 levels of pixels in turn, but --fill needs"),
        (["--fill", "run"], "has not learnt pictures, but --fill needs a prior of colour patches: neural3d train"),
        (["--upscale", "tiles"], "has learnt by pixelcnn, but --upscale needs a prior of large colour pictures"),
        (["--upscale", "run"], "but --upscale needs a prior of large colour pictures"),
        (["--upscale", "large", "--texture", "130"], "--texture must be a multiple of 4"),
        (["--fill", "tiles", "--bake", "field"], "but the texture is not made of photos"),
        (["--samples", "2"], "--samples 2 asks for answers of a prior; say which with --upscale RUN"),
        (["--upscale", "large", "--samples", "2"], "are all the same at temperature 0; try --temperature 0.5"),
        (["--upscale", "large", "--temperature", "-1"], "--temperature must be at least 0"),
    ],
)
def test_bad_input_is_said(runs, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(runs)
    with pytest.raises(SystemExit) as stopped:
        main(["export", "run", str(tmp_path / "ball.glb"), *HOW, *arguments])
    both = capsys.readouterr()
    assert stopped.value.code == 2 and words in " ".join((both.out + both.err).split())
    assert not list(tmp_path.iterdir())


def test_without_a_texture_there_is_nothing_to_fill(runs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(runs / "run"), str(tmp_path / "ball.glb"), "--fill", str(runs / "tiles")])
    both = capsys.readouterr()
    assert "makes a texture; say how large with --texture 2048" in " ".join((both.out + both.err).split())
