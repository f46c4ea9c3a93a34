"""Pinhole copies of distorted photos, for renderers that project with straight lines.

A copy keeps the photo's pose and its focal lengths, so that the middle of the picture keeps its sharpness, and is cut
to the largest upright rectangle around the middle that the photo covers without gaps (as COLMAP's undistorter does with
blank_pixels = 0). Of panoramas, which no plane can show, several views are cut instead (`scene.panorama`); they are
resampled here too.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import LENSES, lens_of, named, project, unproject

WIDEST = math.tan(math.radians(60))  # what lies further off the axis is left out: a plane would stretch it without end
STRIP = 1 << 16  # pixels that are resampled at a time
STRAIGHT = 0.01  # pixels by which a lens may bend its border and still pass for a pinhole


def is_panorama(camera: Camera) -> bool:
    """Of 360° × 180°."""
    return lens_of(camera.model).projection == "equirectangular"


def pinhole_camera(camera: Camera) -> Camera:
    """The PINHOLE camera of a photo's copy; of a photo that needs none, its own lens under that name."""
    if is_panorama(camera):
        raise UserError("Panoramas (EQUIRECTANGULAR) have no pinhole copy; cut them into perspective views first.")
    lens = named(camera.model, camera.params)
    fx, fy, cx, cy = (float(lens[name]) for name in ("fx", "fy", "cx", "cy"))
    width, height = camera.width, camera.height
    if bent(camera) is not None:
        left, top, right, bottom = _covered(camera)
        width, height = math.floor((right - left) * fx), math.floor((bottom - top) * fy)
        if width < 1 or height < 1:
            raise UserError(f"A {camera.model} lens bends its photo so far that nothing of it is left; recalibrate it.")
        # What the whole number of pixels leaves over is shared by both sides.
        cx, cy = width / 2 - (left + right) / 2 * fx, height / 2 - (top + bottom) / 2 * fy
    params = torch.tensor([fx, fy, cx, cy], dtype=torch.float64)
    return Camera("PINHOLE", width, height, params, camera.world_from_camera)


def undistorted(pixels: UInt8[np.ndarray, "h w C"], taken_with: Camera, pinhole: Camera) -> UInt8[np.ndarray, "H W C"]:
    """The picture resampled bilinearly as `pinhole` sees it; colours of transparent pixels weigh as they are visible.

    taken_with, pinhole: at the pictures' sizes. Directions that the photo does not hold take its nearest pixel. A part
    of a panorama looks another way than the panorama, which the cameras' poses tell; all else looks the same way.
    """
    grid = _grid(_key(taken_with), _key(pinhole), _rotation(taken_with, pinhole))
    flat, (h, w) = pixels.reshape(-1, pixels.shape[2]), pixels.shape[:2]
    seen = np.empty((len(grid[0]), pixels.shape[2]), np.uint8)
    for start in range(0, len(seen), STRIP):  # so that floats of a whole photo are never in memory
        part = slice(start, start + STRIP)
        index, x, y = (column[part] for column in grid)
        column = index % w
        right = np.where(column < w - 1, 1, 1 - w if is_panorama(taken_with) else 0)
        below = index + np.where(index < (h - 1) * w, w, 0)
        upper = _blend(flat, index, index + right, x[:, None])
        lower = _blend(flat, below, below + right, x[:, None])
        seen[part] = _colours(upper * (1 - y[:, None]) + lower * y[:, None])
    return seen.reshape(pinhole.height, pinhole.width, -1)


