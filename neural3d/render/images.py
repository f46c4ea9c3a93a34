"""Pictures of renderings: colour, depth and normals as files, films, and truth beside result."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from neural3d.disk import MIB, free_space, replacing
from neural3d.errors import UserError
from neural3d.images.ffmpeg import imageio_ffmpeg
from neural3d.render import RenderOut

Pixels = Float[np.ndarray, "height width channels"] | Float[Tensor, "height width channels"]

# Even steps in lightness: dark blue (near) over green to pale yellow (far)
_MAP = np.array(
    [
        *([38, 20, 72], [54, 50, 124], [48, 88, 146], [42, 124, 150]),
        *([50, 158, 142], [98, 190, 118], [170, 214, 96], [246, 232, 138]),
    ]
)


def to_bytes(image: Pixels) -> UInt8[np.ndarray, "height width channels"]:
    """[0, 1] to 0 ... 255, rounded and clamped; NaN becomes 0."""
    return np.round(np.clip(np.nan_to_num(np.asarray(image, np.float32)), 0, 1) * 255).astype(np.uint8)


def cut_out(out: RenderOut) -> UInt8[np.ndarray, "height width 4"]:
    """RGBA, straight alpha, of a view rendered on black: its colour there is colour · alpha, which is divided out."""
    alpha = out.alpha.cpu().clamp(0, 1)
    straight = out.rgb.cpu() / alpha.clamp_min(1e-6)  # where nothing is, 0 / 1e-6 = 0
    return to_bytes(torch.cat([straight, alpha], -1))


def depth_picture(
    depth: Float[np.ndarray, "height width 1"], span: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Depth in colours, dark is near; white where depth is 0 (nothing there).

    span: the depths that get the first and the last colour; None: the 2nd and 98th percentile of what is there, even in
    1 / depth, so that the far does not take all colours from the near.
    """
    z = np.asarray(depth, np.float32)[..., 0]
    there = np.isfinite(z) & (z > 0)
    picture = np.full((*z.shape, 3), 255, np.uint8)
    if not there.any():
        return picture
    near, far = span or np.percentile(z[there], [2, 98])
    inverse = 1 / np.clip(z[there], near, far)
    share = (1 / near - inverse) / max(1 / near - 1 / far, 1e-12)  # one depth only: all near
    place = np.clip(share, 0, 1) * (len(_MAP) - 1)
    picture[there] = np.stack([np.interp(place, np.arange(len(_MAP)), _MAP[:, k]) for k in range(3)], 1).round()
    return picture


def depth_to_16_bit(depth: Float[np.ndarray, "height width 1"]) -> tuple[UInt16[np.ndarray, "height width"], float]:
    """(integers, scale): depth = integer · scale in scene units, 0 where nothing is; the largest depth is 65535."""
    z = np.nan_to_num(np.asarray(depth, np.float64)[..., 0], posinf=0, neginf=0).clip(min=0)
    scale = max(z.max(), 1e-12) / 65535
    return np.round(z / scale).astype(np.uint16), float(scale)


def normal_picture(normal: Pixels) -> UInt8[np.ndarray, "height width 3"]:
    """(n + 1) / 2 as colour, x red, y green, z blue, in the scene frame; white where the normal is 0."""
    n = np.asarray(normal, np.float32)
    there = np.linalg.norm(n, axis=-1, keepdims=True) > 0.1
    return to_bytes(np.where(there, 0.5 * n + 0.5, 1.0))


