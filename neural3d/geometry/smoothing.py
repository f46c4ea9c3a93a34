"""How far the points of a cloud can be averaged, from place to place, before the average leaves the shape.

At a point x of the cloud quadrics are fitted to the heights of its k nearest neighbours over its tangent plane. The
fit's height aₖ at x has variance σ² vₖ, which falls as k grows, and an error that grows, where the shape is no quadric.
As these are nested least squares, aⱼ − aₖ of j < k has variance σ² (vⱼ − vₖ): what its mean square among points close
by exceeds that by is the shape's. The largest k counts up to which it does not (Lepskii, "On a problem of adaptive
estimation in Gaussian white noise", 1991).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neural3d.geometry.clouds import tree_of

NEIGHBOURS = (32, 64, 128, 256, 512)  # k
SAMPLES = 3000  # points x
CLOSE = 32  # of these, among which squares are averaged
EVEN = 8  # of these, among which lengths are
SAME_SIDE = -0.5  # cosine between normals, below which a neighbour is of a wall's other side
EXCESS = 1.6  # of mean squares over what is expected of them: the error of 2 k is then as large as that of k
WIDTH = 3.0  # h of a spline that averages as much as a quadric of such a root mean square distance / h
LEAST, LARGEST = 0.6, 3.5  # of what is usual


def relative_lengths(
    tree: Any, normals: Float[np.ndarray, "N 3"], noise: float, h: float
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, "M"]]:
    """(Points of the cloud, the length that suits a smoothing spline there over the usual one, h).

    normals: unit, outward. noise: standard deviation σ. At most h where the smallest neighbourhood is too large.
    """
    x, heights, variances, widths = _fits(tree, normals)
    close = tree_of(x).query(x, min(CLOSE, len(x)), workers=-1)[1].reshape(len(x), -1)
    chosen = _largest(heights, noise**2 * variances, close)
    ratio = np.take_along_axis(widths, chosen[None], 0)[0] / (WIDTH * h)
    ratio = np.where(chosen > 0, ratio, np.minimum(ratio, 1)).clip(LEAST, LARGEST)
    return x, np.exp(np.log(ratio)[close[:, :EVEN]].mean(1))


def _fits(tree: Any, normals: Float[np.ndarray, "N 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x (M, 3), aₖ, vₖ and root mean square distances of the neighbours along the plane (K, M))"""
    points = tree.data
    some = np.linspace(0, len(points) - 1, min(len(points), SAMPLES)).astype(int)
    x, normal = points[some], normals[some]
    index = tree.query(x, min(NEIGHBOURS[-1] + 1, len(points)), workers=-1)[1][:, 1:]
    same: Bool[np.ndarray, "M k"] = np.einsum("mc,mkc->mk", normal, normals[index]) > SAME_SIDE
    near = (points[index] - x[:, None]) * same[..., None]
    across = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    h, u, v = (np.einsum("mkc,mc->mk", near, axis) for axis in (normal, across, np.cross(normal, across)))
    square = u * u + v * v
    scale = np.sqrt(square.max(1, keepdims=True).clip(1e-30))  # 1e-30: no neighbours on its side
    u, v = u / scale, v / scale
    basis = np.stack([same, u, v, u * u, u * v, v * v], -1)
    heights, variances, widths = [], [], []
    for k in NEIGHBOURS:
        of_k = basis[:, :k]
        matrix = np.einsum("mki,mkj->mij", of_k, of_k) + 1e-12 * np.eye(6)  # neighbours on one line
        row = np.linalg.inv(matrix)[:, 0]
        heights.append(np.einsum("mi,mki,mk->m", row, of_k, h[:, :k], optimize=True))
        variances.append(row[:, 0])
        widths.append(np.sqrt(square[:, :k].sum(1) / np.maximum(same[:, :k].sum(1), 1)))
    return x, np.array(heights), np.array(variances), np.array(widths)


def _largest(
    heights: Float[np.ndarray, "K M"], variances: Float[np.ndarray, "K M"], close: Int[np.ndarray, "M c"]
) -> Int[np.ndarray, "M"]:
    """Which k, of all those up to which no height differs from one of a smaller k by more than its variance says."""
    chosen, going = np.zeros(len(close), int), np.ones(len(close), bool)
    for k in range(1, len(heights)):
        for j in range(k):
            square = (heights[k] - heights[j]) ** 2
            expected = np.maximum(variances[j] - variances[k], 1e-3 * variances[j])  # 1e-3: no more neighbours
            going &= square[close].mean(1) < EXCESS * expected[close].mean(1)
        chosen[going] = k
    return chosen
