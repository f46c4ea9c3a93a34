"""Pinhole copies show what a pinhole would have seen, everywhere, whatever the lens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy import ball_capture

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera, pixel_centres
from neural3d.loading import load_scene
from neural3d.scene import View
from neural3d.scene.stored import read_scene, write_scene
from neural3d.scene.undistort import pinhole_camera, undistorted

LENSES = {
    "RADIAL": [80.0, 62.0, 45.0, -0.2, 0.05],
    "OPENCV": [80.0, 82.0, 58.0, 47.0, 0.15, 0.02, 0.004, -0.003],
    "OPENCV_FISHEYE": [45.0, 45.0, 60.0, 45.0, 0.02, 0.0, 0.0, 0.0],
}


def camera(model, params, width=120, height=90):
    return Camera(model, width, height, torch.tensor(params, dtype=torch.float64), torch.eye(4))


def directions_as_colours(camera):
    """x / z, y / z and their product, smooth and different everywhere."""
    d = camera.rays()[1].double()
    u, v = d[..., 0] / d[..., 2], d[..., 1] / d[..., 2]
    return torch.stack([0.5 + 0.2 * u, 0.5 + 0.2 * v, 0.5 + 0.1 * u * v], -1).mul(255).clamp(0, 255).numpy()


@pytest.mark.parametrize("model", LENSES)
def test_the_copy_is_what_a_pinhole_sees(model):
    lens = camera(model, LENSES[model])
    pinhole = pinhole_camera(lens)
    got = undistorted(directions_as_colours(lens).round().astype(np.uint8), lens, pinhole)
    want = directions_as_colours(pinhole)
    assert got.shape == want.shape
    # Half a step of rounding twice, and what interpolation between pixels misses; a shift of half a pixel costs 1.5.
    assert np.abs(got - want).max() < 1.6 and np.abs(got - want).mean() < 0.4


@pytest.mark.parametrize("model", LENSES)
def test_the_photo_covers_all_of_the_copy_and_not_much_more(model):
    lens = camera(model, LENSES[model])
    pinhole = pinhole_camera(lens)
    w, h = pinhole.width, pinhole.height
    seen, z = lens.project(pinhole.rays(pixel_centres(w, h))[1])
    assert (z > 0).all()
    assert seen.amin() > 0 and seen[..., 0].max() < lens.width and seen[..., 1].max() < lens.height
    # A pixel more on every side would leave the photo somewhere on that side.
    rim = pinhole.rays(
        torch.tensor([[-1.0, h / 2], [w + 1, h / 2], [w / 2, -1], [w / 2, h + 1], [-1, -1], [w + 1, h + 1]])
    )
    if model != "OPENCV_FISHEYE":  # which is cut at 60° from the axis instead
        outside = lens.project(rim[1])[0]
        assert outside.amin() < 0.6 or outside[:, 0].max() > lens.width - 0.6


def test_only_lenses_that_bend_are_resampled(tmp_path):
    straight = camera("OPENCV", [80.0, 80, 60, 45, 0, 0, 0, 0])
    simple = camera("SIMPLE_PINHOLE", [80.0, 60, 45])
    bent = camera("OPENCV", LENSES["OPENCV"])
    scene = load_scene(ball_capture(tmp_path, train=3, test=1))
    views = [View(f"{i}", c, tmp_path / "no.png") for i, c in enumerate((straight, simple, bent))]
    copy = replace(scene, views=views).with_pinholes()
    assert [v.lens is not None for v in copy.views] == [False, False, True]
    assert all(v.camera.model == "PINHOLE" for v in copy.views)
    assert copy.views[1].camera.params.tolist() == [80, 80, 60, 45]
    assert len(copy.notes) == len(scene.notes) + 1
    again = copy.with_pinholes()  # done once, not twice
    assert again.notes == copy.notes and again.views[2].lens is bent
    assert torch.equal(again.views[2].camera.params, copy.views[2].camera.params)


def test_panoramas_are_refused():
    with pytest.raises(UserError, match="Panoramas"):
        pinhole_camera(camera("EQUIRECTANGULAR", [120.0, 60.0], 120, 60))


@pytest.fixture
def photo(tmp_path):
    """A stored photo of 240 × 180 with alpha, its mask, and the camera at half that size."""
    lens = camera("OPENCV", LENSES["OPENCV"])
    full = lens.resized(240, 180)
    alpha = np.where(np.arange(240)[None, :, None] < 120, 255, 0) * np.ones((180, 1, 1))
    pixels = np.concatenate([directions_as_colours(full), alpha], -1).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(alpha[..., 0].astype(np.uint8)).save(tmp_path / "mask.png")
    return lens, tmp_path


def test_views_copy_photos_masks_and_alpha_at_any_size(photo):
    lens, folder = photo
    pinhole = pinhole_camera(lens)
    view = View("a", pinhole, folder / "photo.png", folder / "mask.png", alpha=True, lens=lens)
    for seen in (view, view.resized(pinhole.width // 2, pinhole.height // 2)):
        image, mask, want = seen.image(), seen.mask(), directions_as_colours(seen.camera)
        assert image.shape == (seen.camera.height, seen.camera.width, 4) and mask.shape == image.shape[:2]
        opaque = image[..., 3] == 255
        assert 0.4 < opaque.mean() < 0.6 and np.abs(image[opaque][:, :3] - want[opaque]).max() < 3
        assert ((mask == 255) == (image[..., 3] >= 128)).mean() > 0.999


def test_a_run_remembers_its_copies(photo):
    lens, folder = photo
    scene = load_scene(ball_capture(folder / "ball", train=3, test=1))
    view = View("a", pinhole_camera(lens), folder / "photo.png", alpha=True, lens=lens)
    scene = replace(scene, views=[*scene.views[:-1], view])
    write_scene(folder / "scene.json", scene)
    back = read_scene(folder / "scene.json").views[-1]
    assert back.lens is not None and back.lens.model == "OPENCV"
    assert torch.equal(back.lens.params, lens.params)
    assert np.array_equal(back.image(), view.image())
