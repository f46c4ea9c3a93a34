"""What structure from motion starts from: a folder of photos without poses, or a video; and copies of it, upright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neural3d.errors import UserError
from neural3d.images.formats import PICTURES, UNREADABLE, is_photo, missing_readers, open_photo, upright_srgb
from neural3d.images.reading import read_header
from neural3d.images.video import is_video, videos_in, write_sharpest_frames
from neural3d.scene.capture import MASK_FOLDERS
from neural3d.scene.masks import pair_masks, write_mask
from neural3d.scene.readers import holds_capture
from neural3d.sfm.survey import PANORAMA, PhotoStats, blurred, copies, survey

INSIDE = ("images", "input", "image")  # where a folder may keep its photos, if not in itself


@dataclass(frozen=True)
class Footage:
    """photos: none for a video; names are paths below `folder`. intrinsics: fx, fy, cx, cy in pixels from the K.txt
    beside the photos. masks: of those photos that have one. left_out: photos that are not taken, by name, and why.
    """

    path: Path
    photos: tuple[Path, ...] = ()
    intrinsics: tuple[float, float, float, float] | None = None
    folder: Path = Path()
    masks: dict[Path, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def is_video(self) -> bool:
        return not self.photos

    def name(self, photo: Path) -> str:
        return photo.relative_to(self.folder).as_posix()


@dataclass
class CameraGroup:
    """Photos, by name, that one camera took at one zoom: in one folder, of one size, alike in what EXIF says of it.

    focal: in pixels, as EXIF says (see `exif.focal_pixels`); None where it says nothing.
    places: latitude, longitude (degrees) and altitude (metres, WGS 84) of the photos whose EXIF says where they stood.
    """

    size: tuple[int, int]
    names: list[str]
    focal: float | None = None
    places: dict[str, tuple[float, float, float]] = field(default_factory=dict)


class Staged(NamedTuple):
    """unreadable: photos that are of no use, by name, and why. notes: a sentence each on what else is worth a look."""

    cameras: list[CameraGroup]
    unreadable: dict[str, str]
    notes: list[str]


def find_footage(path: Path) -> Footage | None:
    """The photos in a folder and below it without any poses, or a video; None where it is neither.

    Where the folder itself holds none, those in images/ count alone; masks, and folders with poses, are passed over.
    Raises UserError for a K.txt that is no matrix of intrinsics.
    """
    if is_video(path):
        return Footage(path)
    if not path.is_dir() or holds_capture(path):
        return None
    pictures = sorted(_pictures(path))
    folder = path
    if all(p.parent != path for p in pictures):
        folder = next((f for f in (path / i for i in INSIDE) if any(p.is_relative_to(f) for p in pictures)), path)
    photos, masks = pair_masks([p for p in pictures if p.is_relative_to(folder)], folder)
    developed = {p.with_suffix(""): p for p in photos if p.suffix.lower() in PICTURES}
    doubled = {p: developed[p.with_suffix("")] for p in photos if developed.get(p.with_suffix(""), p) != p}
    doubled = {p: other for p, other in doubled.items() if p.suffix.lower() not in PICTURES}
    photos = [p for p in photos if p not in doubled]
    if not photos:
        return None
    left_out = {p.relative_to(folder).as_posix(): f"{o.name} beside it is the same photo" for p, o in doubled.items()}
    return Footage(path, tuple(photos), read_intrinsics(folder), folder, masks, left_out)


def _pictures(folder: Path) -> list[Path]:
    """All photos, or what could be masks of some, in a folder and those below it."""
    found = []
    for here, folders, files in os.walk(folder):
        found += [Path(here, name) for name in files if name[0] != "." and is_photo(Path(name))]
        folders[:] = [f for f in folders if f[0] != "." and f not in MASK_FOLDERS and not holds_capture(Path(here, f))]
    return found


def require_footage(path: Path) -> Footage:
    """As `find_footage`, with a UserError that says what lies there instead, and what to do, where it is neither."""
    footage = find_footage(path)
    if footage is not None:
        if len(footage.photos) == 1:
            raise UserError(f"{path} holds one photo only; poses follow from photos that overlap: take 20 or more.")
        if missing := missing_readers(footage.photos):
            raise UserError(missing[0][1])
        return footage
    if not path.exists():
        raise UserError(f"{path} does not exist; give a folder of photos or a video.")
    if path.is_file():
        raise UserError(f"{path} is neither a folder of photos nor a video that is known by its ending.")
    if holds_capture(path):
        raise UserError(f"{path} is a capture with poses already; train on it as it is, or give its folder of photos.")
    raise UserError(f"{path} holds no photos ({', '.join(PICTURES)}, HEIC or camera raw).{videos_in(path)}")


def read_intrinsics(folder: Path) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy of K.txt (3 × 3, rows fx 0 cx, 0 fy cy, 0 0 1) in the folder or, for images/, beside it."""
    beside = [folder / "K.txt"] + ([folder.parent / "K.txt"] if folder.name in INSIDE else [])
    path = next((p for p in beside if p.is_file()), None)
    if path is None:
        return None
    try:
        k = np.array(path.read_text(encoding="utf-8-sig").split(), np.float64).reshape(3, 3)
    except ValueError:
        k = np.zeros((3, 3))
    if not (np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0 and k[2, 2] == 1):
        raise UserError(f"{path} is no matrix of intrinsics (fx 0 cx, 0 fy cy, 0 0 1); correct it, or move it away.")
    return k[0, 0], k[1, 1], k[0, 2], k[1, 2]


