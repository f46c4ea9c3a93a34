"""What a user may say about a scene: the `[scene]` table of scenes/*.toml and the keywords of `load_scene`."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from neural3d.config import nearest
from neural3d.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class SceneOptions:
    """Overrides; None or 0 leaves the choice to the reader.

    reader: a name of readers.READERS, instead of looking at the files.
    images: folder of photos inside the capture, e.g. "images_4"; they may be smaller than the cameras say.
    downscale: divide the photos' size by this whole number; None: such that they are about 1600 px
        long, and smaller where memory demands it.
    split: "capture" (the capture's own, else every:8) | "every:N" (by name, indices 0, N, 2N, … are held out) | "none".
    train_views: keep only this many training views, as far from each other as they come; 0: all.
    aabb: [[x0, y0, z0], [x1, y1, z1]], the region of interest in the capture's own frame and units.
    unbounded: photos show more than the aabb.
    background: "white" | "black", what pictures with alpha are composited on.
    masks: "ignore" (masked pixels do not count) | "alpha" (masks are the subject's silhouette).
    up: "x", "-x", "y", "-y", "z", "-z" of the capture's frame, or "guess"; None: "z" where the format says so.
    cell: [[x0, y0], [x1, y1]], ground in the scene frame: only this part of the scene. windows:
        [[name, left, top, right, bottom], …], photos that see it and, in pixels of their pinhole copies, where. Both
        are written by `partition`.
    special: what only one reader's captures need, each reader's as its own `Reader.options`; flat keys for the user.
    """

    reader: str | None = None
    images: str | None = None
    downscale: int | None = None
    split: str = "capture"
    train_views: int = 0
    aabb: Any = None
    unbounded: bool | None = None
    background: str | None = None
    masks: str | None = None
    up: str | None = None
    cell: Any = None
    windows: Any = ()
    special: tuple[Any, ...] = ()

    def of(self, kind: type[T]) -> T:
        """One reader's own options, which may not have been said."""
        return next((own for own in self.special if isinstance(own, kind)), kind())


_CHOICES = {
    "background": ("white", "black"),
    "masks": ("ignore", "alpha"),
    "up": ("x", "-x", "y", "-y", "z", "-z", "guess"),
}


def make_options(values: dict[str, Any], where: str, kinds: Sequence[type] = ()) -> SceneOptions:
    """Checked options; UserError names the key, what is allowed, and the nearest known key for an unknown one.

    kinds: of options that single readers have (`readers.OPTIONS`).
    """
    common = {f.name for f in fields(SceneOptions)} - {"special"}
    own = {kind: {f.name for f in fields(kind)} & values.keys() for kind in kinds}
    known = common.union(*({f.name for f in fields(kind)} for kind in kinds))
    for key, value in values.items():
        if key not in known:
            raise nearest(key, known, "key", where)
        if value is not None and key in _CHOICES and value not in _CHOICES[key]:
            raise UserError(f"{where}: {key} = {value!r} must be one of {', '.join(_CHOICES[key])}.")
    special = tuple(kind(**{key: values[key] for key in keys}) for kind, keys in own.items() if keys)
    options = SceneOptions(**{key: value for key, value in values.items() if key in common}, special=special)
    _check(options, where)
    for told in special:
        told.check(where)
    return options


def _check(options: SceneOptions, where: str) -> None:
    if options.downscale is not None and not whole(options.downscale):
        raise UserError(f"{where}: downscale = {options.downscale!r} must be a whole number from 1.")
    if not whole(options.train_views, 0):
        raise UserError(f"{where}: train_views = {options.train_views!r} must be a whole number; 0 means all.")
    if not isinstance(options.split, str) or not re.fullmatch(r"capture|none|every:([2-9]|[1-9]\d+)", options.split):
        raise UserError(f"{where}: split = {options.split!r} must be 'capture', 'none' or 'every:N' with N from 2.")
    if options.aabb is not None and not _is_box(options.aabb):
        raise UserError(f"{where}: aabb = {options.aabb!r} must be [[x0, y0, z0], [x1, y1, z1]], x0 < x1 and so on.")
    if options.cell is not None and not _is_box(options.cell, 2):
        raise UserError(f"{where}: cell = {options.cell!r} must be [[x0, y0], [x1, y1]], x0 < x1 and y0 < y1.")
    if not all(_is_window(window) for window in options.windows):
        raise UserError(f"{where}: windows must be [[name, left, top, right, bottom], …] in whole pixels.")
    if options.unbounded is not None and not isinstance(options.unbounded, bool):
        raise UserError(f"{where}: unbounded = {options.unbounded!r} must be true or false.")
    if options.images is not None and not isinstance(options.images, str):
        raise UserError(f"{where}: images = {options.images!r} must be the name of a folder.")


def whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_window(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 5 or not isinstance(value[0], str):
        return False
    left, top, right, bottom = value[1:]
    return all(whole(x, 0) for x in value[1:]) and left < right and top < bottom


def _is_box(value: Any, sides: int = 3) -> bool:
    try:
        low, high = ([float(x) for x in corner] for corner in value)
        return len(low) == len(high) == sides and all(a < b for a, b in zip(low, high))
    except (TypeError, ValueError):
        return False


def read_toml(path: Path) -> tuple[Path, dict[str, Any], dict[str, dict]]:
    """Capture path, [scene] values and [method.NAME] tables of a scene file.

    `path = "…"` is relative to the file; ${NAME} in it is an environment variable.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); correct it there.") from None
    for key in content:
        if key not in ("path", "scene", "method"):
            raise nearest(key, ["path", "scene", "method"], "key", str(path))
    if not isinstance(content.get("path"), str):
        raise UserError(f'{path} must say where the capture is: path = "FOLDER" in its first line.')
    for table in ("scene", "method"):
        if not isinstance(content.get(table, {}), dict):
            raise UserError(f"{path}: '{table}' must be a table, [{table}].")
    expanded = re.sub(r"\$\{(\w+)\}", lambda match: _variable(match[1], path, content["path"]), content["path"])
    return (path.parent / expanded).resolve(), content.get("scene", {}), content.get("method", {})


def _variable(name: str, toml: Path, path: str) -> str:
    if not (value := os.environ.get(name)):
        raise UserError(
            f"{toml}: its data are in {path}, but the environment variable {name} is not set: export {name}=FOLDER, "
            'the folder that holds the data sets (README, "Ready scenes", says where each comes from); or give a '
            "folder of photos of your own instead of the scene."
        )
    return value
