"""`neural3d process`, and the same as the first step of `train`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import (
    NOWHERE,
    Number,
    OutOption,
    Output,
    Seed,
    StageProgress,
    coloured,
    console,
    option,
    say_next,
)

if TYPE_CHECKING:
    from neural3d.sfm.solve import SfmOptions, SfmReport

SHOWN = 20  # photos without a pose that are named
TOO_FEW = 3  # exit code where fewer than half of the photos could be placed


@dataclass
class Process:
    """Find the cameras of photos or of a video (structure from motion, by COLMAP): makes a capture to train on.

    Exit code 0 where at least half of the photos could be placed, 3 where fewer were, 2 where none or for bad input.
    """

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """A folder of photos of one still scene, or a video around it."""
    out: Output = NOWHERE
    """The capture's folder; must not exist. Photos are hard-linked or copied into it."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    mapper: Literal["auto", "incremental", "global"] = "auto"
    """How positions are found: photo by photo, or all at once (GLOMAP; faster on hundreds of photos); auto: the first,
    and where that places too few, both."""
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Match all pairs of photos, or neighbours in the order of their names; auto: photos that look alike (of up to
    300), and a film's neighbours."""
    camera_model: Annotated[str, option("MODEL")] = "auto"
    """COLMAP's name of the lens, OPENCV_FISHEYE for very wide ones; auto: the simplest, OPENCV once photos agree."""
    frames: Number = 100
    """Frames to take of a video: the sharpest of so many equal stretches."""
    seed: Seed = 0

    def run(self) -> None:
        from neural3d.sfm.solve import SfmOptions

        options = SfmOptions(self.mapper, self.matching, self.camera_model, self.frames, self.seed)
        find_cameras(self.photos, self.out, options)
        console.print(f"done: capture {self.out}", soft_wrap=True)
        say_next("train", self.out)


def find_cameras(photos: Path, out: Path, options: SfmOptions) -> None:
    """`process` with progress shown and its report printed; Ctrl-C says how to go on.

    Ends with TOO_FEW where fewer than half of the photos could be placed.
    """
    from neural3d.sfm.solve import process

    try:
        with StageProgress() as shown:
            report = process(photos, out, options, shown.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from the features and matches found so far") from None
    require_half(report, out)
    print_report(report)


def require_half(report: SfmReport, out: Path) -> None:
    """Says it before anything else, and ends with TOO_FEW, where fewer than half of the photos could be placed."""
    if not report.under_half:
        return
    few = f"only {report.registered} of {report.photos} photos could be placed"
    console.print(coloured(few, "red") + ": no whole capture")
    print_report(report)
    console.print(f"What was found is in {out}; another try, into another folder beside, takes features and matches.")
    sys.exit(TOO_FEW)


def print_report(report: SfmReport) -> None:
    console.print(
        f"registered {report.registered} of {report.photos} photos, {report.points:,} points, "
        f"mean reprojection error {report.error:.2f} px"
    )
    for note in report.notes:
        console.print(f"note: {note}")
    if len(report.tried) > 1:
        for attempt in report.tried:
            console.print(f"tried: {attempt}")
    for doubt in report.doubts:
        console.print(coloured("warning:"), doubt)
    for name, why in list(report.missing.items())[:SHOWN]:
        console.print(coloured("not registered:"), f"{name}: {why}")
    if len(report.missing) > SHOWN:
        console.print(coloured("not registered:"), f"and {len(report.missing) - SHOWN} more; see process.json")


def with_poses(scene: Path, folder: Path, seed: int) -> Path:
    """`sfm.poses.with_poses` with progress shown."""
    from neural3d.sfm import poses
    from neural3d.sfm.solve import SfmOptions, read_report

    capture = poses.with_poses(
        scene, folder, lambda photos, out: find_cameras(photos, out, SfmOptions(seed=seed)), console.print
    )
    if capture != scene and (report := read_report(capture)):
        require_half(report, capture)
    return capture
