"""Soft silhouettes face by face, over the whole picture and without bounds, as the equations read."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_silhouette(pixels: Tensor, faces: Tensor, width: int, height: int, sigma: float) -> Tensor:
    """S (H, W) of one picture, of pixels (V, 3) all of which are in front of the camera; differentiable."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(pixels)
    left = pixels.new_ones(height, width)
    for corners in pixels[faces.long(), :2]:
        square = torch.stack([from_segment(p, corners[k - 1], corners[k]) for k in range(3)]).amin(0)
        left = left * (1 - torch.sigmoid(torch.where(within(p, corners), square, -square) / sigma))
    return 1 - left


def from_segment(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (H, W) of p (H, W, 2) from the line between a and b."""
    length = (b - a).square().sum()
    share = ((p - a) @ (b - a) / length).clamp(0, 1) if length > 0 else torch.zeros_like(p[..., 0])
    return (a + share[..., None] * (b - a) - p).square().sum(-1)


def within(p: Tensor, corners: Tensor) -> Tensor:
    """Whether p is on the same side of all edges, and not on any."""
    sides = []
    for k in range(3):
        u, v = corners[k] - corners[k - 1], p - corners[k - 1]
        sides.append(u[0] * v[..., 1] - u[1] * v[..., 0])
    return torch.stack(sides).amin(0).gt(0) | torch.stack(sides).amax(0).lt(0)
