"""3D Scanner App's "All Data" (Laan Labs; samples in https://github.com/laanlabs/3dScannerApp_samples):

    frame_00000.json   of every frame; frame_00000.jpg of some; depth_00000.png, conf_00000.png

A frame's file has `intrinsics`, the rows of K in pixels of the photo, and `cameraPoseARFrame`, the rows of the 4 × 4
matrix to ARKit's world from its camera.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neural3d.errors import UserError
from neural3d.images.reading import read_header
from neural3d.scene.capture import Capture, Frame, find_picture, head_of, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.arkit import arkit_camera, arkit_capture, points_of_depth
from neural3d.scene.readers.reader import Reader


def find_scanner3d(path: Path) -> Path | None:
    """A folder whose first frame says where ARKit's camera was."""
    first = min(path.glob("frame_*.json"), default=None) if path.is_dir() else None
    return path if first and b'"cameraPoseARFrame"' in head_of(first) else None


def read_scanner3d(folder: Path, options: SceneOptions) -> Capture:
    frames = []
    for file in sorted(folder.glob("frame_*.json")):
        if photo := find_picture(file.with_suffix("")):
            frames.append(_frame(file, photo))
    if not frames:
        raise UserError(f"{folder} holds no photos (frame_00000.jpg) beside its cameras; share the scan as All Data.")
    capture = arkit_capture("scanner3d", folder, frames)
    capture.points = points_of_depth(
        frames,
        lambda photo: photo.with_name(photo.name.replace("frame_", "depth_")).with_suffix(".png"),
        lambda photo: photo.with_name(photo.name.replace("frame_", "conf_")).with_suffix(".png"),
    )
    return capture


def _frame(file: Path, photo: Path) -> Frame:
    entry = read_json(file)
    k, pose = _matrix(file, entry.get("intrinsics"), 3), _matrix(file, entry.get("cameraPoseARFrame"), 4)
    if min(k[0, 0], k[1, 1]) <= 0:
        raise UserError(f"{file}: 'intrinsics' must have positive focal lengths; share the scan again.")
    width, height, _ = read_header(photo)
    middle = k[:2, 2] + 0.5  # of centres at whole numbers: so ARKit's own `projectionMatrix` beside it has them
    camera = arkit_camera((k[0, 0], k[1, 1], *middle), (width, height), pose, str(file))
    return Frame(photo.name, camera, photo, source=file)


def _matrix(file: Path, numbers: object, side: int) -> np.ndarray:
    try:
        matrix = np.asarray(numbers, np.float64).reshape(side, side)
    except (TypeError, ValueError):
        matrix = np.full((side, side), np.nan)
    if not np.isfinite(matrix).all():
        raise UserError(f"{file}: a matrix of {side} × {side} numbers is missing or damaged; share the scan again.")
    return matrix


READER = Reader(
    "scanner3d", "3D Scanner App, all data", "frame_00000.json with frame_00000.jpg", find_scanner3d, read_scanner3d
)
