"""Masks that lie beside photos without poses: found, told from photos, and brought into a capture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from neural3d.errors import UserError
from neural3d.images.colour import eight_bit
from neural3d.images.formats import UNREADABLE, open_photo, orientation_of
from neural3d.scene.capture import find_mask

NOTHING = 16  # coverage of 255 below which a mask means none: what JPEG leaves in its black
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip  # EXIF's orientations


def pair_masks(pictures: Sequence[Path], folder: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Which of the pictures below a folder are photos, and the mask of each that has one.

    Masks are looked for as in a capture (see `find_mask`), in folders of masks beside `folder`, in it, or beside the
    photo itself.
    """
    photos = [p for p in pictures if not p.stem.endswith(".mask")]
    masks = {}
    for photo in photos:
        places = ((folder, folder.parent), (folder, folder), (photo.parent, photo.parent))
        if mask := next(filter(None, (find_mask(photo, *place) for place in places)), None):
            masks[photo] = mask
    taken = set(masks.values())
    photos = [p for p in photos if p not in taken]
    return photos, {photo: masks[photo] for photo in photos if photo in masks}


def write_mask(mask: Path, photo: Path, target: Path, size: tuple[int, int], orientation: int) -> None:
    """A photo's mask for its upright copy of `size`: one channel, 255 where the photo counts, black where it does not.

    It is turned as EXIF turns the photo, unless it stands upright already (by its shape) or says itself how to turn it.
    Raises UserError where it is no picture or has another shape than its photo.
    """
    try:
        with open_photo(mask) as file:
            says = orientation_of(file) != 1
            turned = eight_bit(ImageOps.exif_transpose(file))
    except UNREADABLE as error:
        raise UserError(f"Mask {mask} cannot be read ({error}); repair it, or move it away.") from None
    coverage = turned.convert("RGBA").getchannel("A") if turned.has_transparency_data else turned.convert("L")
    if orientation in TURNS and not says and not (orientation >= 5 and _alike(coverage.size, size)):
        coverage = coverage.transpose(TURNS[orientation])
    if not _alike(coverage.size, size):
        width, height = coverage.size
        raise UserError(
            f"Mask {mask} is {width}×{height} but its photo {photo.name} {size[0]}×{size[1]}; make it the photo's "
            "size, or move it away."
        )
    pixels = np.asarray(coverage if coverage.size == size else coverage.resize(size, Image.Resampling.BOX))
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(pixels < NOTHING, 0, pixels).astype(np.uint8)).save(target, compress_level=1)


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures have one shape, to within rounding of the smaller one's size."""
    return abs(size[0] / other[0] * other[1] / size[1] - 1) <= 2 / min(*size, *other)
