"""A quick look at every photo before anything is made of them: what EXIF says, light, blur, and which are copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from neural3d.images.colour import eight_bit, in_srgb, srgb
from neural3d.images.exif import Shot, read_shot
from neural3d.images.formats import UNREADABLE, comes_upright, open_photo, orientation_of
from neural3d.scene.panorama import looks_panoramic

SIDE = 1000  # pixels of the longer side at which photos are compared
NEAR = 5  # photos before and after one that it is compared with
DEVIATIONS = 4.0  # robust standard deviations of the set by which a blurred photo stands out …
LEAST = 0.1  # … and the least by which, on the blur measure's scale of 0 to 1: all photos of a set may be alike
LOSSY = ("JPEG", "MPO", "HEIF", None)  # None: camera raw, developed, and TIFF of more than 8 bits
PANORAMA = (
    "is a panorama (equirectangular), which no pinhole camera took: cut it into perspective views first, or give its "
    "pose in a transforms.json with camera_model EQUIRECTANGULAR"
)
READ_BY_COLMAP = ("JPEG", "MPO", "PNG", "TIFF", "BMP")
PLAIN = ("L", "RGB", "RGBA")  # channels that COLMAP reads as we do: no palette, no grey with alpha, no 16 bits, no inks


@dataclass(frozen=True)
class PhotoStats:
    """size: in pixels, upright. orientation: EXIF's, of the file.

    as_is: upright, in sRGB and in a format that COLMAP reads; else JPEG serves as well (lossy), or only PNG does.
    blur: from 0, sharp, to 1. light: log2 of the mean linear light, in stops. digest: equal for equal pixels.
    panorama: in equirectangular projection, as no pinhole camera takes it.
    """

    size: tuple[int, int]
    orientation: int
    as_is: bool
    lossy: bool
    shot: Shot
    blur: float
    light: float
    digest: str
    panorama: bool


def measured(photo: Path) -> PhotoStats:
    """Decodes all of the file, so that damage is found, at reduced size. Raises what `formats.open_photo` raises."""
    with open_photo(photo, quick=True) as file:
        orientation, exif = orientation_of(file), file.getexif()
        panorama = "equirectangular" in str(file.info.get("xmp"))  # Google's GPano, which 360° cameras write too
        plain = file.mode in PLAIN and file.has_transparency_data == (file.mode == "RGBA")
        as_is = orientation == 1 and file.format in READ_BY_COLMAP and plain and in_srgb(file)
        lossy = file.format in LOSSY and not file.has_transparency_data
        size = file.info.get("full_size", file.size)
        size = size[::-1] if orientation >= 5 and not comes_upright(file) else size
        file.draft("L", (SIDE, SIDE))  # the decoder skips what is not needed
        small = srgb(eight_bit(file)).convert("L")
        small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        grey = np.asarray(small)
    return PhotoStats(
        size=size,
        orientation=orientation,
        as_is=as_is,
        lossy=lossy,
        shot=read_shot(exif, size),
        blur=blur(grey),
        light=float(np.log2(max(1e-4, ((grey / 255) ** 2.2).mean()))),
        digest=hashlib.sha256(small.tobytes() + f"{size}".encode()).hexdigest(),
        panorama=panorama or looks_panoramic(size, grey),
    )


def blur(grey: UInt8[np.ndarray, "height width"]) -> float:
    """How little a picture loses when it is blurred again, along the axis where that is less: motion blurs one only.

    Crété-Roffet et al., "The blur effect", SPIE 2007: near 0 for sharp pictures, whatever they show, 1 at worst.
    """
    from skimage.measure import blur_effect  # slow to import

    return float(blur_effect(grey)) if min(grey.shape) > 2 else 0.0


def survey(
    photos: Sequence[Path], report: Callable[[int, int], None] = lambda *_: None
) -> tuple[dict[Path, PhotoStats], dict[Path, str]]:
    """Looks at all photos, on all cores; of those that cannot be read, why."""
    stats, unreadable = {}, {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, (photo, one) in enumerate(zip(photos, pool.map(_try_to_measure, photos))):
            report(i + 1, len(photos))
            if isinstance(one, PhotoStats):
                stats[photo] = one
            else:
                unreadable[photo] = one
    return stats, unreadable


def _try_to_measure(photo: Path) -> PhotoStats | str:
    try:
        return measured(photo)
    except UNREADABLE as error:
        return f"cannot be read ({error})"


def copies(stats: Mapping[Path, PhotoStats]) -> dict[Path, Path]:
    """Each photo that repeats another one pixel by pixel, and that one: the one with the shorter name."""
    first: dict[str, Path] = {}
    ordered = sorted(stats, key=lambda p: (len(str(p)), p))  # "1.jpg" before "1 copy.jpg"
    return {p: original for p in ordered if (original := first.setdefault(stats[p].digest, p)) != p}


def blurred(stats: Mapping[Path, PhotoStats]) -> list[Path]:
    """The photos that are much less sharp than those taken just before and after, which show much the same."""
    if not stats:
        return []
    values = np.array([one.blur for one in stats.values()])
    excess = values - [np.median(values[max(0, i - NEAR) : i + NEAR + 1]) for i in range(len(values))]
    deviation = 1.4826 * np.median(abs(excess))  # of a normal distribution's standard deviation
    return [p for p, e in zip(stats, excess) if e > max(DEVIATIONS * deviation, LEAST)]
