"""Captures made harder: each takes a folder of photos and changes it in place, the same way whatever the photos are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

ORIENTATION = 0x0112
QUALITY = 92
BARREL = -0.25  # k of r' = r (1 + k r²), r = 1 at half the longer side: an action camera's
FRINGE = 0.12  # of the shorter side: how far a mask reaches beyond what it cuts out


def photos_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def half(folder: Path) -> None:
    """Every other photo is missing."""
    for path in photos_of(folder)[1::2]:
        path.unlink()


def few(folder: Path) -> None:
    """Twelve photos are left, evenly spaced by name."""
    paths = photos_of(folder)
    kept = {paths[i] for i in np.linspace(0, len(paths) - 1, 12).round().astype(int)}
    for path in set(paths) - kept:
        path.unlink()


def side(folder: Path) -> None:
    """The first half by name: in a walk around something, one side of it."""
    paths = photos_of(folder)
    for path in paths[len(paths) // 2 :]:
        path.unlink()


def shrunk(folder: Path) -> None:
    """A third of the size, while EXIF goes on describing the original."""
    for path in photos_of(folder):
        with Image.open(path) as photo:
            exif = photo.getexif()
            small = photo.resize((photo.width // 3, photo.height // 3), Image.Resampling.LANCZOS)
        small.save(path, quality=QUALITY, exif=exif)


def lens(folder: Path) -> None:
    """Barrel distortion, as of an action camera; no EXIF."""
    for path in photos_of(folder):
        pixels = np.asarray(Image.open(path))
        height, width = pixels.shape[:2]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        u, v = (2 * x + 1 - width) / max(width, height), (2 * y + 1 - height) / max(width, height)
        widest = float((u**2 + v**2).max())
        inverse = 1 / (1 + BARREL * (u**2 + v**2)) * (1 + BARREL * widest)  # corners stay inside the photo
        where = [
            (v * inverse * max(width, height) + height - 1) / 2,
            (u * inverse * max(width, height) + width - 1) / 2,
        ]
        channels = [ndimage.map_coordinates(pixels[..., k], where, order=1) for k in range(pixels.shape[2])]
        Image.fromarray(np.stack(channels, -1)).save(path, quality=QUALITY)


def portrait(folder: Path) -> None:
    """Stored on their side with an orientation tag, as phones do."""
    for path in photos_of(folder):
        with Image.open(path) as photo:
            upright = ImageOps.exif_transpose(photo)
        exif = upright.getexif()
        exif[ORIENTATION] = 6  # to be turned 90° clockwise
        upright.transpose(Image.Transpose.ROTATE_90).save(path, quality=QUALITY, exif=exif)


def exposure(folder: Path) -> None:
    """Every third photo a stop darker, every third one 0.7 stops brighter."""
    for i, path in enumerate(photos_of(folder)):
        with Image.open(path) as photo:
            exif, pixels = photo.getexif(), np.asarray(photo).astype(np.float64) / 255
        linear = pixels[..., :3] ** 2.2 * (1.0, 0.5, 2**0.7)[i % 3]
        colors = np.clip(linear, 0, 1) ** (1 / 2.2)
        changed = np.concatenate([colors, pixels[..., 3:]], -1)
        Image.fromarray((255 * changed).round().astype(np.uint8)).save(path, quality=QUALITY, exif=exif)


def masks(folder: Path) -> None:
    """masks/NAME.png beside photos: of pictures with alpha what they show, of others an ellipse in the middle."""
    (folder / "masks").mkdir()
    for path in photos_of(folder):
        with Image.open(path) as photo:
            if photo.mode == "RGBA":
                kept = photo.getchannel("A").point(lambda a: 255 * (a > 127))
            else:
                y, x = np.mgrid[-1 : 1 : photo.height * 1j, -1 : 1 : photo.width * 1j]
                kept = Image.fromarray((255 * (x**2 + y**2 < (1 - FRINGE) ** 2)).astype(np.uint8))
            kept.save(folder / "masks" / f"{path.stem}.png")
            flat = Image.new("RGB", photo.size, "white")
            flat.paste(photo, mask=photo.getchannel("A") if photo.mode == "RGBA" else None)
            exif = photo.getexif()
        flat.save(path, quality=QUALITY, exif=exif)


def scattered(folder: Path) -> None:
    """Two subfolders, as of two memory cards."""
    for i, path in enumerate(photos_of(folder)):
        target = folder / ("first", "second")[i % 2]
        target.mkdir(exist_ok=True)
        path.rename(target / path.name)


HARDER: dict[str, Callable[[Path], None]] = {
    f.__name__: f for f in (half, few, side, shrunk, lens, portrait, exposure, masks, scattered)
}