def _blend(pixels: UInt8[np.ndarray, "P C"], one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between two pixels each; colours are multiplied by alpha."""
    a, b = pixels[one].astype(np.float32), pixels[other].astype(np.float32)
    for image in (a, b) if pixels.shape[1] == 4 else ():
        image[:, :3] *= image[:, 3:]
    return a * (1 - share) + b * share


def _colours(seen: Float[np.ndarray, "n C"]) -> UInt8[np.ndarray, "n C"]:
    if seen.shape[1] == 4:
        seen[:, :3] /= np.maximum(seen[:, 3:], 1e-3)  # 1e-3 of 255 is no colour: black where clear
    return np.clip(seen + 0.5, 0, 255).astype(np.uint8)


def window(taken_with: Camera, pinhole: Camera) -> tuple[slice, slice] | None:
    """Rows and columns of a photo that are what `pinhole` sees, where it is a part of the photo, pixel by pixel."""
    if taken_with.model != "PINHOLE" or pinhole.model != "PINHOLE":
        return None
    focal, shift = (taken_with.params - pinhole.params).split(2)
    left, top = shift.round().int().tolist()
    inside = 0 <= left <= taken_with.width - pinhole.width and 0 <= top <= taken_with.height - pinhole.height
    if not inside or max(focal.abs().max(), (shift - shift.round()).abs().max()) > 1e-6:
        return None
    return slice(top, top + pinhole.height), slice(left, left + pinhole.width)


def bent(camera: Camera) -> Camera | None:
    """The camera itself where its lens moves the picture's border by more than STRAIGHT, else None."""
    lens = lens_of(camera.model)
    if lens.projection == "perspective" and not lens.distorts:
        return None
    border = torch.cat(_border(camera))
    a = named(camera.model, camera.params)
    straight = _plane(camera, border) * torch.stack([a["fx"], a["fy"]]) + torch.stack([a["cx"], a["cy"]])
    return camera if (straight - border).norm(dim=-1).max() > STRAIGHT else None


def _border(camera: Camera) -> list[Float[Tensor, "65 2"]]:
    """Pixels along the left, top, right and bottom side."""
    t = torch.linspace(0, 1, 65, dtype=torch.float64)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    return [torch.stack(side, -1) * size for side in ((zero, t), (t, zero), (one, t), (t, one))]


def _plane(camera: Camera, xy: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
    """x / z and y / z of the directions of pixels, within ±WIDEST."""
    x, y, z = unproject(camera.model, camera.params, xy).unbind(-1)
    reach = torch.maximum(x.abs(), y.abs()).clamp(min=1e-12)
    z = torch.maximum(z, reach / WIDEST)  # also where a fisheye looks sideways or back
    return torch.stack([x / z, y / z], -1)


def _covered(camera: Camera) -> tuple[float, float, float, float]:
    """left, top, right, bottom on the plane at distance 1 of the rectangle between the bent sides."""
    sides = [_plane(camera, side) for side in _border(camera)]
    left, top = sides[0][:, 0].max(), sides[1][:, 1].max()
    right, bottom = sides[2][:, 0].min(), sides[3][:, 1].min()
    return float(left), float(top), float(right), float(bottom)


def _key(camera: Camera) -> tuple[str, int, int, tuple[float, ...]]:
    return camera.model, camera.width, camera.height, tuple(camera.params.tolist())


def _rotation(taken_with: Camera, pinhole: Camera) -> tuple[float, ...]:
    """The rotation, row by row, that takes directions of the pinhole camera to those of the photo's."""
    rotation = torch.eye(3, dtype=torch.float64)
    if is_panorama(taken_with):
        rotation = taken_with.world_from_camera[:3, :3].T @ pinhole.world_from_camera[:3, :3]
    return tuple(rotation.flatten().tolist())


@functools.lru_cache(maxsize=2)  # photos of one lens share it
def _grid(taken_with: tuple, pinhole: tuple, rotation: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """For each pixel of the pinhole picture: the photo's pixel above left of it, and the weights of its neighbours to
    the right and below.
    """
    model, width, height, params = taken_with
    _, w, h, (fx, fy, cx, cy) = pinhole
    lens, turn = torch.tensor(params, dtype=torch.float64), np.reshape(rotation, (3, 3)).T
    around = LENSES[model].projection == "equirectangular"
    index, across, down = np.empty(w * h, np.int32), np.empty(w * h, np.float32), np.empty(w * h, np.float32)
    # In pieces too small for torch to share among threads: photos are read several at once, and would wait for each
    # other's threads.
    for start in range(0, w * h, 1 << 13):
        part = slice(start, start + (1 << 13))
        row, column = np.divmod(np.arange(start, min(w * h, part.stop)), w)
        x, y = column + 0.5, row + 0.5
        directions = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], -1) @ turn
        x, y = (project(model, lens, torch.from_numpy(directions)).numpy() - 0.5).T
        x, y = x if around else np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        index[part] = np.floor(x).astype(np.int64) % width + width * y.astype(np.int64)
        across[part], down[part] = x - np.floor(x), y - np.floor(y)
    return index, across, down
