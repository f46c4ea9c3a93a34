"""A well-textured still life for structure from motion: a ball on a plain, ray traced in closed form, all of noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from captures import look_at
from jaxtyping import Float, UInt8
from PIL import Image

BALL, RADIUS = np.array([0.0, 0.0, 0.5]), 0.6
FOCAL = 1.1  # of the picture's width


def orbit(count: int, step: float = 0.2, distance: float = 3.0) -> list[np.ndarray]:
    """world_from_camera of cameras around the ball, `step` radians apart, rising and sinking; z is up."""
    poses = []
    for i in range(count):
        height = 1.6 + 0.4 * math.sin(1.3 * i * step / 0.2)
        eye = [distance * math.cos(i * step), distance * math.sin(i * step), height]
        poses.append(look_at(eye, (0, 0, 0.3), (0, 0, 1)))
    return poses


def picture(
    pose: np.ndarray, width: int, height: int, seed: int = 0, right: float = 0.0
) -> UInt8[np.ndarray, "height width 3"]:
    """What a pinhole camera of focal length FOCAL · width sees; another seed is another scene.

    right: pixels by which the principal point lies beside the middle.
    """
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2 - right, np.arange(height) + 0.5 - height / 2)
    d = np.stack([x, y, np.full_like(x, FOCAL * width)], -1).reshape(-1, 3) @ pose[:3, :3].T
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    o = pose[:3, 3]
    to_ball = BALL - o
    middle = d @ to_ball
    inside = RADIUS**2 - (to_ball @ to_ball - middle**2)
    t_ball = np.where(inside > 0, middle - np.sqrt(np.maximum(inside, 0)), np.inf)
    t_plain = np.where(d[:, 2] < -1e-3, -o[2] / np.minimum(d[:, 2], -1e-3), 60.0)  # beyond: a far wall
    t = np.minimum(t_ball, np.minimum(t_plain, 60.0))
    points = o + t[:, None] * d
    fine = np.stack([_noise(points * 14, seed + k) for k in range(3)], -1)
    coarse = _noise(points * 3, seed + 7)[:, None]
    rgb = 255 * np.clip(0.5 + 1.3 * (0.6 * fine + 0.4 * coarse - 0.5), 0, 1)
    return rgb.reshape(height, width, 3).astype(np.uint8)


def _noise(x: Float[np.ndarray, "n 3"], seed: int) -> Float[np.ndarray, " n"]:
    """Trilinear noise on the integer lattice, in [0, 1]."""
    table = np.random.default_rng(seed).random(4096)
    cell = np.floor(x).astype(np.int64)
    u = x - cell
    total = np.zeros(len(x))
    for corner in np.ndindex(2, 2, 2):
        at = cell + corner
        value = table[(at[:, 0] * 73856093 ^ at[:, 1] * 19349663 ^ at[:, 2] * 83492791) % 4096]
        total += value * np.prod(np.where(corner, u, 1 - u), axis=1)
    return total


def write_photos(
    folder: Path, poses: list[np.ndarray], size: tuple[int, int] = (400, 300), seed: int = 0, right: float = 0.0
) -> Path:
    """SEED photo 00.jpg, 01 … for each pose, without any pose or EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, pose in enumerate(poses):
        Image.fromarray(picture(pose, *size, seed, right)).save(folder / f"{seed} photo {i:02d}.jpg", quality=92)
    return folder
