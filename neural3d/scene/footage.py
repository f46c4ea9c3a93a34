"""What structure from motion starts from: a folder of photos without poses, or a video; and copies of it, upright."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from neural3d.errors import UserError
from neural3d.scene.capture import PICTURES
from neural3d.scene.images import read_header
from neural3d.scene.readers import holds_capture
from neural3d.scene.video import describe_video, is_video, write_sharpest_frames

INSIDE = ("images", "input", "image")  # where a folder may keep its photos, if not in itself
HEIC = (".heic", ".HEIC", ".heif", ".HEIF")  # taken for photos, so that they are named where they cannot be read
READ_BY_COLMAP = ("JPEG", "MPO", "PNG", "TIFF", "BMP")
ORIENTATION, EXIF = 0x0112, 0x8769  # EXIF tags: how the picture is to be turned; where the camera's own entries are
MAKE, MODEL, FOCAL, FOCAL_35MM = 0x010F, 0x0110, 0x920A, 0xA405


@dataclass(frozen=True)
class Footage:
    """photos by name, none for a video. intrinsics: fx, fy, cx, cy in pixels from the K.txt beside the photos."""

    path: Path
    photos: tuple[Path, ...] = ()
    intrinsics: tuple[float, float, float, float] | None = None

    @property
    def is_video(self) -> bool:
        return not self.photos


@dataclass
class CameraGroup:
    """Photos, by name, that one camera took at one zoom: of one size, and alike in what EXIF says of the camera."""

    size: tuple[int, int]
    names: list[str]
    focal: float | None = None  # pixels, from EXIF corrected by PixelXDimension; None where it says nothing


def find_footage(path: Path) -> Footage | None:
    """The photos of a folder (its own, or those in images/) without any poses, or a video; None where it is neither.

    Raises UserError for a K.txt that is no matrix of intrinsics.
    """
    if is_video(path):
        return Footage(path)
    if not path.is_dir() or holds_capture(path):
        return None
    for folder in (path, *(path / name for name in INSIDE)):
        if photos := tuple(p for p in sorted(folder.glob("*")) if p.suffix in PICTURES + HEIC and p.name[0] != "."):
            return Footage(path, photos, read_intrinsics(folder))
    return None


def require_footage(path: Path) -> Footage:
    """As `find_footage`, with a UserError that says what lies there instead, and what to do, where it is neither."""
    footage = find_footage(path)
    if footage is not None:
        if len(footage.photos) == 1:
            raise UserError(f"{path} holds one photo only; poses follow from photos that overlap: take 20 or more.")
        return footage
    if not path.exists():
        raise UserError(f"{path} does not exist; give a folder of photos or a video.")
    if path.is_file():
        raise UserError(f"{path} is neither a folder of photos nor a video that is known by its ending.")
    if holds_capture(path):
        raise UserError(f"{path} is a capture with poses already; train on it as it is, or give its folder of photos.")
    names = [p for p in path.rglob("*") if p.is_file() and p.name[0] != "."]
    if inside := next((p.parent for p in sorted(names) if p.suffix in PICTURES), None):
        raise UserError(f"{path} itself holds no photos, but {inside} does; give that folder.")
    raise UserError(f"{path} holds no photos ({', '.join(dict.fromkeys(p.lower() for p in PICTURES))}).")


def describe_footage(footage: Footage) -> list[tuple[str, str]]:
    """Label and value of what is known before any camera is."""
    if footage.is_video:
        meta = describe_video(footage.path)
        width, height = meta["size"]
        return [("video", f"{meta['duration']:.1f} s of {width}×{height} at {meta['fps']:g} frames per second")]
    sizes: Counter[str] = Counter()
    for photo in footage.photos:
        try:
            width, height, _ = read_header(photo)
            sizes[f"{width}×{height}"] += 1
        except UserError:
            sizes["unreadable"] += 1
    rows = [
        ("photos", f"{len(footage.photos)}, without poses"),
        ("photo size", ", ".join(f"{count} of {size}" for size, count in sizes.most_common(4))),
    ]
    if footage.intrinsics:
        fx, fy, cx, cy = footage.intrinsics
        rows.append(("K.txt", f"focal lengths {fx:g}, {fy:g}, principal point ({cx:g}, {cy:g}) px"))
    return rows


def read_intrinsics(folder: Path) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of K.txt (3 × 3, rows fx 0 cx, 0 fy cy, 0 0 1) in the folder or, for images/, beside it."""
    beside = [folder / "K.txt"] + ([folder.parent / "K.txt"] if folder.name in INSIDE else [])
    path = next((p for p in beside if p.is_file()), None)
    if path is None:
        return None
    try:
        k = np.array(path.read_text().split(), np.float64).reshape(3, 3)
    except ValueError:
        k = np.zeros((3, 3))
    if not (np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0 and k[2, 2] == 1):
        raise UserError(f"{path} is no matrix of intrinsics (fx 0 cx, 0 fy cy, 0 0 1); correct it, or move it away.")
    return k[0, 0], k[1, 1], k[0, 2], k[1, 2]


def stage(
    footage: Footage, folder: Path, frames: int, report: Callable[[int, int], None]
) -> tuple[list[CameraGroup], dict[str, str]]:
    """Fills a new folder with the photos, or a video's sharpest frames; their cameras, and what cannot be read and why.

    Hard links where the disk allows it, else copies; photos that EXIF turns, or that COLMAP cannot read, are written
    anew, upright. Names keep letters and digits; blanks become underscores, as COLMAP's lists separate by blanks.
    """
    folder.mkdir(parents=True)
    if footage.is_video:
        names = write_sharpest_frames(footage.path, folder, frames, report)
        return [CameraGroup(read_header(folder / names[0])[:2], names)], {}
    groups: dict[tuple, CameraGroup] = {}
    unreadable = {}
    for i, photo in enumerate(footage.photos):
        report(i, len(footage.photos))
        try:
            staged, camera = _stage_photo(photo, folder)
        except (OSError, SyntaxError, ValueError) as error:
            heic = photo.suffix in HEIC
            unreadable[photo.name] = "is HEIC: convert it to JPEG" if heic else f"cannot be read ({error})"
            continue
        groups.setdefault(camera, CameraGroup(camera[0], [])).names.append(staged)
    report(len(footage.photos), len(footage.photos))
    return list(groups.values()), unreadable


def _stage_photo(photo: Path, folder: Path) -> tuple[str, tuple]:
    """Its name in the folder; its size and what EXIF says of its camera. Decodes it, so that damage is found now."""
    name = re.sub(r"[\s#]", "_", photo.name)
    while (folder / name).exists():
        name = f"_{name}"
    with Image.open(photo) as file:
        exif = file.getexif()
        details = exif.get_ifd(EXIF)
        camera = (exif.get(MAKE), exif.get(MODEL), details.get(FOCAL), details.get(FOCAL_35MM))
        if exif.get(ORIENTATION, 1) == 1 and file.format in READ_BY_COLMAP and file.mode != "CMYK":
            size = file.size
            file.draft("L", (1, 1))  # an eighth of the pixels, but all of the file
            file.load()
            link_or_copy(photo, folder / name)
        else:
            upright = ImageOps.exif_transpose(file)
            size, name = upright.size, str(Path(name).with_suffix(".jpg" if file.format in ("JPEG", "MPO") else ".png"))
            picture = upright.convert("RGBA" if "A" in upright.mode else "RGB")
            picture.save(folder / name, quality=95, subsampling=0, exif=upright.getexif())
    return name, (size, *camera)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
