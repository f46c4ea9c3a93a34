"""Structure from motion: photos or a video go in, a capture with poses comes out. COLMAP does the mathematics.

Schönberger & Frahm, "Structure-from-motion revisited", CVPR 2016 (--mapper incremental); Pan et al., "Global
structure-from-motion revisited", ECCV 2024 (global).

A capture is made in OUT.partial and renamed when it is whole. What an interrupted or failed attempt leaves there, the
next one goes on from, as long as the photos are the same. Features and matches stay in the capture (database.db): where
one of the same photos lies beside OUT, its are taken, so that another lens or mapper costs only the mapping.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from neural3d.child import PYTHON, environment
from neural3d.config import nearest
from neural3d.disk import MIB, free_space, no_room, require_writable, writing
from neural3d.errors import UserError
from neural3d.geometry.lenses import LENSES
from neural3d.lock import Lock
from neural3d.plain import from_plain, read_json
from neural3d.scene import gps
from neural3d.sfm.footage import CameraGroup, Footage, Staged, link_or_copy, require_footage, stage
from neural3d.sfm.reasons import doubts, read_evidence, remedy, why_missing

CENTRED = 0.2  # of the picture's size: principal points of K.txt further from the middle are of other photos
SIMILAR = 300  # photos up to which `auto` looks at all pairs, by few features, for those that look alike
NEIGHBOURS = 10  # sequential: each photo with so many next ones, and with those 2, 4, 8, … 512 further on
KEY_PHOTOS = 30  # sequential: so many, evenly spaced, are matched among each other, which closes loops
FEATURE_BYTES = 500_000  # that a photo's features and matches take on disk, about
REPORT, DATABASE, PREPARED = "process.json", "database.db", "prepared.json"

CAMERA_MODELS = (
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV",
    "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE",
)  # fmt: skip


@dataclass(frozen=True)
class SfmOptions:
    """How cameras are found; each field is an option of `neural3d process`."""

    mapper: Literal["auto", "incremental", "global"] = "auto"
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    camera_model: str = "auto"
    frames: int = 100  # taken of a video
    seed: int = 0


@dataclass
class SfmReport:
    """What came out; OUT/process.json.

    photos: given (of a video: frames taken). registered: those with a pose. error: mean reprojection error in pixels.
    missing: photos without a pose, and why. doubts: what makes all of it suspicious. notes: what else is worth saying.
    metric: the capture's frame is metres, x east, y north, z up. lens: COLMAP's name of the camera model. tried: each
    attempt and what it gave. source, photos_hash: which photos these were, to know them again.
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
    lens: str = ""
    tried: list[str] = field(default_factory=list)

    @property
    def under_half(self) -> bool:
        return 2 * self.registered < self.photos


Report = Callable[[str, int, int], None]  # stage, done, total


def process(source: Path, out: Path, options: SfmOptions, report: Report = lambda *_: None) -> SfmReport:
    """Finds the camera of every photo in a folder, or of the sharpest frames of a video; writes the capture `out`.

    out/images: the photos, upright (hard links where possible). out/masks: the masks that lay beside them.
    out/sparse/0: cameras, poses and points as COLMAP writes them, in metres and +z up where the photos' GPS says so.
    out/process.json: the report. out/sfm.log: COLMAP's own words. out/database.db: features and matches, with which
    another attempt at the same photos begins.
    The same photos, options and number of threads give the same features, matches and random choices; bundle
    adjustment on several threads may sum in another order, so poses then agree to rounding only.

    Raises UserError where there are no two readable photos, `out` exists, pycolmap is missing, or no cameras are found:
    then with the reasons, photo by photo.
    """
    footage = require_footage(source)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists already; choose another folder, or delete it.")
    if options.camera_model not in ("auto", *CAMERA_MODELS):
        raise nearest(options.camera_model, CAMERA_MODELS, "camera model", "--camera-model")
    if options.frames < 2:
        raise UserError(f"--frames must be at least 2, not {options.frames}.")
    if importlib.util.find_spec("pycolmap") is None:
        raise UserError(
            "pycolmap, which finds the cameras, is not installed: pip install pycolmap. Where it has no wheel, run "
            "COLMAP itself; its models are read as they are."
        )
    work = out.with_name(out.name + ".partial")
    require_writable(work, 0 if work.exists() else room_needed(footage, work), folder=True)
    with Lock(work.with_name(f".{work.name}.lock"), out) as lock, writing(out):
        try:
            staged = prepare(footage, work, options, report)
            footage = of_these_sizes(footage, staged)
            found = solve(work, staged.cameras, footage, options, report)
            written = conclude(footage, work, options, staged, found)
            if out.exists():
                out.rmdir()
            work.rename(out)
        finally:
            lock.path.unlink(missing_ok=True)
    return written