def stage(footage: Footage, folder: Path, frames: int, report: Callable[[int, int], None]) -> Staged:
    """Fills a new folder with the photos, or a video's sharpest frames, and a folder masks/ beside it with their masks.

    Hard links where the disk allows it, else copies; photos that EXIF turns, of another colour space than sRGB, or in a
    format that COLMAP cannot read, are written anew. Names are paths below the footage's folder; they keep letters and
    digits; blanks become underscores, as COLMAP's lists separate by blanks. Of copies one is taken.
    Raises UserError where masks do not fit their photos.
    """
    folder.mkdir(parents=True)
    if footage.is_video:
        written = write_sharpest_frames(footage.path, folder, frames, report)
        return Staged([CameraGroup(read_header(folder / written[0])[:2], written)], {}, [])
    stats, unreadable = survey(footage.photos, report)
    unreadable |= {photo: PANORAMA for photo, one in stats.items() if one.panorama}
    stats = {photo: one for photo, one in stats.items() if not one.panorama}
    doubled = copies(stats)
    taken = {photo: one for photo, one in stats.items() if photo not in doubled}
    names = _new_names(footage, taken)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = pool.map(lambda p: _write(p, taken[p], footage.masks.get(p), folder, names[p]), taken)
        groups: dict[tuple, CameraGroup] = {}
        for (photo, one), failure in zip(taken.items(), failures):
            if failure:
                unreadable[photo] = failure
                continue
            shot = one.shot
            camera = photo.parent, one.size, shot.camera, shot.focal, shot.focal_35mm, shot.focal_pixels
            group = groups.setdefault(camera, CameraGroup(one.size, [], shot.focal_pixels))
            group.names.append(names[photo])
            if shot.place:
                group.places[names[photo]] = shot.place
    notes = [f"{name} is left out: {why}" for name, why in footage.left_out.items()]
    notes += [f"{footage.name(p)} is left out: a copy of {footage.name(first)}" for p, first in doubled.items()]
    if soft := [footage.name(p) for p in blurred(taken)]:
        notes.append(f"blurred, compared with the photos before and after: {', '.join(soft)}")
    return Staged(list(groups.values()), {footage.name(p): why for p, why in unreadable.items()}, notes)


def _new_names(footage: Footage, stats: dict[Path, PhotoStats]) -> dict[Path, str]:
    names: dict[Path, str] = {}
    taken = set()
    for photo, one in stats.items():
        name = Path(re.sub(r"[\s#]", "_", footage.name(photo)))
        name = name if one.as_is else name.with_suffix(".jpg" if one.lossy else ".png")
        while name.as_posix().lower() in taken:
            name = name.with_name(f"_{name.name}")
        names[photo] = name.as_posix()
        taken.add(name.as_posix().lower())
    return names


def _write(photo: Path, one: PhotoStats, mask: Path | None, folder: Path, name: str) -> str:
    """The photo, and its mask, as a capture holds them; why that fails, or nothing."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if one.as_is:
        link_or_copy(photo, target)
    else:
        try:
            with open_photo(photo) as file:
                picture = upright_srgb(file)
        except UNREADABLE as error:
            return f"cannot be read ({error})"
        picture.save(target, quality=95, subsampling=0, exif=picture.info["exif"])
    if mask:
        write_mask(mask, photo, folder.parent / "masks" / f"{name}.png", one.size, one.orientation)
    return ""


def link_or_copy(source: Path | str, target: Path | str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
