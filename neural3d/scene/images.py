"""Photos and masks: checked by their header when a scene is loaded, decoded only when somebody looks.

All downscaling is area averaging; colours under transparency are averaged premultiplied, so that what is hidden under
alpha 0 cannot bleed into the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from neural3d.errors import UserError

Image.MAX_IMAGE_PIXELS = None  # photos may be large; Pillow's alarm is meant for web servers
_TRANSPARENT = {"RGBA", "LA", "PA", "RGBa", "La"}
_ORIENTATION = 0x0112  # EXIF tag; 5–8 mean that the stored picture lies on its side


def read_header(path: Path) -> tuple[int, int, bool]:
    """Width, height, and whether the file has an alpha channel. Reads a few hundred bytes.

    Raises UserError where the file is missing or no picture.
    """
    try:
        with Image.open(path) as picture:
            return *picture.size, picture.mode in _TRANSPARENT or "transparency" in picture.info
    except FileNotFoundError:
        raise UserError(f"Photo {path} is missing; put it back or remove its entry from the capture.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no readable picture ({error}); copy it again from its source.") from None


def lies_on_its_side(path: Path) -> bool:
    """Whether EXIF asks viewers to turn the stored picture by 90°."""
    with Image.open(path) as picture:
        return picture.getexif().get(_ORIENTATION, 1) >= 5


def _decode(path: Path, width: int, height: int, opaque: str) -> Image.Image:
    """The decoded picture, at least width × height, as RGBA if it is transparent, else in the mode `opaque`."""
    try:
        with Image.open(path) as file:
            picture: Image.Image = file
            if file.format in ("JPEG", "MPO") and (shrink := _jpeg_shrink(file.size, width, height)) > 1:
                file.draft(None, (file.width // shrink, file.height // shrink))  # the decoder skips what is not needed
            file.load()
            if picture.mode.startswith("I"):  # 16-bit grey: Pillow would clip, not scale
                picture = Image.fromarray((np.asarray(picture) / 257).astype(np.uint8))
            transparent = picture.mode in _TRANSPARENT or "transparency" in picture.info
            return picture.convert("RGBA" if transparent else opaque)
    except FileNotFoundError:
        raise UserError(f"Photo {path} is missing; put it back or remove its entry from the capture.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); copy it again from its source.") from None


def _jpeg_shrink(size: tuple[int, int], width: int, height: int) -> int:
    """The largest of 8, 4, 2 by which the JPEG decoder may shrink without cutting pixels or undershooting; else 1."""
    for shrink in (8, 4, 2):
        fits = width * shrink <= size[0] and height * shrink <= size[1]
        if fits and size[0] % shrink == 0 and size[1] % shrink == 0:
            return shrink
    return 1


def read_image(path: Path, width: int, height: int, alpha: bool) -> UInt8[np.ndarray, "height width channels"]:
    """RGB, or straight-alpha RGBA if `alpha` (opaque where the file has none), area-averaged to width × height.

    Raises UserError where the file is missing or its pixels are damaged.
    """
    picture = _decode(path, width, height, "RGB")
    shrink = _shrink_premultiplied if picture.mode == "RGBA" and picture.size != (width, height) else _shrink
    picture = shrink(picture, width, height)
    return np.asarray(picture.convert("RGBA" if alpha else "RGB"))


def read_mask(path: Path, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """Coverage 0–255 of a mask picture (its alpha where it has one, else its brightness), area-averaged."""
    picture = _decode(path, width, height, "L")
    if picture.mode == "RGBA":
        picture = picture.getchannel("A")
    return np.asarray(_shrink(picture, width, height))


def _shrink(picture: Image.Image, width: int, height: int) -> Image.Image:
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BOX)


def _shrink_premultiplied(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Σ αc / Σ α per colour c, in float: eight-bit premultiplication would band where α is small."""
    pixels = np.asarray(picture, dtype=np.float32)
    alpha = pixels[..., 3]
    shrunk = [np.asarray(_shrink(Image.fromarray(pixels[..., i] * alpha), width, height)) for i in range(3)]
    coverage = np.asarray(_shrink(Image.fromarray(alpha), width, height))
    straight = np.stack([*(c / np.maximum(coverage, 1e-3) for c in shrunk), coverage], -1)  # 0 / 1e-3: black if clear
    return Image.fromarray(np.clip(straight + 0.5, 0, 255).astype(np.uint8), "RGBA")
