"""Textures baked from photos that the tests make themselves, of surfaces whose colour is known everywhere."""

import importlib.util
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree
from toy import look_at

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.solid import Solid
from neural3d.geometry.unwrap import texels_of, unwrapped
from neural3d.render.bake import _fitting, textured
from neural3d.scene import View
from neural3d.synthetic.analytic import Sphere

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
SIZE, PIXELS = 256, 160
GREY = lambda x, n: torch.full_like(x, 0.5)  # noqa: E731


def paint(x: np.ndarray) -> np.ndarray:
    """Waves of known colour in space, different along each axis, so that a flip or a swap shows."""
    return 0.5 + 0.35 * np.sin(x * [9, 7, 11] + x[..., [1, 2, 0]] * 4 + [0, 1, 2])


def camera(azimuth: float, elevation: float, distance: float = 3.0, size: int = PIXELS) -> Camera:
    """Looks at the origin through a lens that bends the borders by some 5 pixels."""
    pose = torch.from_numpy(look_at(azimuth, elevation, distance)) @ torch.diag(torch.tensor([1.0, -1, -1, 1]).double())
    lens = [1.3 * size, 1.3 * size, size / 2, size / 2, -0.2, 0.05, 1e-3, -1e-3]
    return Camera("OPENCV", size, size, torch.tensor(lens), pose)


def around(count: int) -> list[Camera]:
    """Cameras spread evenly over all directions."""
    golden = math.pi * (3 - math.sqrt(5))
    return [camera(golden * i, math.asin(1 - (2 * i + 1) / count)) for i in range(count)]


def take(folder, cameras, mesh: Mesh, color) -> list[View]:
    """Photos as RGBA files. color: (points, faces) → sRGB."""
    solid, views = Solid(mesh), []
    for i, c in enumerate(cameras):
        o, d = (x.reshape(-1, 3).numpy() for x in c.rays())
        t, face = solid.first_hit(o, d)
        hit = face >= 0
        pixels = np.zeros((len(hit), 4))
        pixels[hit] = np.c_[color(o[hit] + t[hit, None] * d[hit], face[hit]), np.ones(hit.sum())]
        path = folder / f"{i:03d}.png"
        Image.fromarray(np.round(255 * pixels).astype(np.uint8).reshape(c.height, c.width, 4)).save(path)
        views.append(View(path.stem, c, path, alpha=True))
    return views


def at_texels(mesh: Mesh, size: int = SIZE):
    texels = texels_of(mesh, size)
    return texels, mesh.texture.reshape(-1, 3)[texels.index] / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(np.mean((a - b) ** 2))


@pytest.fixture(scope="module")
def ball() -> Mesh:
    mesh = extract(Sphere(0.6).sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 32)
    return unwrapped(replace(mesh, normals=mesh.vertex_normals()), SIZE)


@pytest.fixture(scope="module")
def photos(ball, tmp_path_factory) -> list[View]:
    return take(tmp_path_factory.mktemp("ball"), around(16), ball, lambda x, face: paint(x))


@pytest.fixture(scope="module")
def baked(ball, photos) -> Mesh:
    mesh, seen = textured(ball, SIZE, photos, GREY)
    assert seen > 0.99
    return mesh


def test_a_texture_has_the_colours_of_the_surface(baked):
    texels, colors = at_texels(baked)
    assert psnr(colors, paint(texels.points)) > 36


def test_gains_are_taken_out(ball, tmp_path):
    """Photos darkened by turns, and gains that say so: the texture that even photos give."""
    factor = torch.tensor([[1.0, 1, 1], [0.6, 0.5, 0.7]]).repeat(8, 1)
    views = take(tmp_path, around(16), ball, lambda x, face: paint(x))
    for view, gain in zip(views, factor):
        pixels = np.asarray(Image.open(view.image_path)).astype(float)
        pixels[..., :3] *= gain.numpy()
        Image.fromarray(pixels.round().astype(np.uint8)).save(view.image_path)
    texels, colors = at_texels(textured(ball, SIZE, views, GREY, gains=factor)[0])
    _, uneven = at_texels(textured(ball, SIZE, views, GREY)[0])
    assert psnr(colors, paint(texels.points)) > 36 > 30 > psnr(uneven, paint(texels.points))


def test_gutters_show_the_nearest_texel(baked):
    texels = texels_of(baked, SIZE)
    empty = np.ones((SIZE, SIZE), bool)
    empty.reshape(-1)[texels.index] = False
    assert empty.any()
    row, column = np.nonzero(empty)
    filled = np.stack(np.nonzero(~empty), axis=1)
    nearest, _ = cKDTree(filled).query(np.stack([row, column], axis=1))
    own = baked.texture[row, column]
    for k in np.random.default_rng(0).choice(len(row), 200, replace=False):
        candidates = filled[np.hypot(*(filled - [row[k], column[k]]).T) < nearest[k] + 1e-6]  # ties may go either way
        assert (baked.texture[tuple(candidates.T)] == own[k]).all(1).any()


