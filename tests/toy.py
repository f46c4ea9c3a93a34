"""A capture small enough to train on in seconds: a striped ball on a slab, ray-traced in closed form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

ANGLE = 0.7  # horizontal field of view, radians


def ball_capture(folder: Path, train: int = 16, test: int = 4, size: int = 32) -> Path:
    """Writes a Blender-style capture (RGBA PNGs, transforms_{train,test}.json) and returns its folder."""
    for split, count, shift in (("train", train, 0.0), ("test", test, 0.37)):
        frames = []
        (folder / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            azimuth = 2 * math.pi * (i + shift) / count
            elevation = 0.3 + 0.5 * ((i * 0.618 + shift) % 1)
            pose = look_at(azimuth, elevation)
            name = f"{split}/{i:03d}"
            Image.fromarray(picture(pose, size)).save(folder / f"{name}.png")
            frames.append({"file_path": name, "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


def look_at(azimuth: float, elevation: float, distance: float = 4.0) -> np.ndarray:
    """OpenGL camera-to-world (x right, y up, looking along -z) of a camera that looks at the origin; z is up."""
    back = np.array(
        [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)]
    )
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, back * distance], 1)
    return pose


def picture(pose: np.ndarray, size: int, oversample: int = 3) -> np.ndarray:
    """Straight-alpha RGBA, uint8: mean of oversample² samples per pixel."""
    n = size * oversample
    focal = 0.5 * n / math.tan(0.5 * ANGLE)
    v, u = np.mgrid[:n, :n] + 0.5
    local = np.stack([(u - n / 2) / focal, -(v - n / 2) / focal, -np.ones_like(u)], -1)
    d = local @ pose[:3, :3].T
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    o = pose[:3, 3]

    # The ball: |o + t d|² = r².
    b, c = d @ o, o @ o - 0.8**2
    root = b**2 - c
    t_ball = np.where(root > 0, -b - np.sqrt(np.maximum(root, 0)), np.inf)
    x = o + np.where(np.isfinite(t_ball), t_ball, 0)[..., None] * d
    stripes = np.sin(9 * np.arctan2(x[..., 1], x[..., 0])) > 0
    ball = np.where(stripes[..., None], [0.85, 0.25, 0.2], [0.95, 0.85, 0.6]) * (0.7 + 0.3 * x[..., 2:3] / 0.8)
    # The slab's top, z = -0.8, |x|, |y| < 1.1.
    t_slab = (-0.8 - o[2]) / d[..., 2]
    y = o + t_slab[..., None] * d
    on_slab = (t_slab > 0) & (np.abs(y[..., 0]) < 1.1) & (np.abs(y[..., 1]) < 1.1)
    t_slab = np.where(on_slab, t_slab, np.inf)
    checks = (np.floor(y[..., 0] * 2.5) + np.floor(y[..., 1] * 2.5)) % 2 == 0
    slab = np.where(checks[..., None], [0.2, 0.4, 0.5], [0.7, 0.8, 0.8])

    alpha = np.isfinite(np.minimum(t_ball, t_slab)).astype(float)
    rgb = np.where((t_ball < t_slab)[..., None], ball, slab) * alpha[..., None]
    both = np.concatenate([rgb, alpha[..., None]], -1).reshape(size, oversample, size, oversample, 4).mean((1, 3))
    both[..., :3] /= np.maximum(both[..., 3:], 1e-6)
    return np.round(np.clip(both, 0, 1) * 255).astype(np.uint8)
