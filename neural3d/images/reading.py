"""Photos and masks: checked by their header when a scene is loaded, decoded only when somebody looks.

All downscaling is area averaging; colours under transparency are averaged premultiplied, so that what is hidden under
alpha 0 cannot bleed into the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from neural3d.errors import UserError
from neural3d.images.colour import eight_bit, srgb
from neural3d.images.formats import UNREADABLE, comes_upright, missing_readers, open_photo, orientation_of, read_size


def read_header(path: Path) -> tuple[int, int, bool]:
    """Width, height, and whether the file has an alpha channel. Reads a few hundred bytes.

    Raises UserError where the file is missing or no picture.
    """
    try:
        return read_size(path)
    except (ImportError, *UNREADABLE) as error:
        raise _unreadable(path, error, "is no readable picture") from None


def _unreadable(path: Path, error: Exception, what: str) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing; put it back or remove its entry from the capture.")
    if missing := missing_readers([path]):
        return UserError(missing[0][1])
    return UserError(f"{path} {what} ({error}); copy it again from its source.")


def lies_on_its_side(path: Path) -> bool:
    """Whether EXIF asks viewers to turn the stored picture by 90°."""
    with open_photo(path) as picture:
        return not comes_upright(picture) and orientation_of(picture) >= 5


def _decode(path: Path, width: int, height: int, mask: bool = False) -> Image.Image:
    """The decoded picture, at least width × height: RGBA if it is transparent, else RGB in sRGB; L of a mask."""
    try:
        with open_photo(path) as file:
            if file.format in ("JPEG", "MPO") and (shrink := _jpeg_shrink(file.size, width, height)) > 1:
                file.draft(None, (file.width // shrink, file.height // shrink))  # the decoder skips what is not needed
            file.load()
            picture = eight_bit(file)
            if mask:  # how much counts, not a colour
                return picture.convert("RGBA" if picture.has_transparency_data else "L")
            picture = srgb(picture)
            return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (ImportError, *UNREADABLE) as error:
        raise _unreadable(path, error, "is damaged") from None


def _jpeg_shrink(size: tuple[int, int], width: int, height: int) -> int:
    """The largest of 8, 4, 2 by which the JPEG decoder may shrink so that a whole factor remains for us; else 1."""
    for shrink in (8, 4, 2):
        if size[0] % (shrink * width) == 0 and size[1] % (shrink * height) == 0:
            return shrink
    return 1


def read_image(path: Path, width: int, height: int, alpha: bool) -> UInt8[np.ndarray, "height width channels"]:
    """RGB, or straight-alpha RGBA if `alpha` (opaque where the file has none), area-averaged to width × height.

    Raises UserError where the file is missing or its pixels are damaged.
    """
    picture = _decode(path, width, height)
    shrink = _shrink_premultiplied if picture.mode == "RGBA" else _shrink
    return np.asarray(shrink(picture, width, height).convert("RGBA" if alpha else "RGB"))


def read_mask(path: Path, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """Coverage 0–255 of a mask picture (its alpha where it has one, else its brightness), area-averaged."""
    picture = _decode(path, width, height, mask=True)
    if picture.mode == "RGBA":
        picture = picture.getchannel("A")
    return np.asarray(_shrink(picture, width, height))


def _shrink(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.size == (width, height):
        return picture
    if picture.width % width == 0 and picture.height % height == 0:
        return picture.reduce((picture.width // width, picture.height // height))
    pixels = np.atleast_3d(np.asarray(picture, dtype=np.float32))
    averaged = (area_average(pixels, width, height) + 0.5).astype(np.uint8)
    return Image.fromarray(averaged[..., 0] if picture.mode == "L" else averaged, picture.mode)


def _shrink_premultiplied(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Σ αc / Σ α per colour c, in float: eight-bit premultiplication would band where α is small."""
    if picture.size == (width, height):
        return picture
    pixels = np.asarray(picture, dtype=np.float32)
    weighted = np.dstack([pixels[..., :3] * pixels[..., 3:], pixels[..., 3]])
    averaged = area_average(weighted, width, height)
    averaged[..., :3] /= np.maximum(averaged[..., 3:], 1e-3)  # 1e-3 of 255 is no colour: black where clear
    return Image.fromarray(np.clip(averaged + 0.5, 0, 255).astype(np.uint8), "RGBA")


def area_resized(pixels: UInt8[np.ndarray, "H W C"], width: int, height: int) -> UInt8[np.ndarray, "height width C"]:
    """A decoded picture (grey, RGB or straight-alpha RGBA), area-averaged to width × height."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrink = _shrink_premultiplied if pixels.shape[2] == 4 else _shrink
    picture = shrink(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), width, height)
    return np.asarray(picture).reshape(height, width, -1)


def area_average(pixels: Float[np.ndarray, "H W C"], width: int, height: int) -> Float[np.ndarray, "height width C"]:
    """Mean over each new pixel's rectangle, edges that fall inside old pixels included by their share."""
    return _average_rows(_average_rows(pixels, height).swapaxes(0, 1), width).swapaxes(0, 1)


def _average_rows(pixels: np.ndarray, count: int) -> np.ndarray:
    """Along the first axis: of the old rows that a new one touches, the k-th by its share, for all new ones at once."""
    rows = len(pixels)
    if rows % count == 0:
        return pixels.reshape(count, rows // count, *pixels.shape[1:]).mean(1)
    edges = np.arange(count + 1)[:, None] * (rows / count)
    low, high = edges[:-1], edges[1:]
    touched = np.floor(low).astype(int) + np.arange(int(np.ceil(rows / count)) + 1)
    share = np.clip(np.minimum(high, touched + 1) - np.maximum(low, touched), 0, None) * (count / rows)
    touched = np.minimum(touched, rows - 1)
    averaged = np.zeros((count, *pixels.shape[1:]), np.float32)
    for k in range(touched.shape[1]):
        averaged += share[:, k].astype(np.float32).reshape(-1, *[1] * (pixels.ndim - 1)) * pixels[touched[:, k]]
    return averaged
