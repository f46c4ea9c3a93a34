"""What neighbours in a point cloud tell before anything is fitted: spacing, strays, planes, noise.

Notation: points xᵢ (N, 3) on and around a surface; rₖ the distance of a point to its k-th neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
from jaxtyping import Bool, Float, Int

AREA_NEIGHBOURS = 10  # of the disc whose share of the area is a point's
REACH_NEIGHBOURS = 50  # whose distance is the standard deviation of samples around a point, as in IGR
PLANE_NEIGHBOURS = 60  # of the planes that give normals; noise wants many
LONELY = 2.5  # r₁₀ over the second smallest of the neighbours': a point stands alone beyond
SPARSE, ROUND = 2.0, 0.5  # so does one whose r₁₀ is so many medians among neighbourhoods so thick for their width
LARGEST = 25.0  # areas of points, in medians: what else stands alone must not count for much
NOISE_NEIGHBOURS = (16, 32, 64, 128, 256)  # tried in turn until a neighbourhood is flat rather than round
NOISE_SAMPLE = 1500  # points at which noise is measured
FLAT = 0.5  # thickness over width up to which a neighbourhood counts as flat
CHUNK = 1 << 16  # points asked for at a time: bounds the memory


def tree_of(points: Float[np.ndarray, "N 3"]) -> Any:
    """A k-d tree, made once for all that is asked of a cloud; its `data` are the points."""
    return scipy.spatial.cKDTree(points, balanced_tree=False)  # balanced takes longer to make than it saves


@dataclass(frozen=True)
class Surroundings:
    """What its neighbours tell of each point.

    close: its ten nearest. radius, reach: r₁₀, r₅₀. normals: unit, of either sign, of the plane through its neighbours
    (Hoppe et al., SIGGRAPH 1992); None if not asked for.
    """

    close: Int[np.ndarray, "N ten"]
    radius: Float[np.ndarray, "N"]
    reach: Float[np.ndarray, "N"]
    normals: Float[np.ndarray, "N 3"] | None

    @property
    def spacing(self) -> Float[np.ndarray, "N"]:
        """√ of the area of a disc of radius r₁₀ shared by ten."""
        return self.radius * math.sqrt(math.pi / self.close.shape[1])


def surroundings(tree: Any, planes: bool) -> Surroundings:
    """In one pass over the cloud. planes: with `normals`."""
    count = tree.n
    k = min(PLANE_NEIGHBOURS if planes else REACH_NEIGHBOURS + 1, count)
    disc, far = min(AREA_NEIGHBOURS, k - 1), min(REACH_NEIGHBOURS, k - 1)
    r, reach = np.empty(count), np.empty(count)
    close = np.empty((count, disc), np.int32)
    normals = np.empty((count, 3)) if planes else None
    for some, distance, index in _neighbours(tree, k):
        r[some], reach[some], close[some] = distance[:, disc], distance[:, far], index[:, 1 : disc + 1]
        if normals is not None:
            normals[some] = _spread(tree.data[index])[1][:, :, 0]
    return Surroundings(close, r, reach, normals)


def strays(points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Which points belong to no surface.

    Beside a surface their neighbours are denser than they. Far from it their neighbours are as lost as they: they fill
    space instead of lying on a sheet, and sparsely, which noise does not. Asked twice: what is left after the first
    time has other neighbours.
    """
    count = len(points)
    left = np.arange(count)
    for _ in range(2):
        tree, k = tree_of(points[left]), min(AREA_NEIGHBOURS, len(left) - 1)
        r, thick = np.empty(len(left)), np.empty(len(left))
        close = np.empty((len(left), k), np.int32)
        for some, distance, index in _neighbours(tree, k + 1):
            r[some], close[some] = distance[:, -1], index[:, 1:]
            spread = _spread(tree.data[index])[0]
            thick[some] = np.sqrt(spread[:, 0].clip(0) / np.maximum(spread[:, 1], 1e-30))  # 1e-30: all at one place
        beside = r > LONELY * np.partition(r[close], 1, axis=1)[:, 1]
        lost = (r > SPARSE * np.median(r)) & (thick[close].mean(1) > ROUND)
        left = left[~(beside | lost)]
    stray = np.ones(count, bool)
    stray[left] = False
    return stray