def test_what_stands_before_a_wall_leaves_no_trace_on_it(tmp_path):
    """A red ball before a blue wall: cameras on one side, so that much of the wall is hidden from each."""
    ball = extract(Sphere(0.35, (0, 0, 0.4)).sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 40)
    wall = np.array([[-0.9, -0.9, -0.4], [0.9, -0.9, -0.4], [0.9, 0.9, -0.4], [-0.9, 0.9, -0.4]], np.float32)
    square = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    mesh = Mesh(np.concatenate([ball.vertices, wall]), np.concatenate([ball.faces, square + len(ball.vertices)]))
    flat = unwrapped(mesh, SIZE)
    red, blue = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.2, 0.8])
    cameras = [camera(k * 1.05, 0.75) for k in range(6)]
    views = take(tmp_path, cameras, flat, lambda x, face: np.where((face < len(ball.faces))[:, None], red, blue))
    result, seen = textured(flat, SIZE, views, lambda x, n: torch.full_like(x, 0.5))
    texels, colors = at_texels(result)
    on_wall = texels.face >= len(ball.faces)
    assert 0.6 < seen < 1 and on_wall.any() and not on_wall.all()
    assert np.abs(colors[on_wall] - blue).max() < 0.02  # where no camera looks too: the membrane is flat
    up = texels.normals[:, 2] > 0
    assert np.abs(colors[~on_wall & up] - red).max() < 0.02


def test_transparent_and_masked_pixels_are_not_used(ball, photos, tmp_path):
    """Half of every photo is painted over, once under alpha 0, once under a mask: it must not show."""
    views = []
    for i, view in enumerate(photos):
        pixels, path = view.image().copy(), tmp_path / f"{i}.png"
        if i % 2:
            pixels[:, : PIXELS // 2] = [255, 0, 255, 0]
        else:
            pixels[:, : PIXELS // 2, :3] = [255, 0, 255]
            mask = np.full((PIXELS, PIXELS), 255, np.uint8)
            mask[:, : PIXELS // 2] = 0
            Image.fromarray(mask).save(tmp_path / f"mask{i}.png")
        Image.fromarray(pixels).save(path)
        views.append(replace(view, image_path=path, mask_path=None if i % 2 else tmp_path / f"mask{i}.png"))
    mesh, seen = textured(ball, SIZE, views, GREY)
    texels, colors = at_texels(mesh)
    assert 0.8 < seen <= 1
    assert psnr(colors, paint(texels.points)) > 28


def test_a_stray_colour_is_outvoted(ball, photos, tmp_path):
    """Three photos of 16 are all white, as if something had passed before the camera."""
    views = []
    for i, view in enumerate(photos):
        pixels, path = view.image().copy(), tmp_path / f"{i}.png"
        if i % 7 == 0:
            pixels[..., :3] = 255
        Image.fromarray(pixels).save(path)
        views.append(replace(view, image_path=path))
    texels, colors = at_texels(textured(ball, SIZE, views, GREY)[0])
    assert psnr(colors, paint(texels.points)) > 24  # a plain mean: 15


def test_what_no_photo_shows_takes_the_fields_colour_shifted_to_fit(ball, photos):
    """Cameras above only. The field is right but darker by 0.2: the shift must be found and carried below."""
    above = [view for view in photos if view.camera.centre[2] > 0]
    field = lambda x, n: torch.from_numpy(paint(x.numpy()).astype(np.float32)) - 0.2  # noqa: E731
    mesh, seen = textured(ball, SIZE, above, field)
    texels, colors = at_texels(mesh)
    assert 0.5 < seen < 0.9
    assert psnr(colors, paint(texels.points)) > 34
    dark, none = textured(ball, SIZE, [], field)
    texels, colors = at_texels(dark)
    assert none == 0 and np.abs(colors - np.clip(paint(texels.points) - 0.2, 0, 1)).max() < 0.01


def test_a_missing_photo_is_said(ball, photos, tmp_path):
    with pytest.raises(UserError, match=r"lost\.png is missing"):
        textured(ball, SIZE, [replace(photos[0], image_path=tmp_path / "lost.png")], GREY)


def test_a_part_of_a_panorama_is_painted_from_as_a_part(ball, tmp_path):
    """At the panorama's own sharpness: half of it is loaded; never as if all of the picture were the part."""
    Image.new("RGB", (400, 200)).save(tmp_path / "pano.png")
    pose = camera(0.0, 0.0).world_from_camera
    part = Camera("PINHOLE", 64, 64, torch.tensor([32.0, 32, 32, 32]), pose)
    lens = Camera("EQUIRECTANGULAR", 200, 100, torch.tensor([200.0, 100]), pose)
    view = _fitting(View("a", part, tmp_path / "pano.png", lens=lens), ball, 1e-6)
    assert (view.camera.model, view.camera.width, view.camera.height) == ("PINHOLE", 128, 128)
    assert (view.lens.model, view.lens.width, view.lens.height) == ("EQUIRECTANGULAR", 400, 200)
    torch.testing.assert_close(view.camera.params, torch.tensor([64.0, 64, 64, 64]).double())
