"""Polycam's raw export ("Developer mode", LiDAR and room mode), described in https://github.com/PolyCam/polyform:

    keyframes/corrected_images/TIME.jpg   keyframes/corrected_cameras/TIME.json   where Polycam has optimised the poses
    keyframes/images/TIME.jpg             keyframes/cameras/TIME.json             as ARKit tracked them, in every export
    keyframes/depth/TIME.png              keyframes/confidence/TIME.png           of the LiDAR sensor, smaller

A camera's file has fx, fy, cx, cy in pixels of a photo of width × height, and t_00 … t_23, the rows of the 3 × 4 matrix
to ARKit's world from its camera. Corrected photos are without the lens's distortion and black along their borders.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from neural3d.errors import UserError
from neural3d.scene.capture import Capture, Frame, find_picture, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.arkit import arkit_camera, arkit_capture, points_of_depth
from neural3d.scene.readers.reader import Reader

KINDS = (
    ("corrected_cameras", "corrected_images"),
    ("corrected_cameras", "images"),  # optimised poses, and photos as they were taken
    ("cameras", "images"),
)


def find_polycam(path: Path) -> Path | None:
    """The folder `keyframes` in a folder, or that folder itself."""
    if path.name == "keyframes" and _kind(path):
        return path
    return path / "keyframes" if _kind(path / "keyframes") else None


def _kind(keyframes: Path) -> tuple[Path, Path] | None:
    """The best folders of cameras and photos there are."""
    for cameras, images in ((keyframes / c, keyframes / i) for c, i in KINDS):
        if images.is_dir() and next(cameras.glob("*.json"), None):
            return cameras, images
    return None


def read_polycam(keyframes: Path, options: SceneOptions) -> Capture:
    found = _kind(keyframes)
    assert found is not None
    cameras, images = found
    files = sorted(cameras.glob("*.json"))
    photos = {file: find_picture(images / file.stem) for file in files}
    frames = [_frame(file, photo) for file, photo in photos.items() if photo]
    if not frames:
        raise UserError(f"{images} holds none of the photos that {cameras} describes; export the capture again.")
    capture = arkit_capture("polycam", keyframes.parent, frames)
    if cameras.name == "cameras":
        capture.notes.append("The poses are ARKit's: Polycam has not optimised them (corrected_cameras is missing).")
    if images.name == "corrected_images":
        capture.notes.append("Polycam's corrected photos are black along their borders by a few pixels.")
    if len(frames) < len(files):
        capture.notes.append(f"{len(files) - len(frames)} of {len(files)} cameras have no photo and are left out.")
    capture.points = points_of_depth(
        frames,
        lambda photo: keyframes / "depth" / f"{photo.stem}.png",
        lambda photo: keyframes / "confidence" / f"{photo.stem}.png",
    )
    return capture


def _frame(file: Path, photo: Path) -> Frame:
    entry = read_json(file)
    pose = [[_number(file, entry, f"t_{row}{column}") for column in range(4)] for row in range(3)]
    fx, fy, cx, cy, width, height = (_number(file, entry, key) for key in ("fx", "fy", "cx", "cy", "width", "height"))
    if min(fx, fy, width, height) <= 0:
        raise UserError(f"{file}: 'fx', 'fy', 'width' and 'height' must be positive; export the capture again.")
    camera = arkit_camera((fx, fy, cx, cy), (round(width), round(height)), pose, str(file))
    return Frame(photo.name, camera, photo, source=file)


def _number(file: Path, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{file}: '{key}' must be a finite number, not {value!r}; export the capture again.")
    return float(value)


READER = Reader(
    "polycam", "Polycam, raw export",
    "keyframes/corrected_cameras with corrected_images, or keyframes/cameras with images", find_polycam, read_polycam,
)  # fmt: skip
