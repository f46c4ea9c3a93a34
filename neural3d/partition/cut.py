"""The ground in cells of equal work, by a k-d tree; and with the margins in which neighbours overlap.

Ground is x and y of two corners in the scene frame, whose +z is up; cells at the rim reach to infinity, so that every
splat, however far, belongs to one. After VastGaussian (Lin et al., CVPR 2024), which divides by cameras alone: here
the work is what there is to see.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.methods.seeds import within

OVERLAP = 0.2  # of a cell's width: how far it also sees beyond its borders
RIM = 0.01  # of the work, that lies outside of the middle box on each side: what is far says nothing of widths

EVERYWHERE = torch.tensor([[-math.inf] * 2, [math.inf] * 2], dtype=torch.float64)


def quantile(x: Float[Tensor, "N"], weight: Float[Tensor, "N"], share: float) -> float:
    """The x below which lies that share of the weight."""
    order = x.argsort()
    total = weight[order].double().cumsum(0)
    return float(x[order[torch.searchsorted(total, share * total[-1]).clamp(max=len(x) - 1)]])


def middle_box(xy: Float[Tensor, "N 2"], work: Float[Tensor, "N"]) -> Float[Tensor, "2 2"]:
    """Where nearly all of the work is."""
    sides = [[quantile(x, work, share) for x in xy.T] for share in (RIM, 1 - RIM)]
    return torch.tensor(sides, dtype=torch.float64)


def cut(
    xy: Float[Tensor, "N 2"], work: Float[Tensor, "N"], count: int, ground: Float[Tensor, "2 2"] = EVERYWHERE
) -> list[Float[Tensor, "2 2"]]:
    """`count` cells of equal work: the longer side of where the work is, is divided, and then each part again."""
    if count == 1:
        return [ground]
    low, high = middle_box(xy, work)
    axis = int((high - low).argmax())
    at = quantile(xy[:, axis], work, (count // 2) / count)
    left, right = ground.clone(), ground.clone()
    left[1, axis] = right[0, axis] = at
    cells = []
    for part, number in ((left, count // 2), (right, count - count // 2)):
        inside = within(xy.double(), part)
        cells += cut(xy[inside], work[inside], number, part)
    return cells


def widened(ground: Float[Tensor, "2 2"], box: Float[Tensor, "2 2"]) -> Float[Tensor, "2 2"]:
    """The cell with its margin, by OVERLAP of how wide it is inside of the middle box of all."""
    inside = torch.minimum(torch.maximum(ground, box[0]), box[1])
    margin = OVERLAP * (inside[1] - inside[0])
    return ground + torch.stack([-margin, margin])
