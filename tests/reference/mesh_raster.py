"""Triangles drawn face by face, in float64 and over the whole picture, as the equations read."""

from __future__ import annotations

import numpy as np


def mesh_raster(
    pixels: np.ndarray,  # (V, 3)
    faces: np.ndarray,  # (F, 3)
    width: int,
    height: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns face (H, W), barycentrics (H, W, 3) and depth (H, W) of one picture."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    seen = np.full((height, width), -1)
    barycentrics, depth = np.zeros((height, width, 3)), np.full((height, width), np.inf)
    for f, corners in enumerate(pixels.astype(np.float64)[faces]):
        b, d = on_plane(corners, x, y)
        nearer = covers(corners, x, y) & (d > 0) & (d < depth)
        seen[nearer], barycentrics[nearer], depth[nearer] = f, b[nearer], d[nearer]
    return seen, barycentrics, np.where(seen < 0, 0, depth)


def homogeneous(corners: np.ndarray) -> np.ndarray:
    """(x z, y z, z): places in space, seen by a camera for which pixels are x and y divided by z."""
    return corners * np.stack([corners[:, 2], corners[:, 2], np.ones(3)], 1)


def on_plane(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays (x, y, 1) meet the plane of the corners: barycentrics (..., 3) and depth (...)."""
    points = homogeneous(corners)
    with np.errstate(all="ignore"):
        if np.linalg.det(points) == 0:
            return np.zeros((*x.shape, 3)), np.zeros(x.shape)
        # depth (x, y, 1) = Σ b_k point_k
        weights = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(points)
        depth = 1 / weights.sum(-1)
    return weights * depth[..., None], depth


def covers(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the point at p is within the face. On an edge: whether it is at p + (ε, ε²)."""
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corners
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    inside = np.full(x.shape, area != 0)
    for (xi, yi), (xj, yj), zk in (
        ((x1, y1), (x2, y2), z0),
        ((x2, y2), (x0, y0), z1),
        ((x0, y0), (x1, y1), z2),
    ):
        e = (xi - x) * (yj - y) - (yi - y) * (xj - x)
        e = np.where(e != 0, e, yi - yj if yi != yj else xj - xi)
        inside &= np.sign(e) == np.sign(area) * np.sign(zk)
    return inside
