"""What there is to look at: the outline of the subject, which first views and camera paths frame.

The bounds (`Scene.aabb`) say where methods spend their cells, and err on the large side; what a picture frames may not.
An outline is a few points whose convex hull stands for the subject's: eight corners of a box, or the outermost points
of a cloud in 26 directions, floaters left out. Everything is in one frame, mostly the scene's.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.bounds import ENOUGH, convergence, every_nth, in_sight, subject_points
from neural3d.geometry.cameras import Camera

MOST = 20_000  # points that are looked at
CELLS = 24  # along a cloud's longest side, over which its weight is spread
TRIM = 0.01  # of a cloud's weight, that may lie beyond its outline in each direction
MARGIN = 1.15  # sparse points end before the subject does
PHOTO_FILL = 0.8  # of a photo's nearer sides, that photographers mostly let a subject take


class Bounded(Protocol):
    """What has bounds and, mostly, an outline: a scene or a shape."""

    @property
    def aabb(self) -> Float[Tensor, "2 3"]: ...
    @property
    def outline(self) -> Float[Tensor, "K 3"] | None: ...


def outline_of(subject: Bounded) -> Float[Tensor, "K 3"]:
    """The scene's or shape's own; of runs from before there were outlines, the bounds' corners."""
    return box_outline(subject.aabb) if subject.outline is None else subject.outline.double()


def box_outline(box: Float[Tensor, "2 3"]) -> Float[Tensor, "8 3"]:
    """The corners."""
    return torch.cartesian_prod(*box.double().T)


def directions() -> Float[Tensor, "26 3"]:
    """To the corners, edges and sides of a cube: unit vectors."""
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0, 1]).double()] * 3)
    return torch.nn.functional.normalize(grid[grid.any(1)], dim=1)


def cloud_outline(
    points: Float[Tensor, "N 3"], weights: Float[Tensor, "N"] | None = None, trim: float = 0.0
) -> Float[Tensor, "K 3"]:
    """The outermost points in 26 directions, of those that lie within all but `trim` of the weight in each of them."""
    points = points.double()
    along = points @ directions().T
    if trim:
        weights = spread(points) * (1 if weights is None else weights)
        kept = (along <= weighted_quantile(along, weights, 1 - trim)).all(1)
        points, along = points[kept], along[kept]
    return points[along.argmax(0).unique()]


def spread(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Weights that let a cell with n points count √n: a patterned wall must not outvote a plain face."""
    low, high = torch.quantile(every_nth(points, MOST), points.new_tensor([0.02, 0.98]), dim=0)
    cells = (points * CELLS / (high - low).max().clamp(min=1e-9)).floor().long()
    _, cell, count = cells.unique(dim=0, return_inverse=True, return_counts=True)
    return count.double().rsqrt()[cell]


def weighted_quantile(values: Float[Tensor, "N D"], weights: Float[Tensor, "N"], q: float) -> Float[Tensor, "D"]:
    """The least value of each column at or below which `q` of the weight lies."""
    ordered, order = values.sort(dim=0)
    share = weights.double()[order].cumsum(0).T.contiguous()
    place = torch.searchsorted(share, q * share[:, -1:]).clamp(max=len(values) - 1)
    return ordered.gather(0, place.T)[0]


def photos_outline(
    cameras: list[Camera], points: Float[Tensor, "N 3"] | None, box: Float[Tensor, "2 3"]
) -> Float[Tensor, "K 3"]:
    """Of what the photos are of.

    Where viewing directions meet: of the points about there that most photos show, or without points of a ball that
    pictures frame as the photos do. Else of all points, or the box.
    """
    points = None if points is None else every_nth(points.double(), MOST)
    centre = convergence(cameras)
    if centre is not None:
        points = subject_points(cameras, points, centre)
        if points is None:
            return centre + PHOTO_FILL * in_sight(cameras, centre)[0] * directions()
    if points is None or len(points) < ENOUGH:
        return box_outline(box)
    outline = cloud_outline(points, trim=TRIM)
    middle = (outline.amin(0) + outline.amax(0)) / 2
    return middle + MARGIN * (outline - middle)
