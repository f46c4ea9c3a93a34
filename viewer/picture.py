"""From what a renderer gives to what the window shows: colours, depth, normals or the error, lines and photos on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from neural3d.viewer.items import NEAR, NO_LINES, Lines, draw_lines
from neural3d.viewer.solids import Clip, Solid
from PIL import Image
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.metrics import psnr
from neural3d.render import RenderOut
from neural3d.render.images import depth_picture, normal_picture, to_bytes
from neural3d.scene import View

Kind = Literal["rgb", "depth", "normal", "error"]
KINDS: tuple[Kind, ...] = ("rgb", "depth", "normal", "error")
ERROR_SPAN = 0.4  # mean absolute difference of the channels that gets the last colour
MAT = (28, 31, 36)  # around photo and error
GAP = 6  # pixels between photo and error
_HEAT = np.array([[12, 10, 30], [96, 24, 108], [206, 60, 72], [248, 160, 60], [252, 250, 200]])


@dataclass(frozen=True)
class Shot:
    """All that decides a picture.

    camera: of the whole picture; of an error view, the photo's own, at the size it is shown in. size: the picture's
    width and height in the window. background: sRGB. photo: what the error is against.
    """

    camera: Camera
    kind: Kind
    size: tuple[int, int]
    background: Float[Tensor, "3"]
    clip: Clip | None = None
    lines: Lines = NO_LINES
    photos: Solid | None = None
    photo: View | None = None
    near: float = 0.0  # photos and lines closer to the eye are not drawn: it may stand where a photo was taken
    turn: int = 0  # of requests; the latest counts


def picture_of(out: RenderOut, kind: Kind, span: tuple[float, float] | None) -> UInt8[np.ndarray, "h w 3"]:
    """The rendered view as colours; `span`: see `depth_picture`."""
    if kind == "depth":
        return depth_picture(out.depth.numpy(), span)
    return normal_picture(out.normal) if kind == "normal" else to_bytes(out.rgb)


def depth_span(depth: Float[Tensor, "h w 1"]) -> tuple[float, float] | None:
    """The depths between which most of a picture lies, so that all its tiles share one scale."""
    there = depth[depth > 0]
    if not len(there):
        return None
    near, far = np.percentile(there.numpy(), [2, 98])
    return float(near), float(far)


def fitted(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Smoothly to width × height; a finer picture is averaged. Always a copy."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture.copy()
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def furnished(
    picture: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "h w"], shot: Shot
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with photos and lines drawn on it, in place."""
    if shot.photos is not None:
        height, width = picture.shape[:2]
        half = shot.camera.resized(max(1, width // 2), max(1, height // 2))
        out = shot.photos.render(half, torch.zeros(3), near=shot.near)
        rows, columns = np.arange(height) * half.height // height, np.arange(width) * half.width // width
        z = out.depth[..., 0].numpy()[rows][:, columns]
        behind = depth[np.arange(height) * depth.shape[0] // height][:, np.arange(width) * depth.shape[1] // width]
        seen = (z > 0) & ((behind == 0) | (z < 1.02 * behind))
        picture[seen] = fitted(to_bytes(out.rgb), (width, height))[seen]
    draw_lines(picture, depth, shot.camera, shot.lines, max(NEAR, shot.near))
    return picture


def error_heat(difference: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Mean |difference| of the channels as colour: black is none, pale yellow `ERROR_SPAN` or more."""
    share = np.clip(np.abs(difference).mean(-1) / ERROR_SPAN, 0, 1) * (len(_HEAT) - 1)
    return np.stack([np.interp(share, np.arange(len(_HEAT)), _HEAT[:, k]) for k in range(3)], -1).astype(np.uint8)


def photo_pixels(view: View, camera: Camera, background: Float[Tensor, "3"]) -> Float[np.ndarray, "h w 3"]:
    """The photo at the camera's size, over the background where transparent. UserError where it cannot be read."""
    pixels = view.resized(camera.width, camera.height).image().astype(np.float32) / 255
    if pixels.shape[-1] == 4:
        return pixels[..., :3] * pixels[..., 3:] + background.numpy() * (1 - pixels[..., 3:])
    return pixels


def beside(width: int, height: int, size: tuple[int, int]) -> tuple[bool, float]:
    """Whether two pictures go side by side (else one above the other) in a window, and their scale there."""
    w, h = size
    rows = min((w - GAP) / 2 / width, h / height)
    columns = min(w / width, (h - GAP) / 2 / height)
    return rows >= columns, max(rows, columns)


def error_picture(
    out: RenderOut, photo: Float[np.ndarray, "h w 3"], shot: Shot
) -> tuple[UInt8[np.ndarray, "H W 3"], float]:
    """The photo and, beside or under it, where the rendering differs; and the PSNR in dB."""
    rgb = out.rgb.numpy()
    width, height = shot.size
    sheet = np.full((height, width, 3), MAT, np.uint8)
    w, h = rgb.shape[1], rgb.shape[0]
    side_by_side, _ = beside(w, h, shot.size)
    x, y = (width - (2 * w + GAP if side_by_side else w)) // 2, (height - (h if side_by_side else 2 * h + GAP)) // 2
    x2, y2 = (x + w + GAP, y) if side_by_side else (x, y + h + GAP)
    for left, top, part in ((x, y, to_bytes(photo)), (x2, y2, error_heat(rgb - photo))):
        target = sheet[max(top, 0) : top + h, max(left, 0) : left + w]
        target[:] = part[: target.shape[0], : target.shape[1]]
    return sheet, psnr(rgb, photo)