def room_needed(footage: Footage, work: Path) -> int:
    """Bytes that a capture will take, about: features and matches, and photos that cannot be linked."""
    place = next(folder for folder in work.absolute().parents if folder.exists()).stat().st_dev
    copied = sum(found.st_size for photo in footage.photos if (found := photo.stat()).st_dev != place)
    return copied + len(footage.photos) * FEATURE_BYTES


def photos_hash(footage: Footage) -> str:
    """Changes when a photo or mask is added, removed, renamed or edited (by size and time)."""
    paths = (*footage.photos, *footage.masks.values()) or (footage.path,)
    files = [(os.path.relpath(p, footage.path), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return hashlib.sha256(json.dumps([files, footage.intrinsics]).encode()).hexdigest()


def prepare(footage: Footage, work: Path, options: SfmOptions, report: Report) -> Staged:
    """The photos in work/images, their masks in work/masks, as an earlier attempt left them or anew."""
    asked = [photos_hash(footage), options.frames if footage.is_video else 0]
    note = work / PREPARED
    if not prepared(note, asked):
        shutil.rmtree(work, ignore_errors=True)
        reuse(work, asked)
    if left := prepared(note, asked):
        return Staged([CameraGroup(**group) for group in left["cameras"]], left["unreadable"], left["notes"])
    what = "choosing frames" if footage.is_video else "reading photos"
    try:
        staged = stage(footage, work / "images", options.frames, lambda done, total: report(what, done, total))
    except (UserError, OSError):  # half of the photos are of no use, and may fill the disk
        shutil.rmtree(work, ignore_errors=True)
        raise
    if (readable := sum(len(camera.names) for camera in staged.cameras)) < 2:
        shutil.rmtree(work, ignore_errors=True)
        broken = "".join(f"\n  {name}: {why}" for name, why in staged.unreadable.items())
        raise UserError(f"{footage.path}: {readable} readable photo(s), but it takes at least two.{broken}")
    left = {**staged._asdict(), "asked": asked, "cameras": [dataclasses.asdict(c) for c in staged.cameras]}
    note.write_text(json.dumps(left))
    return staged


def prepared(note: Path, asked: list) -> dict[str, Any] | None:
    """What a note of prepared photos says, where these are the photos asked for."""
    try:
        left = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return left if left.get("asked") == asked else None


def reuse(work: Path, asked: list) -> None:
    """Photos, features and matches of a capture of the same photos that lies beside, if there is one."""
    for note in sorted(work.parent.glob(f"*/{PREPARED}")):
        if prepared(note, asked) and (note.parent / DATABASE).is_file() and (note.parent / REPORT).is_file():
            for folder in ("images", "masks"):
                if (note.parent / folder).is_dir():
                    shutil.copytree(note.parent / folder, work / folder, copy_function=link_or_copy)
            for name in (DATABASE, PREPARED):
                shutil.copyfile(note.parent / name, work / name)
            return


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


def choose_pairs(names: list[str], matching: str, is_video: bool) -> dict[str, Any]:
    """What the job says of matching: pairs, whether to add similar ones, and what to call it.

    auto: photos that look alike; of a film also neighbours in time; of very many photos neighbours alone.
    """
    if matching == "auto" and len(names) <= SIMILAR:
        neighbours = list_pairs(names, "sequential") if is_video else []
        which = "neighbours and similar frames" if is_video else "similar photos"
        return {"pairs": neighbours, "similar": True, "which": which}
    listed = list_pairs(names, "exhaustive" if matching == "exhaustive" else "sequential")
    return {"pairs": listed, "similar": False, "which": "neighbours in the order of names"}


def of_these_sizes(footage: Footage, staged: Staged) -> Footage:
    """With a K.txt of photos that were shrunk since brought to their size, which it says in the notes.

    A principal point near the middle of photos k times larger tells k; what tells nothing is left for `camera_params`.
    """
    if footage.intrinsics is None:
        return footage
    (width, height), (fx, fy, cx, cy) = staged.cameras[0].size, footage.intrinsics
    k = round(cx / width + cy / height)
    if k < 2 or max(abs(cx / k / width - 0.5), abs(cy / k / height - 0.5)) > CENTRED / 4:
        return footage
    staged.notes.append(f"K.txt is of photos {k} times larger: it was scaled to these of {width}×{height}.")
    return dataclasses.replace(footage, intrinsics=(fx / k, fy / k, cx / k, cy / k))


def camera_params(group: CameraGroup, footage: Footage, model: str) -> str:
    """The start of a camera's parameters from K.txt or EXIF, without distortion; empty where COLMAP is to guess."""
    width, height = group.size
    if footage.intrinsics is not None:
        fx, fy, cx, cy = footage.intrinsics
    elif group.focal is not None:
        fx, fy, cx, cy = group.focal, group.focal, width / 2, height / 2
    else:
        return ""
    if max(abs(cx / width - 0.5), abs(cy / height - 0.5)) > CENTRED:
        raise UserError(
            f"K.txt of {footage.path} puts the principal point at ({cx:g}, {cy:g}) of {width}×{height} photos; scale "
            "it to their size, or move it away."
        )
    known = {"f": (fx + fy) / 2, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    return ",".join(str(known.get(name, 0.0)) for name in LENSES[model].names)


def solve(
    work: Path, cameras: list[CameraGroup], footage: Footage, options: SfmOptions, report: Report
) -> dict[str, Any]:
    """Runs COLMAP in a process of its own; what it says at last (see sfm/worker). Ctrl-C ends it too."""
    names = sorted(name for camera in cameras for name in camera.names)
    lens = "SIMPLE_RADIAL" if options.camera_model == "auto" else options.camera_model
    known = None if footage.intrinsics is None else sum(footage.intrinsics[:2]) / 2
    groups = [{"names": c.names, "params": camera_params(c, footage, lens), "focal": known or c.focal} for c in cameras]
    places = {"images": "images", "database": DATABASE, "sparse": "sparse/0", "scratch": "scratch", "masks": "masks"}
    job = {
        **{key: str(work / name) for key, name in places.items()},
        **choose_pairs(names, options.matching, footage.is_video),
        "cameras": groups,
        "lens": lens,
        "fixed_lens": options.camera_model != "auto",
        "mapper": options.mapper,
        "seed": options.seed,
        "threads": torch.get_num_threads(),
    }
    surroundings = {**environment(), "OPENBLAS_NUM_THREADS": "1"}  # matching shares out the cores
    message: dict[str, Any] = {}
    with (work / "sfm.log").open("a") as log:
        worker = subprocess.Popen(
            [*PYTHON, "-m", "neural3d.sfm.worker"], env=surroundings,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        assert worker.stdin and worker.stdout
        try:
            worker.stdin.write(json.dumps(job))
            worker.stdin.close()
            for line in worker.stdout:
                message = json.loads(line)
                if "stage" in message:
                    report(message["stage"], message["done"], message["total"])
        finally:
            if "models" not in message:
                worker.terminate()
            worker.wait()
    if "models" not in message:
        if free_space(work) < MIB:
            raise no_room(work)
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
    evidence = read_evidence(work / DATABASE)
    missing = {**staged.unreadable, **why_missing(evidence, found["models"])}
    count = len(evidence.features) + len(staged.unreadable)
    if not found["models"]:
        reasons = "".join(f"\n  {name}: {why}" for name, why in sorted(missing.items())[:20])
        more = f"\n  and {len(missing) - 20} more" if len(missing) > 20 else ""
        attempts = "".join(f"\n  tried {attempt}" for attempt in found["tried"])
        raise UserError(
            f"{footage.path}: no cameras were found for these {count} photos. {remedy(evidence)}"
            f"{attempts}{reasons}{more}\n"
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
        doubts=doubts(found["angle"], len(found["models"][0]), count, found["miss"]),
        notes=staged.notes + ([measured] if measured else []),
        metric=measured is not None,
        lens=found["lens"],
        tried=found["tried"],
    )
    (work / REPORT).write_text(json.dumps(dataclasses.asdict(written), indent=1) + "\n")
    shutil.rmtree(work / "scratch", ignore_errors=True)
    return written


def read_report(capture: Path) -> SfmReport | None:
    """The report of a capture that `process` made; None where there is none, or a damaged one."""
    path = capture / REPORT
    try:
        return from_plain(SfmReport, read_json(path), str(path))
    except (FileNotFoundError, UserError):
        return None
