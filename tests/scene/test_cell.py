"""Parts of a scene: windows of photos are the photos' own pixels, and the frame stays."""

import numpy as np
import pytest
import torch
from captures import OPENCV_PARAMS, ring, write_transforms

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.scene.stored import read_scene, write_scene

CELL = [[-1e9, -0.5], [0.25, 1e9]]


def part(capture, windows, **options):
    return load_scene(capture, cell=CELL, windows=windows, **options)


@pytest.mark.parametrize("lens", ["PINHOLE", "OPENCV"])
def test_a_window_shows_what_the_photo_shows_there(tmp_path, lens):
    params = OPENCV_PARAMS if lens == "OPENCV" else OPENCV_PARAMS[:4]
    capture = write_transforms(tmp_path, ring(lens, params))
    whole = load_scene(capture).with_pinholes()
    view = whole.views[whole.split["train"][2]]
    scene = part(capture, [[view.name, 7, 3, 30, 21]])
    (cut,) = scene.views
    assert np.array_equal(cut.image(), view.image()[3:21, 7:30])
    assert torch.equal(cut.camera.rays()[1], view.camera.rays()[1][3:21, 7:30])
    assert scene.split == {"train": [0], "test": []}
    assert torch.equal(scene.scene_from_capture, whole.scene_from_capture) and scene.near == whole.near
    smaller = cut.resized(12, 9)
    assert smaller.image().shape == (9, 12, 3)


def test_it_is_stored_with_its_ground(tmp_path):
    capture = write_transforms(tmp_path, ring())
    view = load_scene(capture)
    name = view.views[view.split["train"][0]].name
    scene = part(capture, [[name, 0, 0, 10, 10]])
    write_scene(tmp_path / "scene.json", scene)
    assert read_scene(tmp_path / "scene.json").cell.tolist() == CELL


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([], "has no photos"),
        ([["nobody.png", 0, 0, 5, 5]], "'nobody.png', which is no training photo"),
        ([["", 0, 0, 49, 5]], "ends at 49, 5 of 48×36"),
        ([["x", 5, 0, 5, 5]], "windows must be"),
        ([["x", -1, 0, 5, 5]], "windows must be"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, windows, said):
    capture = write_transforms(tmp_path, ring())
    whole = load_scene(capture)
    windows = [[name or whole.views[whole.split["train"][0]].name, *rest] for name, *rest in windows]
    with pytest.raises(UserError, match=said):
        part(capture, windows)


def test_a_cell_has_a_front_and_a_back(tmp_path):
    with pytest.raises(UserError, match=r"cell = .* must be"):
        load_scene(write_transforms(tmp_path, ring()), cell=[[0, 0], [0, 1]])
