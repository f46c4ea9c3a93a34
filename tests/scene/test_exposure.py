"""Exposure changes all points from one photo to the next; shading does not, though around the subject it does."""

import numpy as np
import pytest
import torch
from captures import HEIGHT, WIDTH, cloud, names, ring, write_binary_model, write_colmap
from PIL import Image

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.run import configure
from neural3d.scene.doctor import warnings
from neural3d.scene.exposure import exposure_spread
from neural3d.scene.observed import observed_points

GREY = 110


def capture(root, stops):
    """24 cameras around points of different greys, all seen by all; stops: (24, points) of light more than these."""
    cameras, points = ring("PINHOLE", count=24), cloud(radius=0.6, count=60)
    stops = np.broadcast_to(stops, (24, 60)).astype(float)
    write_colmap(root, cameras, points, binary=True)
    light = (GREY / 255) ** 2.2 * 2 ** np.random.default_rng(1).uniform(-1, 1, 60)
    seen = []
    for camera, name, more in zip(cameras, names(cameras), stops):
        xy = camera.project(torch.from_numpy(points))[0].numpy()
        pixels = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
        x, y = xy.astype(int).T
        pixels[y, x] = (255 * (light * 2**more) ** (1 / 2.2)).round()[:, None].astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / name)
        seen.append([(*at, j) for j, at in enumerate(xy.tolist())])
    poses = [np.linalg.inv(c.world_from_camera.numpy()) for c in cameras]
    write_binary_model(root / "sparse/0", cameras, poses, seen, points)
    return root


def around(stops: float) -> np.ndarray:
    """(24, 1): from −stops on one side of the subject to +stops on the other."""
    return stops * np.cos(2 * np.pi * np.arange(24) / 24)[:, None]


@pytest.mark.parametrize("step", [0.3, 0.8])
def test_every_other_photo_is_darker(tmp_path, step):
    scene = load_scene(capture(tmp_path, -step * (np.arange(24) % 2)[:, None]))
    assert exposure_spread(scene, observed_points(scene)) == pytest.approx(step, abs=0.05)
    assert any(f"Exposure varies by {step:.1f} stops" in s for s in warnings(scene))


@pytest.mark.parametrize(
    "stops",
    [0, around(0.4), 0.5 * np.random.default_rng(2).standard_normal((24, 60))],
    ids=["even", "one side in shadow", "points that glitter"],
)
def test_shading_is_no_exposure(tmp_path, stops):
    scene = load_scene(capture(tmp_path, stops))
    assert exposure_spread(scene, observed_points(scene)) is None


def test_training_follows_what_the_photos_show(tmp_path):
    """…unless it is told otherwise; other captures keep the default."""
    varied, even = capture(tmp_path / "varied", -(np.arange(24) % 2)[:, None]), capture(tmp_path / "even", 0)
    config, scene = configure(varied, "splat")
    assert config.settings["exposure"] and "photos differ by 1.0 stops" in scene.notes[-1]
    assert not configure(varied, "splat", ["exposure=false"])[0].settings["exposure"]
    assert not configure(even, "splat")[0].settings["exposure"]


def test_a_damaged_photo_is_named_by_the_doctor_and_refused_by_training(tmp_path):
    path = capture(tmp_path, 0) / "images/001.png"
    path.write_bytes(path.read_bytes()[:100])
    scene = load_scene(tmp_path)
    assert any("001.png is damaged" in s for s in warnings(scene))
    with pytest.raises(UserError, match=r"001\.png is damaged"):
        configure(tmp_path, "splat")
