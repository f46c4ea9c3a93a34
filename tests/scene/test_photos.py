"""Photos of another size than described: exact halves are taken, with their cameras; everything else is refused."""

import numpy as np
import pytest
import torch
from captures import (
    HEIGHT,
    OPENCV_PARAMS,
    WIDTH,
    cloud,
    names,
    ring,
    write_colmap,
    write_middlebury,
    write_picture,
    write_transforms,
)
from PIL import Image

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.scene.photos import _halved


@pytest.mark.parametrize("k", [2, 4])
def test_exact_halves_take_their_cameras_along(tmp_path, k):
    """A point known in the world lands on the pixel of the smaller photo."""
    cameras = ring("OPENCV", OPENCV_PARAMS)
    write_transforms(tmp_path, cameras)
    small = names(cameras)[:7]
    for i, name in enumerate(small):
        write_picture(tmp_path / "images" / name, i, (WIDTH // k, HEIGHT // k))
    scene = load_scene(tmp_path)
    s, points = scene.scene_from_capture, torch.from_numpy(cloud())
    for view, camera in zip(scene.views, cameras, strict=True):
        shrink = k if view.name in small else 1
        assert view.image().shape == (HEIGHT // shrink, WIDTH // shrink, 3)
        seen = view.camera.project(points @ s[:3, :3].T + s[:3, 3])[0]
        torch.testing.assert_close(seen, camera.project(points)[0] / shrink, atol=1e-4, rtol=0)
    (note,) = [n for n in scene.notes if "smaller than transforms.json describes" in n]
    assert note.startswith("7 of 10 photos") and f"{WIDTH // k}×{HEIGHT // k} instead of 48×36" in note


def test_no_note_where_sizes_agree(tmp_path):
    assert not any("smaller" in n for n in load_scene(write_transforms(tmp_path, ring())).notes)


@pytest.mark.parametrize("size", [(WIDTH // 3, HEIGHT // 3), (WIDTH // 2, HEIGHT // 2 - 1), (2 * WIDTH, 2 * HEIGHT)])
def test_other_sizes_are_refused(tmp_path, size):
    write_transforms(tmp_path, ring())
    Image.new("RGB", size).save(tmp_path / "images/003.png")
    with pytest.raises(UserError, match=rf"003\.png is {size[0]}×{size[1]} but .*json describes 48×36"):
        load_scene(tmp_path)


def test_sides_that_do_not_halve():
    """1081 rows make 540 or 541, programs differ."""
    assert _halved((960, 540), (1920, 1081)) and _halved((960, 541), (1920, 1081))
    assert not _halved((960, 542), (1920, 1081)) and not _halved((960, 270), (1920, 1080))


def test_a_lens_without_focal_length_is_named(tmp_path):
    cameras = ring("PINHOLE")
    cameras[3].params[0] = 0.0
    with pytest.raises(UserError, match=r"cameras\.bin: the camera of '003\.png' has a focal length of 0 pixels"):
        load_scene(write_colmap(tmp_path, cameras, cloud(), binary=True))


def test_a_camera_beyond_all_measure_is_named(tmp_path):
    cameras = ring("PINHOLE")
    cameras[3].world_from_camera[:3, 3] = 1e200
    with pytest.raises(UserError, match=r"the camera of '003\.png' is at \["):
        load_scene(write_transforms(tmp_path, cameras))


def test_a_box_beyond_all_measure_is_a_sentence(tmp_path):
    box = np.array([[0.2, -3.0, -1e308], [1.8, -1.0, 1e308]])
    write_middlebury(tmp_path, ring("PINHOLE"), box)
    with pytest.raises(UserError, match="so far away that nothing can be computed"):
        load_scene(tmp_path)
