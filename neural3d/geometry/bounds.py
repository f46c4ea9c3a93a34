"""Where the subject is and which way is up: the similarity that brings a capture into the scene frame.

Notation: o camera centres, d unit viewing directions. Everything here is an estimate; `[scene] aabb` overrides it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from neural3d.geometry.cameras import Camera

ENOUGH = 50  # points from which to estimate a box
MOST, NEARLY_ALL = 0.5, 0.95  # shares of photos
LEANING = 0.1  # mean cosine from which a camera axis counts as pointing up or down
PARALLEL = 0.01  # least eigenvalue of mean (I − d dᵀ) below which viewing directions (within about 6°) do not converge


def up_direction(cameras: list[Camera]) -> Float[Tensor, "3"]:
    """Unit vector that points up, if photographers hold cameras level: `level_axis`, or where cameras hardly turn the
    mean −y (+z where that is nothing)."""
    level = level_axis(cameras)
    if level is not None:
        return level[0]
    mean_up = -torch.stack([c.world_from_camera[:3, 1] for c in cameras]).mean(0)
    return mean_up / mean_up.norm() if mean_up.norm() > 0.1 else mean_up.new_tensor([0.0, 0.0, 1.0])


def level_axis(cameras: list[Camera]) -> tuple[Float[Tensor, "3"], float] | None:
    """The unit vector up about which cameras turned while they were level, and how far it may be off, in radians.

    None where cameras have a single heading, or no axis in common.

    Level cameras have x axes perpendicular to up: up is the eigenvector of Σ x xᵀ with the least eigenvalue, and its
    sign agrees with the mean −y. Photos all taken sideways are level in y instead. Where −y says nothing, of cameras
    held sideways or straight down, they look down rather than up. A lean that grew with the heading by as much as the
    cameras lean altogether would turn the axis by √(λ₀ / λ₁).
    """
    axes = torch.stack([c.world_from_camera[:3, :3] for c in cameras])
    level = [torch.linalg.eigh((axes[:, :, i].T @ axes[:, :, i]) / len(cameras)) for i in (0, 1)]
    sideways = level[1].eigenvalues[0] < 0.25 * level[0].eigenvalues[0]
    values, vectors = level[1 if sideways else 0]
    if values[1] < 0.05 or values[0] > 0.25 * values[1]:
        return None
    up = vectors[:, 0]
    right, down, ahead = (torch.dot(up, axes[:, :, i].mean(0)) for i in range(3))
    against = next((a for a in (down, ahead) if abs(a) > LEANING), -right)
    return -up if against > 0 else up, float(values[0].clamp(min=0) / values[1]) ** 0.5


def rotation_to_z(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes the unit vector `up` to +z (Rodrigues, written without its angle)."""
    z = up.new_tensor([0.0, 0.0, 1.0])
    if up[2] < -1 + 1e-9:  # opposite: half a turn about x
        return torch.diag(up.new_tensor([1.0, -1.0, -1.0]))
    axis = torch.linalg.cross(up, z)
    k = up.new_tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return torch.eye(3, dtype=up.dtype) + k + k @ k / (1 + up[2])


def convergence(cameras: list[Camera]) -> Float[Tensor, "3"] | None:
    """The point nearest to all optical axes, argmin Σ |(I − d dᵀ)(c − o)|²; None where they do not meet before them."""
    if len(cameras) < 2:
        return None
    d = torch.stack([c.forward for c in cameras])
    o = torch.stack([c.centre for c in cameras])
    across = torch.eye(3, dtype=d.dtype) - d[:, :, None] * d[:, None, :]
    if torch.linalg.eigvalsh(across.mean(0))[0] < PARALLEL:
        return None
    c = torch.linalg.solve(across.sum(0), (across @ o[:, :, None]).sum(0))[:, 0]
    ahead = ((c - o) * d).sum(-1) > 0
    return c if ahead.double().mean() > 0.8 else None


def half_fields(cameras: list[Camera]) -> Float[Tensor, "V 2"]:
    """Half the narrower and half the wider field of view of each, in radians."""
    known: dict[tuple, list[float]] = {}
    for c in cameras:
        if (key := _lens_key(c)) not in known:
            middles = torch.tensor([[0.0, 0.5], [1.0, 0.5], [0.5, 0.0], [0.5, 1.0]]).double()
            rays = c.rays(middles * torch.tensor([c.width, c.height]))[1].double()
            known[key] = sorted(rays[i].dot(rays[i + 1]).clamp(-1, 1).arccos().item() / 2 for i in (0, 2))
    return torch.tensor([known[_lens_key(c)] for c in cameras], dtype=torch.float64)


def in_sight(cameras: list[Camera], centre: Float[Tensor, "3"]) -> Float[Tensor, "2"]:
    """Radii of the balls about a point that touch the nearer and the farther sides of the median picture."""
    distances = torch.stack([c.centre for c in cameras]).sub(centre).norm(dim=-1, keepdim=True)
    return (distances * half_fields(cameras).sin()).median(0).values


def _lens_key(camera: Camera) -> tuple:
    return camera.model, camera.width, camera.height, *camera.params.tolist()


def in_picture(camera: Camera, points: Float[Tensor, "N 3"]) -> tuple[Bool[Tensor, "N"], Float[Tensor, "N 2"], Tensor]:
    """Which points lie before the camera and inside its picture; their pixels; their z."""
    xy, z = camera.project(points)
    return (z > 0) & (xy > 0).all(-1) & (xy < xy.new_tensor([camera.width, camera.height])).all(-1), xy, z


