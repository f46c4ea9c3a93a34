"""What each module here says of itself: whose captures it reads, how they are found, what can be said about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions

Find = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Reader:
    """Of one program's captures.

    name: for `--set scene.reader` and `info`. programs, files: whose captures they are and which files tell, in words.
    find: what it would read in a folder, or the file itself where it is one of these; None where it is not.
    read: the capture of what was found. options: a dataclass of further keys of [scene], which only these captures
    need; its `check(where)` raises UserError. unnamed: ending of files, given by themselves, that it takes although
    their names say nothing.
    """

    name: str
    programs: str
    files: str
    find: Find
    read: Callable[[Path, SceneOptions], Capture]
    options: type | None = None
    unnamed: str | None = None


def named(*patterns: str) -> Find:
    """Finds by name: in a folder the first file of the first pattern that any has."""

    def find(path: Path) -> Path | None:
        if path.is_file():
            return path if any(path.match(pattern) for pattern in patterns) else None
        return next((f for pattern in patterns for f in sorted(path.glob(pattern)) if f.is_file()), None)

    return find
