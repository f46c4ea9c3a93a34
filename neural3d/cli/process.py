"""`neural3d process`, and the same as the first step of `train`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neural3d.cli.console import console, option, progress_bar

if TYPE_CHECKING:
    from neural3d.scene.sfm import SfmOptions, SfmReport

SHOWN = 20  # photos without a pose that are named


@dataclass
class Process:
    """Find the cameras of photos or of a video (structure from motion, by COLMAP): makes a capture to train on."""

    photos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTOS")]
    """A folder of photos of one still scene, or a video around it."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The capture's folder; must not exist. Photos are hard-linked or copied into it."""
    mapper: Literal["incremental", "global"] = "incremental"
    """How positions are found: photo by photo, or all at once (GLOMAP; faster on hundreds of photos)."""
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Compare all pairs of photos, or neighbours in the order of their names; auto: all up to 150 photos."""
    camera_model: Annotated[str, option("MODEL")] = "OPENCV"
    """COLMAP's name of the lens: OPENCV fits phones and cameras, SIMPLE_RADIAL few photos, OPENCV_FISHEYE wide ones."""
    frames: int = 100
    """Frames to take of a video: the sharpest of so many equal stretches."""
    seed: int = 0

    def run(self) -> None:
        from neural3d.scene.sfm import SfmOptions

        options = SfmOptions(self.mapper, self.matching, self.camera_model, self.frames, self.seed)
        find_cameras(self.photos, self.out, options)
        console.print(f"done: capture {self.out}; go on with: neural3d train {self.out}")


def find_cameras(photos: Path, out: Path, options: SfmOptions) -> None:
    """`process` with progress shown and its report printed; Ctrl-C says how to go on and ends with 130."""
    from neural3d.scene.sfm import process

    try:
        with SfmProgress() as shown:
            report = process(photos, out, options, shown.update)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the features and matches found so far")
        sys.exit(130)
    print_report(report)


def print_report(report: SfmReport) -> None:
    console.print(
        f"registered {report.registered} of {report.photos} photos, {report.points:,} points, "
        f"mean reprojection error {report.error:.2f} px"
    )
    for doubt in report.doubts:
        console.print(f"[yellow]suspicious:[/] {doubt}")
    for name, why in list(report.missing.items())[:SHOWN]:
        console.print(f"[yellow]not registered:[/] {name}: {why}")
    if len(report.missing) > SHOWN:
        console.print(f"[yellow]not registered:[/] and {len(report.missing) - SHOWN} more; see process.json")


def with_poses(scene: Path, folder: Path, seed: int) -> Path:
    """`scene.poses.with_poses` with progress shown."""
    from neural3d.scene import poses
    from neural3d.scene.sfm import SfmOptions

    return poses.with_poses(
        scene, folder, lambda photos, out: find_cameras(photos, out, SfmOptions(seed=seed)), console.print
    )


class SfmProgress:
    """A bar for each stage on a terminal; a line at its beginning, its end and every few seconds elsewhere."""

    def __init__(self) -> None:
        self.bar = progress_bar() if console.is_terminal else None
        self.stage, self.last_line = "", 0.0
        self.task: Any = None

    def __enter__(self) -> SfmProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        new, self.stage = stage != self.stage, stage
        if self.bar is not None:
            if new:
                self.task = self.bar.add_task(stage, total=total)
            self.bar.update(self.task, completed=done)
        elif new or done == total or time.monotonic() - self.last_line >= 5:
            self.last_line = time.monotonic()
            print(f"{stage}: {done} of {total}", flush=True)
