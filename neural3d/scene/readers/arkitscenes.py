"""ARKitScenes (Baruch et al., NeurIPS 2021), as https://github.com/apple/ARKitScenes lays a video out, raw or as 3DOD:

    lowres_wide.traj   a line a pose: seconds, axis · angle (radians), translation: the camera from the world, OpenCV's
    lowres_wide/VIDEO_SECONDS.png   lowres_wide_intrinsics/VIDEO_SECONDS.pincam: width height fx fy cx cy
    vga_wide, wide     the same photos, finer      lowres_depth, confidence   of the LiDAR sensor

The world is in metres, +z up. Photos between two poses stand between them: poses come ten times a second, photos more
often. Intrinsics are ARKit's, whose pixels have their centres at whole numbers, divided by as much as the photos.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch

from neural3d.errors import UserError
from neural3d.geometry.bounds import every_nth
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import Capture, Frame, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.arkit import FULL, MOST, arkit_capture, points_of_depth
from neural3d.scene.readers.files import guarded, numbers, unplaced_note
from neural3d.scene.readers.reader import Reader

TRAJECTORY = "lowres_wide.traj"
PHOTOS = ("wide", "vga_wide", "lowres_wide")  # the finest first
GAP = 0.5  # seconds between two poses at most, for a photo to stand between them


def find_arkitscenes(path: Path) -> Path | None:
    """The folder of a video's frames: itself, or VIDEO_frames in it."""
    if path.is_file():
        return path.parent if path.name == TRAJECTORY else None
    files = (path / TRAJECTORY, *sorted(path.glob(f"*_frames/{TRAJECTORY}")))
    return next((file.parent for file in files if file.is_file()), None)


def read_arkitscenes(folder: Path, options: SceneOptions) -> Capture:
    return guarded(folder / TRAJECTORY, lambda: _read(folder))


def _read(folder: Path) -> Capture:
    seconds, poses = _trajectory(folder / TRAJECTORY)
    photos = next((p for name in PHOTOS if (p := sorted((folder / name).glob("*_*.png")))), [])
    placed = [(photo, pose) for photo in photos if (pose := _between(seconds, poses, _seconds(photo))) is not None]
    if not placed:
        raise UserError(f"{folder} holds no photos ({' or '.join(PHOTOS)}) of the time of {TRAJECTORY}; download them.")
    frames = []
    for photo, pose in every_nth(placed, MOST):
        file = photo.parent.with_name(f"{photo.parent.name}_intrinsics") / f"{photo.stem}.pincam"
        camera = guarded(file, partial(_camera, file, pose))
        frames.append(Frame(photo.name, camera, photo, source=file))
    capture = arkit_capture("arkitscenes", folder, frames, up_axis="z")
    capture.notes += unplaced_note(len(photos) - len(placed), len(photos))
    if len(frames) < len(placed):
        capture.notes.append(f"Of {len(placed)} photos with a pose, {len(frames)} are taken, evenly spaced.")
    capture.points = points_of_depth(
        frames, lambda photo: folder / "lowres_depth" / photo.name, lambda photo: folder / "confidence" / photo.name
    )
    return capture


def _trajectory(file: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Seconds (N,), rising, and world_from_camera of each."""
    table = np.loadtxt(file, ndmin=2)
    if table.shape[1] != 7 or not np.isfinite(table).all():
        raise ValueError("its lines must be 7 finite numbers")
    table = table[np.unique(table[:, 0], return_index=True)[1]]
    poses = []
    for row in table:
        rotation = scipy.spatial.transform.Rotation.from_rotvec(row[1:4]).as_matrix()
        poses.append(np.column_stack([rotation.T, -rotation.T @ row[4:]]))
    return table[:, 0], poses


def _seconds(photo: Path) -> float:
    return float(photo.stem.rpartition("_")[2])


def _between(seconds: np.ndarray, poses: list[np.ndarray], at: float) -> np.ndarray | None:
    """world_from_camera (3, 4) at a time; None before the first pose, after the last, and where they are far apart."""
    k = int(np.clip(np.searchsorted(seconds, at), 1, max(1, len(seconds) - 1)))
    if len(seconds) < 2 or not seconds[k - 1] <= at <= seconds[k] or seconds[k] - seconds[k - 1] > GAP:
        return None
    share = (at - seconds[k - 1]) / (seconds[k] - seconds[k - 1])
    ends = scipy.spatial.transform.Rotation.from_matrix([poses[k - 1][:, :3], poses[k][:, :3]])
    rotation = scipy.spatial.transform.Slerp([0, 1], ends)(share).as_matrix()
    return np.column_stack([rotation, (1 - share) * poses[k - 1][:, 3] + share * poses[k][:, 3]])


def _camera(file: Path, pose: np.ndarray) -> Camera:
    width, height, fx, fy, cx, cy = numbers(file.read_text(), (6,), "width height fx fy cx cy")
    middle = np.array([cx, cy]) + 0.5 * max(width, height) / FULL
    params = torch.tensor([fx, fy, *middle], dtype=torch.float64)
    return Camera("PINHOLE", int(width), int(height), params, pose_from(pose, str(file)))


READER = Reader(
    "arkitscenes", "ARKitScenes, raw or 3DOD",
    "lowres_wide.traj with lowres_wide (or vga_wide, wide) and its intrinsics", find_arkitscenes, read_arkitscenes,
)  # fmt: skip
