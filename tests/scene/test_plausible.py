"""`info` notices what a failed or odd reconstruction looks like, and nothing about healthy captures."""

import numpy as np
import pytest
import torch
from captures import HEIGHT, WIDTH, cloud, look_at, ring, write_blender, write_colmap, write_picture, write_transforms
from PIL import Image

from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.scene.plausible import implausible


def walk(step=0.3, count=24):
    """Cameras side by side that look the same way."""
    poses = [look_at((step * i, 0, 0), (step * i, 1, 0), (0, 0, 1)) for i in range(count)]
    return [Camera("PINHOLE", WIDTH, HEIGHT, torch.tensor([60.0, 61, 25, 17]), torch.from_numpy(p)) for p in poses]


def test_healthy_captures(tmp_path):
    """Photos all around, with points or without; NeRF's, with depth pictures beside; a walk with its extent told."""
    assert implausible(load_scene(write_colmap(tmp_path / "a", ring(count=24), cloud(), True))) == []
    assert implausible(load_scene(write_transforms(tmp_path / "b", ring(count=24)))) == []
    nerf = write_blender(tmp_path / "c", ring("PINHOLE", (60.0, 60, WIDTH / 2, HEIGHT / 2), count=20, centre=(0, 0, 0)))
    for path in list((nerf / "test").glob("r_*.png")):
        for kind in ("depth", "normal"):
            write_picture(path.with_name(f"{path.stem}_{kind}_0001.png"))
    assert implausible(load_scene(nerf)) == []
    root = write_transforms(tmp_path / "d", walk())
    assert implausible(load_scene(root, aabb=[[0, 1, -1], [7, 5, 1]])) == []
    near = cloud((3.5, 3, 0), radius=3)
    assert implausible(load_scene(write_colmap(tmp_path / "e", walk(), near, True))) == []


def test_two_of_many_photos_placed(tmp_path):
    root = write_colmap(tmp_path, ring(count=24)[:2], cloud(), True)
    for i in range(2, 292):
        Image.new("RGB", (1, 1)).save(root / "images" / f"{i:03d}.png")
    (sentence,) = [s for s in implausible(load_scene(root)) if "have a camera" in s]
    assert sentence.startswith(f"Only 2 of the 292 photos in {root / 'images'} have a camera")
    for i in range(4, 292):
        (root / "images" / f"{i:03d}.png").unlink()
    assert not any("have a camera" in s for s in implausible(load_scene(root)))  # half of them: so be it


def test_bounds_that_are_a_guess(tmp_path):
    """Of a walk without points, and of points all over the place: 39 units where cameras stand 6.9 apart."""
    (sentence,) = implausible(load_scene(write_transforms(tmp_path / "a", walk())))
    assert "nothing says how far the scene reaches" in sentence
    rng = np.random.default_rng(0)
    far = np.column_stack([rng.uniform(-17, 23.6, 4000), rng.uniform(1, 12, 4000), rng.uniform(-1, 4, 4000)])
    (sentence,) = implausible(load_scene(write_colmap(tmp_path / "b", walk(), far, True)))
    assert "guessed, 39" in sentence.replace("38.9", "39") and "cameras stand 6.9 apart" in sentence


@pytest.mark.parametrize("points", [True, False])
def test_all_in_one_place(tmp_path, points):
    cameras = [
        Camera(c.model, WIDTH, HEIGHT, c.params, torch.from_numpy(look_at((0, 0, 0), d, (0, 0, 1))))
        for c, d in zip(ring(count=24), np.random.default_rng(1).normal(size=(24, 3)))
    ]
    write = write_colmap(tmp_path, cameras, cloud((0, 0, 0), radius=3), True) if points else None
    assert any("stand in one place" in s for s in implausible(load_scene(write or write_transforms(tmp_path, cameras))))


def test_a_camera_astray(tmp_path):
    cameras = ring(count=24)
    pose = cameras[5].world_from_camera.clone()
    pose[:3, 3] += torch.tensor([300.0, 0, 0])
    cameras[5] = Camera("PINHOLE", WIDTH, HEIGHT, cameras[5].params, pose)
    found = implausible(load_scene(write_colmap(tmp_path, cameras, cloud(), True)))
    assert any("times farther off than is usual (005.png)" in s for s in found)
