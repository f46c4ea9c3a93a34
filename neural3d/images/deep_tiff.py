"""TIFF of more than 8 bits a channel: integers of 9 to 32 bits and floating point, interleaved or planar, by tifffile.

Pillow reads some of these, some wrongly (planes of 16 bits, where 0 is white), and most not at all.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neural3d.images.colour import from_unit

WHITE_IS_ZERO, INKS = 0, 5  # of PhotometricInterpretation
PREMULTIPLIED, STRAIGHT = 1, 2  # of ExtraSamples: kinds of alpha


@dataclass(frozen=True)
class Page:
    """Of a TIFF file. Its size is that of the picture turned upright. deep: more than 8 bits a channel."""

    number: int
    width: int
    height: int
    deep: bool
    alpha: bool


def largest_page(path: Path) -> Page | None:
    """The one to take of all pages, which may be previews and masks; None: this is no TIFF, or damaged."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it grumbles about, we tell as errors or not at all
    try:
        with tifffile.TiffFile(path) as file:
            pages: list[Any] = list(file.pages)
            page = max(pages, key=lambda page: page.imagewidth * page.imagelength)
            alpha = any(kind in (PREMULTIPLIED, STRAIGHT) for kind in page.extrasamples)
            deep = np.ravel(page.bitspersample).max() > 8
            size = int(page.imagewidth), int(page.imagelength)  # damaged, they may be lists
            orientation = page.tags.get("Orientation")
            width, height = size[::-1] if orientation and orientation.value >= 5 else size
            return Page(page.index, width, height, bool(deep), alpha)
    except FileNotFoundError:
        raise
    except Exception:  # tifffile raises what its many parts raise; Pillow says what is wrong
        return None


def open_deep(path: Path, page: Page) -> Image.Image | None:
    """The pixels in 8 bits a channel, with the profile; None where a compression asks for Pillow to try.

    Raises OSError where the file is damaged or no picture of grey, colours or inks.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            found: Any = file.pages[page.number]
            pixels = found.asarray()
    except Exception as error:  # as above
        if "imagecodecs" not in str(error):
            raise OSError(str(error)) from None
        if found.bitspersample == 16 and found.photometric != WHITE_IS_ZERO:
            return None
        raise OSError(
            "its compression takes an extra, pip install 'neural3d[tiff]'; or store it without compression"
        ) from None
    return _as_picture(found, pixels)


def _as_picture(page: Any, pixels: np.ndarray) -> Image.Image:
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise OSError(f"it holds {' × '.join(map(str, pixels.shape)) or 'no'} numbers, which are no picture")
    if pixels.ndim == 3 and page.planarconfig == 2:
        pixels = pixels.transpose(1, 2, 0)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype.kind == "f":
        if np.nanmedian(pixels) > 1:
            raise OSError(f"its numbers reach {np.nanmax(pixels):.4g}, but of floating point 1 is white: divide them")
        pixels = from_unit(pixels)
    else:
        white = 2 ** (page.bitspersample - (pixels.dtype.kind == "i")) - 1
        pixels = np.clip(pixels // (white // 255), 0, 255).astype(np.uint8)
    extra = list(page.extrasamples)
    colours = channels - len(extra)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(colours, "")
    if not mode or (mode == "CMYK") != (page.photometric == INKS):
        raise OSError(f"{colours} channels of kind {page.photometric} are no picture of grey, colours or inks")
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    if page.photometric == WHITE_IS_ZERO:
        pixels[..., :1] = 255 - pixels[..., :1]
    colour = pixels[..., :colours]
    picture = Image.fromarray(np.ascontiguousarray(colour[..., 0] if mode == "L" else colour), mode)
    kinds = [k for k, kind in enumerate(extra) if kind in (PREMULTIPLIED, STRAIGHT)]
    if kinds and mode != "CMYK":
        alpha = pixels[..., colours + kinds[0]]
        if extra[kinds[0]] == PREMULTIPLIED:
            straight = colour.astype(np.float32) * 255 / np.maximum(alpha, 1)[..., None]
            straight = np.minimum(straight + 0.5, 255).astype(np.uint8)
            picture = Image.fromarray(straight[..., 0] if mode == "L" else straight, mode)
        picture.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    if page.iccprofile:
        picture.info["icc_profile"] = page.iccprofile
    return picture