def seen_by(cameras: list[Camera], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """The share of cameras that have each point in their picture."""
    return torch.stack([in_picture(c, points)[0] for c in cameras]).double().mean(0)


def every_nth(items, most: int):
    """At most `most` of a list or tensor's rows, evenly spaced."""
    return items[:: max(1, -(-len(items) // most))]


def subject_box(cameras: list[Camera], points: Float[Tensor, "N 3"] | None) -> Float[Tensor, "2 3"]:
    """The region the photographs are of.

    Cameras that converge look at the ball about their common point that is as wide as the median picture.
    `subject_points` tighten it to a box, less the outermost percent. Cameras that do not converge (a walk, a panorama,
    a plane swept) photograph everything: the box of all points and cameras.
    """
    centre = convergence(cameras)
    if centre is None:
        return _box_of_everything(cameras, points)
    near = subject_points(cameras, points, centre)
    if near is not None:
        return widened(torch.quantile(near, near.new_tensor([0.01, 0.99]), dim=0), 1.15)
    radius = in_sight(cameras, centre)[0]
    return torch.stack([centre - radius, centre + radius])


def subject_points(
    cameras: list[Camera], points: Float[Tensor, "N 3"] | None, centre: Float[Tensor, "3"]
) -> Float[Tensor, "M 3"] | None:
    """Points about there that most photos show; as far out as a picture's longer side, of what nearly all show.

    A statue fills its photos upwards and a wall sideways: what no photo cuts off belongs to the subject. None where
    these points are too few to say anything.
    """
    if points is None:
        return None
    inner, outer = in_sight(cameras, centre)
    near = every_nth(points[(points - centre).norm(dim=-1) < outer], 20_000)
    if len(near) >= ENOUGH:
        asked = torch.where((near - centre).norm(dim=-1) < inner, MOST, NEARLY_ALL)
        near = near[seen_by(every_nth(cameras, 100), near) >= asked]
    return near if len(near) >= ENOUGH else None


def _box_of_everything(cameras: list[Camera], points: Tensor | None) -> Tensor:
    o = torch.stack([c.centre for c in cameras])
    if points is not None and len(points) >= ENOUGH:
        inner = torch.quantile(every_nth(points, 100_000), points.new_tensor([0.02, 0.98]), dim=0)
        return torch.stack([torch.minimum(inner[0], o.amin(0)), torch.maximum(inner[1], o.amax(0))])
    spread = (o - o.mean(0)).norm(dim=-1).max().clamp(min=1e-3)  # nothing says how far the scene is: a few baselines
    ahead = o.mean(0) + 4 * spread * torch.stack([c.forward for c in cameras]).mean(0)
    return torch.stack([torch.minimum(ahead - 3 * spread, o.amin(0)), torch.maximum(ahead + 3 * spread, o.amax(0))])


def widened(box: Float[Tensor, "2 3"], factor: float) -> Float[Tensor, "2 3"]:
    middle, half = box.mean(0), (box[1] - box[0]) / 2
    half = half.clamp(min=0.02 * half.max().item())  # flat boxes keep some thickness
    return torch.stack([middle - factor * half, middle + factor * half])


def silhouette_hull(
    cameras: list[Camera],
    silhouettes: list[tuple[Bool[np.ndarray, "h w"], int]],
    start: Float[Tensor, "2 3"],
    cells: int = 48,
) -> tuple[Float[Tensor, "2 3"], Float[Tensor, "N 3"]] | None:
    """Bounding box, with a margin of a cell, and cells of the visual hull (Laurentini 1994); None if nothing is left.

    A cell stays if no picture shows it as transparent and at least half of the pictures show it at all. Silhouettes are
    small and already widened, so that looking up a cell's centre errs on the side of keeping it. Twice: the second time
    inside the first answer, for finer cells.
    """
    box = start
    for _ in range(2):
        half = (box[1] - box[0]).max() / 2
        steps = torch.linspace(-1 + 1 / cells, 1 - 1 / cells, cells, dtype=box.dtype) * half
        grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) + box.mean(0)
        shown, carved = torch.zeros(len(grid)), torch.zeros(len(grid), dtype=torch.bool)
        for camera, (silhouette, block) in zip(cameras, silhouettes, strict=True):
            inside, xy, _ = in_picture(camera, grid)
            x, y = torch.where(inside, xy.T / block, 0).long()
            opaque = torch.from_numpy(silhouette)[y, x]
            shown += inside
            carved |= inside & ~opaque
        kept = grid[~carved & (shown >= 0.5 * len(cameras))]
        if len(kept) == 0:
            return None
        cell = 2 * half / cells
        box = torch.stack([kept.amin(0) - 1.5 * cell, kept.amax(0) + 1.5 * cell])
    return box, kept


def silhouette_of(alpha: UInt8[np.ndarray, "H W"], side: int = 96) -> tuple[Bool[np.ndarray, "h w"], int]:
    """Where a picture is not fully transparent, in blocks of n × n pixels, widened by one block; and n."""
    block = max(1, max(alpha.shape) // side)
    padded = np.pad(alpha > 8, [(0, -n % block) for n in alpha.shape])
    small = padded.reshape(padded.shape[0] // block, block, -1, block).any((1, 3))
    wide = np.pad(small, 1)
    height, width = small.shape
    return np.logical_or.reduce([wide[i : i + height, j : j + width] for i in range(3) for j in range(3)]), block
