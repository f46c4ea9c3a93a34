"""Stray Scanner: a phone's film and where ARKit saw it stand (https://github.com/kekeblom/StrayVisualizer).

    rgb.mp4   camera_matrix.csv: K of its frames   depth/000000.png   confidence/000000.png: of the LiDAR sensor
    odometry.csv: a line a frame, timestamp, frame, x, y, z, qx, qy, qz, qw, later versions also fx, fy, cx, cy

Poses are to ARKit's world from the camera, in OpenCV's camera frame: StrayVisualizer hands them to Open3D as they are.
K is ARKit's, whose pixels have their centres at whole numbers.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import torch

from neural3d.disk import writing
from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.images.reading import read_header
from neural3d.images.video import write_sharpest_frames
from neural3d.scene.capture import Capture, Frame, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.arkit import MOST, arkit_capture, points_of_depth
from neural3d.scene.readers.files import guarded, head, numbers
from neural3d.scene.readers.reader import Reader

FILM, MATRIX, ODOMETRY, FRAMES = "rgb.mp4", "camera_matrix.csv", "odometry.csv", "rgb-frames"
POSE, PINHOLE = ("x", "y", "z", "qx", "qy", "qz", "qw"), ("fx", "fy", "cx", "cy")


def find_stray(path: Path) -> Path | None:
    """A folder with a film, its camera and its odometry."""
    known = path.is_dir() and (path / FILM).is_file() and (path / MATRIX).is_file()
    return path if known and set(POSE) <= set(_columns(head(path / ODOMETRY).partition("\n")[0])) else None


def _columns(line: str) -> list[str]:
    return [name.strip() for name in line.split(",")]


def read_stray(folder: Path, options: SceneOptions) -> Capture:
    return guarded(folder / ODOMETRY, lambda: _read(folder))


def _read(folder: Path) -> Capture:
    file, photos = folder / ODOMETRY, _photos(folder)
    k = numbers((folder / MATRIX).read_text().replace(",", " "), (3, 3), MATRIX)
    with file.open(newline="") as stream:
        rows = {int(row["frame"]): row for row in csv.DictReader(stream, _columns(stream.readline()))}
    frames = []
    for number, photo in photos.items():
        if (row := rows.get(number)) is None:
            continue
        given = [row.get(name) or "" for name in PINHOLE]
        own = [float(x) for x in given] if all(x.strip() for x in given) else [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
        fx, fy, cx, cy = numbers(own, (4,), f"intrinsics of frame {number}")
        x, y, z, qx, qy, qz, qw = numbers([float(row[name]) for name in POSE], (7,), f"the pose of frame {number}")
        rotation = rotation_from_quaternion(torch.tensor([qw, qx, qy, qz])).numpy()
        pose = pose_from(np.column_stack([rotation, [x, y, z]]), f"{file}, frame {number}")
        params = torch.tensor([fx, fy, cx + 0.5, cy + 0.5], dtype=torch.float64)
        frames.append(Frame(photo.name, Camera("PINHOLE", *read_header(photo)[:2], params, pose), photo, source=file))
    if not frames:
        raise UserError(f"{file} has no pose for any frame of {FILM}; share the scan again.")
    capture = arkit_capture("stray", folder, frames)
    capture.notes.append(f"{len(frames)} sharp frames of {FILM} were written into {FRAMES} beside it.")
    capture.points = points_of_depth(
        frames,
        lambda photo: folder / "depth" / f"{_number(photo):06d}.png",
        lambda photo: folder / "confidence" / f"{_number(photo):06d}.png",
    )
    return capture


def _number(photo: Path) -> int:
    return int(photo.stem.rpartition("_")[2])


def _photos(folder: Path) -> dict[int, Path]:
    """The film's sharpest frames by their number, written into a folder beside it at the first time."""
    frames = folder / FRAMES
    if not frames.is_dir():
        partial = folder / f"{FRAMES}.partial"
        try:
            with writing(frames):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                write_sharpest_frames(folder / FILM, partial, MOST, lambda done, of: None)
                partial.rename(frames)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {_number(photo): photo for photo in sorted(frames.glob("frame_*.jpg"))}


READER = Reader("stray", "Stray Scanner", "rgb.mp4 with camera_matrix.csv and odometry.csv", find_stray, read_stray)
