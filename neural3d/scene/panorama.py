"""Panoramas: pictures of 360° × 180° in equirectangular projection. Posed ones are cut; those without are noticed.

A panorama becomes the six faces of a cube about its camera, pinhole views of 90° × 90° that share all directions:
whatever asks cameras for their field, near, far or bounds then has pinholes to do with, as has every renderer. A face
has W / π pixels a side, which in its middle makes as many per radian as the panorama's W / 2π. Faces are resampled from
the panorama whenever they are looked at (`scene.undistort`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import torch
from jaxtyping import UInt8

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import Capture, Frame
from neural3d.scene.undistort import is_panorama

WHOLE = 0.01  # by which width / height may differ from 2, for rounding
# Rotations of a face's axes into the panorama's: x right, y down, z forward.
FACES = {
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "right": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "back": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "left": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "up": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "down": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}
STRUCTURE = 0.25  # least correlation of two columns' vertical slopes from which they may be neighbours …
ALIKE = 0.5  # … and least part of what true neighbours have


def cut_panoramas(capture: Capture) -> None:
    """Replaces every EQUIRECTANGULAR frame, at its photo's size, by NAME_front, NAME_right and so on.

    Raises UserError for one that is not twice as wide as high: a part of a sphere says nowhere which part.
    """
    whole = [frame for frame in capture.frames if is_panorama(frame.camera)]
    if not whole:
        return
    capture.frames = [part for f in capture.frames for part in (_faces(f) if is_panorama(f.camera) else [f])]
    side = next(f.camera.width for f in capture.frames if f.lens is not None)
    capture.notes.append(
        f"{len(whole)} panoramas are cut into {6 * len(whole)} pinhole views of 90° × 90°, {side} px a side: the faces "
        "of cubes about their cameras."
    )


def _faces(frame: Frame) -> list[Frame]:
    camera = frame.camera
    if abs(camera.width / camera.height / 2 - 1) > WHOLE:
        raise UserError(
            f"{frame.image_path} is {camera.width}×{camera.height}, but a panorama of 360° × 180° is twice as wide as "
            f"high; export it whole, or correct 'camera_model' in {frame.source.name}."
        )
    side = max(1, round(camera.width / math.pi))
    params = torch.full((4,), side / 2, dtype=torch.float64)
    path, faces = PurePosixPath(frame.name), []
    for face, axes in FACES.items():
        rotation = torch.eye(4, dtype=torch.float64)
        rotation[:3, :3] = torch.tensor(axes, dtype=torch.float64)
        part = Camera("PINHOLE", side, side, params, camera.world_from_camera @ rotation)
        name = path.with_name(f"{path.stem}_{face}{path.suffix}").as_posix()
        faces.append(replace(frame, name=name, camera=part, lens=camera))
    return faces


def looks_panoramic(size: tuple[int, int], grey: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether a picture twice as wide as high goes on from its right side at its left, as a panorama does.

    size: of the stored picture; grey: a small copy. The vertical slopes of the two sides' columns must agree about as
    well as those of true neighbours: levels alone would, in any picture with the sky above and the ground below.
    """
    if abs(size[0] / size[1] / 2 - 1) > WHOLE or min(grey.shape) < 16:
        return False
    slopes = np.diff(grey.astype(np.float64), axis=0)
    slopes -= slopes.mean(0)
    slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-9)
    neighbours = np.median((slopes[:, 1:] * slopes[:, :-1]).sum(0))
    seam = (slopes[:, 0] * slopes[:, -1]).sum()
    return bool(seam > max(STRUCTURE, ALIKE * neighbours))
