"""The import doctor says what is there and finds what was broken on purpose; healthy captures raise no alarm."""

import json

import numpy as np
import pytest
import torch
from captures import (
    HEIGHT,
    OPENCV_PARAMS,
    WIDTH,
    cloud,
    ring,
    write_blender,
    write_colmap,
    write_transforms,
)
from PIL import Image

from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.scene.doctor import describe, reprojection_error, warnings


def colmap(path, cameras=None, points=None):
    cameras = cameras or ring("OPENCV", OPENCV_PARAMS, count=24)
    return write_colmap(path, cameras, cloud() if points is None else points, binary=True)


def test_a_healthy_capture(tmp_path):
    scene = load_scene(colmap(tmp_path), downscale=2)
    said = dict(describe(scene))
    assert said["views"] == "21 train, 3 test" and said["photo size"] == "24×18 (stored 2× larger)"
    assert said["cameras"] == "OPENCV, 1 lens, field of view 43° × 33°"
    assert said["points"].startswith("300 sparse points")
    assert said["distortion"].startswith("up to 0.") and "unbounded" in said["space"]
    assert reprojection_error(scene) < 1e-6 and warnings(scene) == []


def test_bounds_are_told_in_the_capture_s_frame(tmp_path):
    write_transforms(tmp_path, ring())
    said = dict(describe(load_scene(tmp_path, aabb=[[0, -4, 0], [2, 0, 1]])))
    assert said["bounds"] == "(2, 4, 1) around (1, -2, 0.5) in the capture's units"
    assert said["scene unit"] == "2 of the capture's"


def found(scene, part: str) -> None:
    assert any(part in sentence for sentence in warnings(scene)), warnings(scene)


def test_few_views_and_no_test(tmp_path):
    write_transforms(tmp_path, ring())
    found(load_scene(tmp_path), "Only 8 training views")
    found(load_scene(tmp_path, split="none"), "No views are held out")


def test_cameras_looking_away(tmp_path):
    write_transforms(tmp_path, ring(count=24))
    found(load_scene(tmp_path, aabb=[[90, 90, 90], [91, 91, 91]]), "No camera sees any of the bounds")
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    pose = np.array(content["frames"][3]["transform_matrix"])
    pose[:3, [0, 2]] *= -1  # turned round about its up axis
    content["frames"][3]["transform_matrix"] = pose.tolist()
    path.write_text(json.dumps(content))
    found(load_scene(tmp_path), "1 of 24 cameras look past the bounds (003.png)")


def test_points_in_another_frame(tmp_path):
    found(load_scene(colmap(tmp_path, points=cloud(centre=(1.0, -2, 50)))), "seen by fewer than two cameras")


def test_high_reprojection_error(tmp_path):
    """Observations made with one lens, cameras written with another."""
    cameras = ring("PINHOLE", count=24)
    colmap(tmp_path, cameras)
    wrong = [
        Camera("PINHOLE", WIDTH, HEIGHT, c.params * torch.tensor([1.5, 1.5, 1, 1]), c.world_from_camera)
        for c in cameras
    ]
    kept = (tmp_path / "sparse/0/images.bin").read_bytes()
    colmap(tmp_path, wrong)
    (tmp_path / "sparse/0/images.bin").write_bytes(kept)
    found(load_scene(tmp_path), "Points miss their observations by")


def test_twin_poses(tmp_path):
    cameras = ring(count=24)
    found(
        load_scene(write_transforms(tmp_path, [*cameras[:-1], cameras[0]])),
        "pose exactly (000.png, 023.png), and held-out views have twins",
    )


@pytest.mark.parametrize(
    "model,params,part",
    [
        ("PINHOLE", (6000.0, 6000.0, 24, 18), "is its focal length right?"),
        ("PINHOLE", (60.0, 60.0, 40, 18), "were they cropped after calibration?"),
        ("OPENCV", (30.0, 30.0, 24, 18, -0.8, 0, 0, 0), "turns back inside the picture"),
    ],
)
def test_odd_lenses(tmp_path, model, params, part):
    found(load_scene(write_transforms(tmp_path, ring(model, params, count=24))), part)


def test_cameras_inside_the_bounds(tmp_path):
    write_transforms(tmp_path, ring(count=24))
    found(load_scene(tmp_path, aabb=[[-9, -9, -9], [9, 9, 9]], unbounded=False), "24 cameras stand inside the bounds")


def test_empty_and_damaged_photos(tmp_path):
    cameras = ring("PINHOLE", (60.0, 60.0, WIDTH / 2, HEIGHT / 2), count=30, centre=(0, 0, 0))
    write_blender(tmp_path, cameras)
    path = tmp_path / "train" / "r_4.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8)).save(path)
    found(load_scene(tmp_path, aabb=[[-1, -1, -1], [1, 1, 1]]), "Photos are completely transparent (train/r_4.png)")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    found(load_scene(tmp_path, aabb=[[-1, -1, -1], [1, 1, 1]]), "r_4.png is damaged")
