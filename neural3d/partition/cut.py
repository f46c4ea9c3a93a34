"""The ground in cells of equal work, by a k-d tree; and with the margins in which neighbours overlap.

Ground is x and y of two corners in the scene frame, whose +z is up; cells at the rim have no end there, so that every
splat, however far, belongs to one. After VastGaussian (Lin et al., CVPR 2024), which divides by cameras alone: here
the work is what there is to see.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.methods.seeds import within

OVERLAP = 0.1  # how far a cell sees beyond a border, as a share of how wide the narrower of both sides is
RIM = 0.1  # share of the work, on each side, that does not count for widths: what is far away says nothing of them

ENDLESS = 1e9  # scene units
EVERYWHERE = torch.tensor([[-ENDLESS] * 2, [ENDLESS] * 2], dtype=torch.float64)


def quantile(x: Float[Tensor, "N"], weight: Float[Tensor, "N"], share: float) -> float:
    """The x below which lies that share of the weight."""
    order = x.argsort()
    total = weight[order].double().cumsum(0)
    return float(x[order[torch.searchsorted(total, share * total[-1]).clamp(max=len(x) - 1)]])


def middle(xy: Float[Tensor, "N 2"], work: Float[Tensor, "N"]) -> Float[Tensor, "2 2"]:
    """Where most of the work is: a box without RIM of it on each side."""
    sides = [[quantile(x, work, share) for x in xy.T] for share in (RIM, 1 - RIM)]
    return torch.tensor(sides, dtype=torch.float64)


def cut(
    xy: Float[Tensor, "N 2"],
    work: Float[Tensor, "N"],
    count: int,
    ground: Float[Tensor, "2 2"] = EVERYWHERE,
    margin: Float[Tensor, "2 2"] | None = None,
) -> list[tuple[Float[Tensor, "2 2"], Float[Tensor, "2 2"]]]:
    """`count` cells of equal work: the longer side of where most of it is, is divided, and then each part again.

    Each with its own ground, and that with the margin, which neighbours have in common.
    """
    low, high = middle(xy, work)
    margin = torch.zeros(2, 2, dtype=torch.float64) if margin is None else margin
    if count == 1:
        margin = torch.minimum(margin, OVERLAP * (high - low))
        return [(ground, ground + torch.stack([-margin[0], margin[1]]))]
    axis = int((high - low).argmax())
    at = quantile(xy[:, axis], work, (count // 2) / count)
    beyond = OVERLAP * min(at - float(low[axis]), float(high[axis]) - at)
    cells = []
    for side, number in ((0, count // 2), (1, count - count // 2)):
        part, wider = ground.clone(), margin.clone()
        part[1 - side, axis], wider[1 - side, axis] = at, beyond
        inside = within(xy.double(), part)
        cells += cut(xy[inside], work[inside], number, part, wider)
    return cells
