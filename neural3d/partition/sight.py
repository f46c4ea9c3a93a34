"""What photos see of splats: how much each splat paints of them, and where cells are in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.methods.seeds import within
from neural3d.methods.splat import SHOWN, Splat
from neural3d.render.splats import blended

FEWEST = 0.005  # share of a photo's pixels that see a cell, from which the photo is one of its own
STRAY = 0.01  # share of these pixels that may stay outside of the window, on each of its sides

Window = tuple[int, int, int, int]  # left, top, right, bottom, in pixels; the last two are the first outside


def seen(method: Splat, camera: Camera, features: Float[Tensor, "N C"]) -> Float[Tensor, "H W C"]:
    return blended(method.splats, camera, features, near=method.near, antialiased=method.config.antialiased)


def painted(method: Splat, cameras: Sequence[Camera]) -> Float[Tensor, "N"]:
    """How many pixels of all pictures each splat paints, Σ w_i: the derivative of Σ w_i f_i by f_i, summed."""
    ones = torch.ones(len(method.splats), 1, requires_grad=True)
    for camera in cameras:
        seen(method, camera, ones).sum().backward()
    assert ones.grad is not None
    return ones.grad[:, 0]


@torch.no_grad()
def windows(
    method: Splat, cameras: Sequence[Camera], grounds: Sequence[Float[Tensor, "2 2"]]
) -> list[list[Window | None]]:
    """For each camera and each piece of ground the window that sees it; None: next to nothing of it is seen."""
    members = torch.stack([within(method.splats.means, ground) for ground in grounds], 1).float()
    return [[window(share > SHOWN) for share in seen(method, c, members).unbind(-1)] for c in cameras]


def window(shown: Tensor) -> Window | None:
    """The smallest one of nearly all pixels that are shown, a mask (H, W), and a pixel more."""
    if shown.sum() < max(1, FEWEST * shown.numel()):
        return None
    ends = []
    for along in (shown.sum(0), shown.sum(1)):
        share = along.cumsum(0) / along.sum()
        first = int((share <= STRAY).sum())
        last = int((share < 1 - STRAY).sum())
        ends.append((max(0, first - 1), min(len(along), last + 2)))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom
