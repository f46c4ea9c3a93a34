"""Sparse points of a COLMAP model for cameras that another file describes, in the same frame or a similar one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from neural3d.scene.capture import Capture
from neural3d.scene.readers.colmap import read_model, read_points

SAME = 1e-2  # of the cameras' spread: how far centres may lie from the model's


def adopt_points(capture: Capture, folder: Path) -> None:
    """Takes the model's points into the capture if the photos both know agree on a similarity between their frames."""
    points = read_points(folder)
    theirs = {PurePosixPath(p.name).name: p.world_from_camera.numpy() for p in read_model(folder).photos}
    pairs = [
        (frame.camera.world_from_camera.numpy(), theirs[frame.image_path.name])
        for frame in capture.frames
        if frame.image_path.name in theirs
    ]
    if points is None:
        return
    if len(pairs) < 2:
        capture.notes.append(f"Points in {folder} are not used: the model shares no photos with {capture.path.name}.")
        return
    ours, theirs_ = (np.stack(poses) for poses in zip(*pairs))
    rotation, scale, offset = similarity(ours, theirs_)
    spread = np.linalg.norm(ours[:, :3, 3] - ours[:, :3, 3].mean(0), axis=1).max()
    moved = scale * theirs_[:, :3, 3] @ rotation.T + offset
    error = np.median(np.linalg.norm(moved - ours[:, :3, 3], axis=1)) / max(spread, 1e-12)
    turned = np.median(np.linalg.norm(rotation @ theirs_[:, :3, :3] - ours[:, :3, :3], axis=(1, 2)))
    if error > SAME or turned > 0.05:
        capture.notes.append(
            f"Points in {folder} are not used: its cameras differ from {capture.path.name}'s by {100 * error:.0f} % of "
            "their spread under the best similarity."
        )
        return
    at_rest = abs(scale - 1) < SAME and np.linalg.norm(rotation - np.eye(3)) < SAME
    if at_rest and np.linalg.norm(offset) < SAME * spread:
        capture.points = points
        return
    capture.points = (scale * points[0] @ rotation.T + offset, points[1])
    capture.notes.append(f"Points of {folder} were brought into {capture.path.name}'s frame by their common cameras.")


def similarity(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """R, s, t with o ≈ s R o' + t for camera centres o, o' and R R_i' ≈ R_i for orientations.

    R from the orientations alone (the rotation nearest to Σ R_i R_i'ᵀ), so that cameras on a line suffice.
    """
    u, _, vt = np.linalg.svd(np.einsum("nij,nkj->ik", ours[:, :3, :3], theirs[:, :3, :3]))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    a, b = ours[:, :3, 3], theirs[:, :3, 3] @ rotation.T
    a0, b0 = a - a.mean(0), b - b.mean(0)
    scale = float((a0 * b0).sum() / max((b0 * b0).sum(), 1e-12))
    return rotation, scale, a.mean(0) - scale * b.mean(0)
