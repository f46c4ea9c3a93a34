"""Structure from motion: photos or a video go in, a capture with poses comes out. COLMAP does the mathematics.

Schönberger & Frahm, "Structure-from-motion revisited", CVPR 2016 (--mapper incremental); Pan et al., "Global
structure-from-motion revisited", ECCV 2024 (global).

A capture is made in OUT.partial and renamed when it is whole. What an interrupted or failed attempt leaves there, the
next one goes on from, as long as photos and settings are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from neural3d.config import nearest
from neural3d.errors import UserError
from neural3d.geometry.lenses import LENSES
from neural3d.scene import gps
from neural3d.scene.footage import CameraGroup, Footage, Staged, require_footage, stage
from neural3d.scene.sfm_reasons import doubts, read_evidence, remedy, why_missing

EXHAUSTIVE = 150  # photos up to which `auto` matches all pairs
NEIGHBOURS = 10  # sequential: each photo with so many next ones, and with those 2, 4, 8, … 512 further on
KEY_PHOTOS = 30  # sequential: so many, evenly spaced, are matched among each other, which closes loops
REPORT = "process.json"

CAMERA_MODELS = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV",
    "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE",
)  # fmt: skip


@dataclass(frozen=True)
class SfmOptions:
    """How cameras are found; each field is an option of `neural3d process`."""

    mapper: Literal["incremental", "global"] = "incremental"
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    camera_model: str = "OPENCV"
    frames: int = 100  # taken of a video
    seed: int = 0


@dataclass
class SfmReport:
    """What came out; OUT/process.json.

    photos: given (of a video: frames taken). registered: those with a pose. error: mean reprojection error in pixels.
    missing: photos without a pose, and why. doubts: what makes all of it suspicious. notes: what else is worth saying.
    metric: the capture's frame is metres, x east, y north, z up.
    source, photos_hash: which photos these were, to know them again.
    """

    source: str
    photos_hash: str
    options: dict[str, Any]
    photos: int
    registered: int
    cameras: int
    error: float
    points: int
    missing: dict[str, str]
    doubts: list[str]
    notes: list[str] = field(default_factory=list)
    metric: bool = False


Report = Callable[[str, int, int], None]  # stage, done, total


def process(source: Path, out: Path, options: SfmOptions, report: Report = lambda *_: None) -> SfmReport:
    """Finds the camera of every photo in a folder, or of the sharpest frames of a video; writes the capture `out`.

    out/images: the photos, upright (hard links where possible). out/masks: the masks that lay beside them.
    out/sparse/0: cameras, poses and points as COLMAP writes them, in metres and +z up where the photos' GPS says so.
    out/process.json: the report. out/sfm.log: COLMAP's own words.
    The same photos, options and number of threads give the same features, matches and random choices; bundle
    adjustment on several threads may sum in another order, so poses then agree to rounding only.

    Raises UserError where there are no two readable photos, `out` exists, pycolmap is missing, or no cameras are found:
    then with the reasons, photo by photo.
    """
    footage = require_footage(source)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists already; choose another folder, or delete it.")
    if options.camera_model not in CAMERA_MODELS:
        raise nearest(options.camera_model, CAMERA_MODELS, "camera model", "--camera-model")
    if options.frames < 2:
        raise UserError(f"--frames must be at least 2, not {options.frames}.")
    if importlib.util.find_spec("pycolmap") is None:
        raise UserError(
            "pycolmap, which finds the cameras, is not installed: pip install pycolmap. Where it has no wheel, run "
            "COLMAP itself; its models are read as they are."
        )
    work = out.with_name(out.name + ".partial")
    try:
        staged = prepare(footage, work, options, report)
        found = solve(work, staged.cameras, footage, options, report)
        written = conclude(footage, work, options, staged, found)
        if out.exists():
            out.rmdir()
        work.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error}); choose another place.") from error
    return written


def photos_hash(footage: Footage) -> str:
    """Changes when a photo or mask is added, removed, renamed or edited (by size and time)."""
    paths = (*footage.photos, *footage.masks.values()) or (footage.path,)
    files = [(os.path.relpath(p, footage.path), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(json.dumps([files, footage.intrinsics]).encode()).hexdigest()


def prepare(footage: Footage, work: Path, options: SfmOptions, report: Report) -> Staged:
    """The photos in work/images, their masks in work/masks, as an earlier attempt left them or anew."""
    asked = [photos_hash(footage), options.camera_model, options.frames if footage.is_video else 0, options.seed]
    note = work / "prepared.json"
    if note.is_file() and (left := json.loads(note.read_text()))["asked"] == asked:
        return Staged([CameraGroup(**group) for group in left["cameras"]], left["unreadable"], left["notes"])
    shutil.rmtree(work, ignore_errors=True)
    what = "choosing frames" if footage.is_video else "reading photos"
    try:
        staged = stage(footage, work / "images", options.frames, lambda done, total: report(what, done, total))
    except UserError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if (readable := sum(len(camera.names) for camera in staged.cameras)) < 2:
        shutil.rmtree(work, ignore_errors=True)
        broken = "".join(f"\n  {name}: {why}" for name, why in staged.unreadable.items())
        raise UserError(f"{footage.path}: {readable} readable photo(s), but it takes at least two.{broken}")
    left = {**staged._asdict(), "asked": asked, "cameras": [dataclasses.asdict(c) for c in staged.cameras]}
    note.write_text(json.dumps(left))
    return staged


def list_pairs(names: list[str], matching: str) -> list[tuple[str, str]]:
    """Which photos to match: all pairs; or neighbours in the order of names, and key photos among each other."""
    count = len(names)
    if matching == "exhaustive":
        near = {(i, j) for i in range(count) for j in range(i + 1, count)}
    else:
        steps = {*range(1, NEIGHBOURS + 1), *(2**k for k in range(NEIGHBOURS))}
        near = {(i, i + step) for i in range(count) for step in steps if i + step < count}
        keys = range(0, count, math.ceil(count / KEY_PHOTOS))
        near |= {(i, j) for i in keys for j in keys if i < j}
    return [(names[i], names[j]) for i, j in sorted(near)]


def camera_params(group: CameraGroup, footage: Footage, model: str) -> str:
    """The start of a camera's parameters from K.txt, without distortion; empty where COLMAP is to guess from EXIF."""
    if footage.intrinsics is None:
        return ""
    fx, fy, cx, cy = footage.intrinsics
    width, height = group.size
    if max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > 0.2:
        raise UserError(
            f"K.txt of {footage.path} puts the principal point at ({cx:g}, {cy:g}) of {width}×{height} photos; scale "
            "it to their size, or move it away."
        )
    known = {"f": (fx + fy) / 2, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    return ",".join(str(known.get(name, 0.0)) for name in LENSES[model].names)


def solve(
    work: Path, cameras: list[CameraGroup], footage: Footage, options: SfmOptions, report: Report
) -> dict[str, Any]:
    """Runs COLMAP in a process of its own; what it says at last (see sfm_worker). Ctrl-C ends it too."""
    names = sorted(name for camera in cameras for name in camera.names)
    matching = options.matching
    if matching == "auto":
        matching = "sequential" if footage.is_video or len(names) > EXHAUSTIVE else "exhaustive"
    pairs = list_pairs(names, matching)
    what = "matching all pairs" if matching == "exhaustive" else "matching neighbours in the order of names"
    (work / "pairs.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs))
    groups = [{"names": c.names, "params": camera_params(c, footage, options.camera_model)} for c in cameras]
    places = {"images": "images", "database": "database.db", "pairs": "pairs.txt", "models": "models", "masks": "masks"}
    job = {
        **{key: str(work / name) for key, name in places.items()},
        "sparse": str(work / "sparse" / "0"),
        "cameras": groups,
        "camera_model": options.camera_model,
        "mapper": options.mapper,
        "seed": options.seed,
        "threads": torch.get_num_threads(),
    }
    message: dict[str, Any] = {}
    with (work / "sfm.log").open("a") as log:
        worker = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("sfm_worker.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        assert worker.stdin and worker.stdout
        try:
            worker.stdin.write(json.dumps(job))
            worker.stdin.close()
            for line in worker.stdout:
                message = json.loads(line)
                if "stage" in message:
                    report(
                        what if message["stage"] == "matching" else message["stage"], message["done"], message["total"]
                    )
        finally:
            if "models" not in message:
                worker.terminate()
            worker.wait()
    if "models" not in message:
        said = (work / "sfm.log").read_text(errors="replace").strip().splitlines()[-1:] or [""]
        raise UserError(
            f"{footage.path}: COLMAP stopped ({said[0].strip()}); its log is {work / 'sfm.log'}. "
            f"Delete {work} to begin anew."
        )
    return message


def conclude(
    footage: Footage,
    work: Path,
    options: SfmOptions,
    staged: Staged,
    found: dict[str, Any],
) -> SfmReport:
    """Writes the report and removes what only the search needed. Raises UserError where there are no cameras."""
    evidence = read_evidence(work / "database.db")
    missing = {**staged.unreadable, **why_missing(evidence, found["models"])}
    count = len(evidence.features) + len(staged.unreadable)
    if not found["models"]:
        reasons = "".join(f"\n  {name}: {why}" for name, why in sorted(missing.items())[:20])
        more = f"\n  and {len(missing) - 20} more" if len(missing) > 20 else ""
        raise UserError(
            f"{footage.path}: no cameras were found for these {count} photos. {remedy(evidence)}{reasons}{more}\n"
            f"Features and matches are kept in {work}, so that another attempt starts with them."
        )
    places = {name: place for camera in staged.cameras for name, place in camera.places.items()}
    measured = gps.align(work / "sparse" / "0", places)
    written = SfmReport(
        source=str(footage.path.resolve()),
        photos_hash=photos_hash(footage),
        options=dataclasses.asdict(options),
        photos=count,
        registered=len(found["models"][0]),
        cameras=len(staged.cameras),
        error=found["error"],
        points=found["points"],
        missing=dict(sorted(missing.items())),
        doubts=doubts(found["angle"], len(found["models"][0]), count),
        notes=staged.notes + ([measured] if measured else []),
        metric=measured is not None,
    )
    (work / REPORT).write_text(json.dumps(dataclasses.asdict(written), indent=1) + "\n")
    shutil.rmtree(work / "models", ignore_errors=True)
    for left in (work / "prepared.json", work / "pairs.txt", *work.glob("*.db*")):
        left.unlink()
    return written


def read_report(capture: Path) -> SfmReport | None:
    """The report of a capture that `process` made; None where there is none."""
    try:
        return SfmReport(**json.loads((capture / REPORT).read_text()))
    except (OSError, ValueError, TypeError):
        return None
