"""Photos without poses, or a video, taken as a scene: their cameras are found first, and only once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neural3d.errors import UserError, command_line
from neural3d.scene.objects import holds_captures
from neural3d.sfm.footage import find_footage


def find_quietly(photos: Path, out: Path) -> None:
    """`sfm.process` with its defaults; prints each stage as it begins, and what came out."""
    from neural3d.sfm.solve import SfmOptions, process

    last = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if stage != last:
            print(stage, flush=True)
        last = stage

    found = process(photos, out, SfmOptions(), report)
    print(f"registered {found.registered} of {found.photos} photos", flush=True)


def with_poses(
    scene: Path,
    folder: Path,
    find: Callable[[Path, Path], None] = find_quietly,
    say: Callable[[str], object] = print,
) -> Path:
    """The scene itself; for photos without poses, or a video, the capture in `folder` that is made of them first.

    A capture made there earlier of the same photos is taken. Raises UserError where it is of others, and whatever
    `find(photos, capture)` raises.
    """
    footage = None if holds_captures(scene) else find_footage(scene)
    if footage is None:
        return scene
    from neural3d.sfm.solve import photos_hash, read_report

    out = folder / f"{scene.resolve().stem}-capture"
    if (report := read_report(out)) is None:
        say(f"{scene} has no poses: finding them first, into {out}")
        find(scene, out)
    elif report.photos_hash == photos_hash(footage):
        say(f"poses: those found earlier, in {out} ({report.registered} of {report.photos} photos)")
    else:
        raise UserError(
            f"{out} was made of other photos ({report.source}, or these before they changed); delete it, or make a "
            f"capture elsewhere: {command_line('process', scene, 'CAPTURE')}."
        )
    return out
