"""Reader of Bundler's bundle.out (Snavely et al. 2006), and of what RealityCapture and others write in its format.

A camera is f, k1, k2, then R and t with camera-frame points R X + t. Bundler's camera frame is OpenGL's (x right, y up,
looking along −z); RealityCapture's "Bundler v0.3" without "negative z" has OpenCV's instead, which shows in the points:
they lie in front of the cameras that saw them. The lens is f (1 + k1 r² + k2 r⁴) about the middle of the picture (for
Bundler's own features half a pixel beside it). A text file beside it, one line a camera, names the photos.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.images.reading import read_header
from neural3d.scene.capture import PICTURES, Capture, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.files import (
    find_photos,
    guarded,
    make_frames,
    points_of,
    read_lines,
    recognised,
    unplaced_note,
)
from neural3d.scene.readers.reader import Reader

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])
FOCAL = r"\s+0\s+[-+.\deE]+$"  # what Bundler's list says after a name, of photos whose EXIF told the focal length
LISTS = ("list*.txt", "*list*.txt", "*.lst", "*.imagelist")

find_bundler = recognised(
    ("bundle.out", "bundle/bundle.out", "*.rd.out", "*.out"), lambda head: head.startswith("# Bundle file")
)


def read_bundler(file: Path, options: SceneOptions) -> Capture:
    """The cameras that Bundler placed, and its points."""
    return guarded(file, lambda: _read(file, options))


def _read(file: Path, options: SceneOptions) -> Capture:
    cameras, points, colours, seen = _parse(file)
    placed = [i for i, camera in enumerate(cameras) if camera[0] > 0]
    capture = Capture("bundler", file, [], points_of(points, colours))
    capture.notes += unplaced_note(len(cameras) - len(placed), len(cameras))
    flip = OPENCV_FROM_OPENGL if _looks_backwards(cameras, points, seen) else np.eye(3)
    project = file.parent.parent if file.parent.name == "bundle" else file.parent
    names = _names(file, project, len(cameras))
    photos = find_photos(file, [names[i] for i in placed], options.images, project)
    views = []
    for i, photo in zip(placed, photos):
        f, k1, k2 = cameras[i, :3]
        rotation, t = flip @ cameras[i, 3:12].reshape(3, 3), flip @ cameras[i, 12:]
        pose = pose_from(np.column_stack([rotation.T, -rotation.T @ t]), f"{file}, camera of '{names[i]}'")
        width, height, _ = read_header(photo)
        lens = torch.tensor([f, width / 2, height / 2, k1, k2], dtype=torch.float64)
        views.append(Camera("RADIAL", width, height, lens, pose))
    capture.frames = make_frames(file, photos, views, bool(options.images))
    return capture


def _parse(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cameras (n, 15), points (m, 3), their colours, and the first camera that saw each (−1: none)."""
    _, _, text = file.read_text(encoding="utf-8-sig").partition("\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns of words between the numbers, and stops there
        try:
            values = np.fromstring(text, sep=" ")
        except DeprecationWarning as error:
            raise ValueError(error) from None
    count, many = int(values[0]), int(values[1])
    at = 2 + 15 * count
    cameras = values[2:at].reshape(count, 15)
    if not np.isfinite(cameras).all():
        raise ValueError("cameras of NaN or infinity")
    starts = []
    for _ in range(many):  # place, colour, and of each picture that shows it: camera, feature, x, y
        starts.append(at)
        at += 7 + 4 * int(values[at + 6])
        if not starts[-1] < at <= len(values):
            raise ValueError(f"{many} points announced, {len(starts) - 1} there")
    begin = np.array(starts, dtype=np.int64)[:, None]
    seen = np.where(values[begin + 6] > 0, values[np.minimum(begin + 7, len(values) - 1)], -1)[:, 0].astype(np.int64)
    return cameras, values[begin + np.arange(3)], values[begin + np.arange(3, 6)], seen


def _looks_backwards(cameras: np.ndarray, points: np.ndarray, seen: np.ndarray) -> bool:
    """Whether cameras look along −z: most points have negative z in the camera that saw them; true without points."""
    known = (seen >= 0) & (seen < len(cameras))
    z = (cameras[seen[known], 9:12] * points[known]).sum(1) + cameras[seen[known], 14]
    return bool((z > 0).sum() <= (z < 0).sum())


def _names(file: Path, project: Path, count: int) -> list[str]:
    """The photos' names: of the first list with a line per camera, else of as many photos in one folder."""
    for listing in _lists(file, project):
        lines = list(read_lines(listing))
        if len(lines) == count:
            return [re.sub(FOCAL, "", line) for line in lines]
    for folder in dict.fromkeys(
        (file.parent, file.parent / "images", file.parent.parent, file.parent.parent / "images")
    ):
        pictures = sorted(p.name for p in folder.glob("*") if p.suffix.lower() in PICTURES)
        if len(pictures) == count:
            return [f"{folder.name}/{name}" for name in pictures]
    raise UserError(
        f"{file} has {count} cameras and names no photos; put the list of photos that belongs to it beside it, as "
        f"list.txt with {count} lines, in the cameras' order."
    )


def _lists(file: Path, project: Path) -> Iterator[Path]:
    """Beside the file, in the project, and in the folders that Bundler makes there."""
    for folder in dict.fromkeys((file.parent, project, project / "prepare")):
        for pattern in LISTS:
            yield from (p for p in sorted(folder.glob(pattern)) if p.is_file())


READER = Reader(
    "bundler", "Bundler, RealityCapture", "bundle.out or NAME.out with a list of its photos", find_bundler, read_bundler
)
