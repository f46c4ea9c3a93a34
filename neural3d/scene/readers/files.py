"""What the readers of other programs' files share: recognising them, finding the photos they name, making frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree.ElementTree import ParseError

import numpy as np

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import MASK_FOLDERS, PICTURES, Frame, find_mask, head_of

HEAD = 4096  # bytes that tell whose a file is
MOST_FILES = 20  # files of a pattern that are looked into for that
DAMAGE = (ValueError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError, OSError, ParseError)
T = TypeVar("T")


def recognised(patterns: Sequence[str], is_ours: Callable[[str], bool]) -> Callable[[Path], Path | None]:
    """A Reader's find: the file, or the first of a folder that matches one of the patterns and whose head is ours."""

    def find(path: Path) -> Path | None:
        if path.is_file():
            return path if is_ours(head(path)) else None
        found = (file for pattern in patterns for file in islice(sorted(path.glob(pattern)), MOST_FILES))
        return next((file for file in found if file.is_file() and is_ours(head(file))), None)

    return find


def head(file: Path) -> str:
    """The beginning of a file as text, whatever it is; "" where it cannot be read."""
    return head_of(file, HEAD).decode("utf-8-sig", errors="replace")


def guarded(file: Path, read: Callable[[], T]) -> T:
    """read(), with what goes wrong in a damaged file said in the user's words."""
    try:
        return read()
    except KeyError as error:
        raise UserError(f"{file} lacks {error}; it may have been cut off: export it again.") from None
    except DAMAGE as error:
        raise UserError(f"{file} is cut off or garbled ({error}); export it again.") from None


def numbers(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Finite float64 of that shape, from nested lists or a text of numbers; ValueError otherwise."""
    given = np.array(values.split() if isinstance(values, str) else values, dtype=np.float64)
    if given.size != np.prod(shape) or not np.isfinite(given).all():
        raise ValueError(f"{what} must be {' × '.join(map(str, shape)) or 'a'} finite numbers")
    return given.reshape(shape)


# --- photos ----------------------------------------------------------------------------------------------------------


def find_photos(file: Path, names: Sequence[str], images: str | None = None, root: Path | None = None) -> list[Path]:
    """The photo for each name: a path on the exporter's machine, of any kind, or a label without folder or ending.

    Looked for below `root` (or in its folder `images`), which is the file's folder unless given; else in the folder
    above and there in images and in the folders that the names end with, but in no others: other captures may lie
    beside this one. Of photos of the same name it is the one whose path ends most like the name, then the least deep,
    then that in images. Raises UserError where photos are missing, or several fit equally well.
    """
    root = root or file.parent
    wanted = [PurePosixPath(name.replace("\\", "/").casefold()).parts for name in names]
    beside = {"images", *(parts[-2] for parts in wanted if parts[1:])}
    places = [(root / images, None), (root.parent / images, None)] if images else [(root, None), (root.parent, beside)]
    found: list[Path | None] = [None] * len(names)
    for place, folders in places:
        if not all(found):
            index = _index(place, folders)
            found = [path or _match(file, parts, place, index) for path, parts in zip(found, wanted)]
    missing = [name for name, path in zip(names, found) if path is None]
    if missing:
        raise UserError(
            f"{file}: photo '{missing[0]}'{f' and {len(missing) - 1} more are' if missing[1:] else ' is'} not below "
            f'{places[0][0]}; put the photos there, or name their folder with images = "FOLDER" in [scene].'
        )
    return [path for path in found if path]


def _index(place: Path, folders: set[str] | None) -> dict[str, list[Path]]:
    """Pictures below a place by their name without ending, whatever its case; masks and hidden folders left out.

    folders: those directly in the place that are looked into, none below them; None: all, and all below them.
    """
    index: dict[str, list[Path]] = {}
    for folder, inside, files in os.walk(place):
        open_to_us = [name for name in inside if name not in MASK_FOLDERS and not name.startswith(".")]
        if folders is not None:
            open_to_us = [name for name in open_to_us if Path(folder) == place and name.casefold() in folders]
        inside[:] = sorted(open_to_us)
        for name in files:
            if os.path.splitext(name)[1].lower() in PICTURES:
                index.setdefault(_stem(name), []).append(Path(folder, name))
    return index


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name.casefold())
    return stem if suffix in PICTURES else name.casefold()  # a label may hold dots of its own


def _match(file: Path, wanted: Sequence[str], place: Path, index: dict[str, list[Path]]) -> Path | None:
    candidates = index.get(_stem(wanted[-1]), []) if wanted else []

    def rank(path: Path) -> tuple[int, bool, int, bool]:
        folders = [part.casefold() for part in path.parts[:-1]]
        alike = 0
        for ours, theirs in zip(reversed(folders), reversed(wanted[:-1])):
            if ours != theirs:
                break
            alike += 1
        other_ending = path.name.casefold() != wanted[-1]
        return -alike, other_ending, len(path.relative_to(place).parts), path.parent.name != "images"

    best = sorted(candidates, key=rank)[:2]
    if len(best) == 2 and rank(best[0]) == rank(best[1]):
        raise UserError(
            f"{file}: '{'/'.join(wanted)}' may be {best[0]} or {best[1]}; name the folder of the photos with "
            'images = "FOLDER" in [scene].'
        )
    return best[0] if best else None


def make_frames(file: Path, photos: Sequence[Path], cameras: Sequence[Camera], any_size: bool) -> list[Frame]:
    """Frames of photos and the cameras that the file gives them, named by their paths below what all have in common."""
    if not photos:
        raise UserError(f"{file} places no photo; align the photos, and export the cameras again.")
    folder = Path(os.path.commonpath([photo.parent for photo in photos]))
    frames = []
    for photo, camera in zip(photos, cameras):
        mask = find_mask(photo, folder, folder) or find_mask(photo, folder, folder.parent)
        name = photo.relative_to(folder).as_posix()
        frames.append(Frame(name, camera, photo, mask, source=file, any_size=any_size))
    return frames


def unplaced_note(count: int, of: int) -> list[str]:
    """What to tell of photos that the program could not place."""
    return [f"{count} of {of} photos have no pose in the file and are left out."] if count else []


def read_lines(file: Path) -> Iterator[str]:
    """Lines of a text, without what surrounds them; empty ones left out."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        yield from filter(None, map(str.strip, stream))


def points_of(places: Iterable[Any], colours: Iterable[Any] | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """A capture's points: (N, 3) float64 and uint8, grey without colours; finite ones only, None if there are none."""
    xyz = np.array(list(places), dtype=np.float64).reshape(-1, 3)
    rgb = np.full(xyz.shape, 128.0) if colours is None else np.array(list(colours), np.float64).reshape(-1, 3)
    if len(xyz) != len(rgb):
        raise ValueError(f"{len(xyz)} points but {len(rgb)} colours")
    finite = np.isfinite(xyz).all(1) & np.isfinite(rgb).all(1)
    return (xyz[finite], np.clip(rgb[finite], 0, 255).astype(np.uint8)) if finite.any() else None