def picture_of(
    out: RenderOut, kind: str, span: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """rgb, depth or normal for the eye, the latter two fading to white where alpha does. span: see `depth_picture`."""
    if kind == "rgb":
        return to_bytes(out.rgb.cpu())
    painted = depth_picture(out.depth.cpu().numpy(), span) if kind == "depth" else normal_picture(out.normal.cpu())
    alpha = out.alpha.cpu().clamp(0, 1).numpy()
    return to_bytes(1 - alpha + alpha * (painted / np.float32(255)))


def save_render(
    out: RenderOut,
    folder: Path,
    name: str,
    scene_unit: float = 1.0,
    *,
    show: Sequence[str] = ("rgb", "depth", "normal"),
    transparent: bool = False,
) -> list[Path]:
    """Write what `show` names as folder/kind/name.png, depth also as 16-bit PNG (depth16); the files written.

    transparent: rgb as RGBA, of a view rendered on black (see `cut_out`).
    scene_unit: the capture's units per scene unit. The 16-bit depth carries its scale inside, as PNG text
    "depth_scale": integer · depth_scale is the z-depth in the capture's units.
    """
    stem = Path(name).with_suffix("") if Path(name).suffix.lower() in (".png", ".jpg", ".jpeg") else Path(name)
    written = []

    def save(kind: str, pixels: np.ndarray, text: dict[str, str] | None = None) -> None:
        written.append(folder / kind / stem.with_name(stem.name + ".png"))
        save_png(written[-1], pixels, text)

    for kind in show:
        save(kind, cut_out(out) if kind == "rgb" and transparent else picture_of(out, kind))
        if kind == "depth":
            integers, scale = depth_to_16_bit(out.depth.cpu().numpy())
            save("depth16", integers, {"depth_scale": repr(scale * scene_unit)})
    return written


def save_png(path: Path, pixels: np.ndarray, text: dict[str, str] | None = None) -> None:
    """Write 8-bit RGB or RGBA or 16-bit grey, making the folder; UserError where it fails. text: PNG text entries.

    Compressed fast: the library's own choice takes three times as long, for files a twelfth smaller.
    """
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    with replacing(path) as part:
        Image.fromarray(pixels).save(part, format="PNG", pnginfo=info, compress_level=1)


def save_film(path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], fps: float = 24.0) -> None:
    """Write frames of one size as H.264 in .mp4, one at a time; odd sizes are widened by repeating the last pixels.

    Nothing appears at `path` unless all frames were written. Raises UserError where that fails.
    """
    film, count = None, 0
    with replacing(path) as part:
        try:
            for frame in frames:
                even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
                if film is None:
                    size = (even.shape[1], even.shape[0])
                    how = {"macro_block_size": 1, "output_params": ["-crf", "17"], "ffmpeg_log_level": "quiet"}
                    film = imageio_ffmpeg().write_frames(str(part), size, fps=fps, **how)
                    film.send(None)
                count += 1
                try:
                    film.send(np.ascontiguousarray(even))
                except OSError:  # ffmpeg has gone; it says why to nobody
                    raise _film_stopped(part) from None
        finally:
            if film is not None:
                film.close()
        if film is None:
            raise UserError(f"{path}: a film needs at least one picture.")
        try:
            whole = imageio_ffmpeg().count_frames_and_secs(str(part))[0] == count
        except RuntimeError:
            whole = False
        if not whole:  # ffmpeg drops what it cannot write
            raise _film_stopped(part)


def _film_stopped(part: Path) -> OSError:
    full = free_space(part) < MIB
    return OSError(errno.ENOSPC if full else errno.EIO, "no space" if full else "ffmpeg could not write all frames")


def comparison(rows: Sequence[Sequence[Pixels]], labels: Sequence[str]) -> UInt8[np.ndarray, "height width 3"]:
    """Pictures of one size in rows, e.g. truth beside result, on white with thin gaps and a label over each column."""
    gap, strip = 4, 16
    height, width = np.asarray(rows[0][0]).shape[:2]
    sheet = np.full((strip + len(rows) * (height + gap) - gap, len(labels) * (width + gap) - gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            y, x = strip + i * (height + gap), j * (width + gap)
            sheet[y : y + height, x : x + width] = to_bytes(picture)
    canvas = Image.fromarray(sheet)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for j, label in enumerate(labels):
        draw.text((j * (width + gap) + 3, 2), label, fill=(60, 60, 60), font=font)
    return np.asarray(canvas)
