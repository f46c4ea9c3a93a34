"""What the numbers of a picture mean: any depth, palette, inks or profile as 8 bits a channel of sRGB.

From another colour space that a profile describes (Display P3 of phones, Adobe RGB, inks) littleCMS converts, through
Pillow; a profile that moves no colour by more than rounding costs nothing beyond its first look.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SAME = 3  # of 255: colours that a profile moves by no more are left; sRGB's many profiles differ by 1 or 2
CHANNELS = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}  # a profile's colour space as Pillow's mode
MEANT_FOR = {"RGB": ("L", "LA", "RGB", "RGBA"), "L": ("L", "LA"), "CMYK": ("CMYK",), "LAB": ("LAB",)}


def eight_bit(picture: Image.Image) -> Image.Image:
    """8 bits a channel, transparency as a channel: L, LA, RGB or RGBA; CMYK and LAB as they are. Keeps the profile.

    16 bits lose the lower ones, floating point counts from 0 (black) to 1 (white).
    """
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow would clip, not scale
        grey = np.asarray(picture)
        plain = Image.fromarray((grey // 257).astype(np.uint8))
        if key is not None:
            plain.putalpha(Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8)))
    elif picture.mode == "F":
        plain = Image.fromarray(from_unit(np.asarray(picture)))
    elif picture.mode in ("LA", "RGBA") or (picture.mode in ("L", "RGB", "CMYK", "LAB") and key is None):
        plain = picture
    elif picture.mode == "La":
        plain = picture.convert("LA")
    elif isinstance(key, tuple) and max(key) > 255:  # of a PNG of 16 bits, of which Pillow keeps the upper ones
        plain = picture.copy()
        plain.info["transparency"] = tuple(k >> 8 for k in key)
        plain = plain.convert("RGBA")
    else:
        plain = picture.convert("RGBA" if picture.has_transparency_data else "L" if picture.mode == "1" else "RGB")
    if plain is not picture:
        plain.info = {k: picture.info[k] for k in ("icc_profile", "exif") if k in picture.info}
    return plain


def from_unit(values: np.ndarray) -> np.ndarray:
    """Bytes of floating-point pixels: 0 is black, 1 is white, NaN is black."""
    return (np.clip(np.nan_to_num(values), 0, 1) * 255 + 0.5).astype(np.uint8)


def srgb(picture: Image.Image) -> Image.Image:
    """What `eight_bit` returns, in sRGB: L, LA, RGB or RGBA. Without a profile, inks and Lab are converted as usual."""
    channels, transform = _to_srgb(picture.info.get("icc_profile"), picture.mode)
    if transform is None:
        return picture.convert("RGB") if picture.mode == "CMYK" else picture
    converted = ImageCms.applyTransform(picture.convert(channels), transform)
    assert converted is not None
    if picture.has_transparency_data:
        converted.putalpha(picture.getchannel("A"))
    return converted


def in_srgb(picture: Image.Image) -> bool:
    """Whether colours, in 8 bits or not yet, are sRGB as they stand."""
    mode = picture.mode
    known = mode in ("CMYK", "LAB", "RGBA", "LA")
    mode = mode if known else "L" if mode[0] in "1LIF" else "RGB"
    return mode != "CMYK" and _to_srgb(picture.info.get("icc_profile"), mode)[1] is None


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes | None, mode: str) -> tuple[str, Any]:
    """The channels to hand over and littleCMS' way to sRGB for pictures of a mode; None: colours are as they should be.

    That is where there is no profile, or one that cannot be read, is of other channels than the picture, or is sRGB.
    """
    if profile is None and mode != "LAB":
        return mode, None
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        space = given.profile.xcolor_space if isinstance(given, ImageCms.ImageCmsProfile) else "Lab "
        channels = CHANNELS.get(space, "")
        if mode not in MEANT_FOR.get(channels, ()):
            return mode, None
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), channels, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return mode, None
    return channels, transform if channels not in ("L", "RGB") or _moves(transform, channels) else None


def _moves(transform: Any, channels: str) -> bool:
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(channels)), -1).reshape(1, -1, len(channels))
    swatches = Image.fromarray(colours[..., 0] if channels == "L" else colours)
    moved = ImageCms.applyTransform(swatches, transform)
    return bool(abs(np.asarray(moved, int) - colours).max() > SAME)