def _neighbours(tree: Any, k: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(points, distances to their k nearest, these), in chunks of points that lie close together."""
    for start in range(0, tree.n, CHUNK):
        some = tree.indices[start : start + CHUNK]
        yield some, *tree.query(tree.data[some], k, workers=-1)


def _spread(near: Float[np.ndarray, "N k 3"]) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 3"]]:
    """Sums of squares along the principal axes of points, ascending, and the axes in columns."""
    near = near - near.mean(1, keepdims=True)
    return np.linalg.eigh(near.transpose(0, 2, 1) @ near)


def areas(around: Surroundings, normals: Float[np.ndarray, "N 3"], noise: float) -> Float[np.ndarray, "N"]:
    """The share of the surface that each point stands for.

    In noise of standard deviation σ, points of density ρ a unit of area have ρ π E[(r² − z²)₊] neighbours within r on
    their own side of a wall, z being normally distributed with variance τ² = 2σ²; of the ten nearest those count that
    face the same way.
    """
    r = around.radius
    tau = max(math.sqrt(2) * noise, 1e-9)  # 1e-9: exact points
    u = r / tau
    within = scipy.special.erf(u / math.sqrt(2))
    disc = (r**2 - tau**2) * within + math.sqrt(2 / math.pi) * r * tau * np.exp(-0.5 * u**2)
    facing = np.concatenate(
        [
            (np.einsum("nc,nkc->nk", normals[i : i + CHUNK], normals[around.close[i : i + CHUNK]]) > 0).sum(1)
            for i in range(0, len(r), CHUNK)
        ]
    )
    area = math.pi * disc / np.maximum(facing, 1)
    return np.minimum(area, LARGEST * np.median(area))


def noise(tree: Any, normals: Float[np.ndarray, "N 3"] | None = None) -> float:
    """Standard deviation of the points' distance from the surface.

    normals: keep both sides of a thin wall apart; without, its thickness counts as noise.

    Heights above the plane through a point's neighbours are fitted by a quadratic; what it leaves over, averaged over
    the degrees of freedom, is noise and whatever of the shape is no quadratic at that scale. The scale is the smallest
    one at which neighbourhoods are flat: below, noise spreads the neighbours in all directions alike.
    """
    points = tree.data
    some = np.linspace(0, len(points) - 1, min(len(points), NOISE_SAMPLE)).astype(int)
    for k in NOISE_NEIGHBOURS:
        index = tree.query(points[some], k=min(k, len(points)), workers=-1)[1]
        counts = np.ones(index.shape)
        if normals is not None:
            counts = (np.einsum("nc,nkc->nk", normals[some], normals[index]) > 0).astype(float)
        total = counts.sum(1)
        near = points[index]
        near = (near - (counts[..., None] * near).sum(1, keepdims=True) / total[:, None, None]) * counts[..., None]
        spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
        if np.median(spread[:, 0] / np.maximum(spread[:, 1], 1e-30)) < FLAT**2:  # 1e-30: no other faces that way
            break
    width2 = np.maximum(spread[:, 2], 1e-30) / total
    near = near @ axes / np.sqrt(width2[:, None, None])  # in units of the neighbourhood's width
    h, u, v = near.transpose(2, 0, 1)
    basis = np.stack([counts, u, v, u * u, u * v, v * v], -1)
    normal_matrix = np.einsum("nki,nkj->nij", basis, basis) + 1e-9 * np.eye(6)  # neighbours on one line
    solution = np.linalg.solve(normal_matrix, np.einsum("nki,nk->ni", basis, h)[..., None])[..., 0]
    left = h - np.einsum("nki,ni->nk", basis, solution)
    variance = (left**2).sum(1) / np.maximum(1, total - 6) * width2
    enough = total > 8  # for a quadratic's six coefficients and a variance
    return float(np.sqrt(np.median(variance[enough] if enough.any() else variance)))
