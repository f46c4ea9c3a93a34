"""Blending of splats, one splat after the other over the whole image, as the equations read; autograd does the rest."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA_MIN = 1 / 255
ALPHA_MAX = 0.99
TRANSMITTANCE_MIN = 1e-4


def splat_raster(
    xy: Tensor,  # (N, 2)
    conic: Tensor,  # (N, 3) as xx, xy, yy
    depth: Tensor,  # (N,)
    opacity: Tensor,  # (N,)
    features: Tensor,  # (N, C)
    width: int,
    height: int,
    *,
    background: Tensor | None = None,  # (C,)
) -> tuple[Tensor, Tensor]:
    """Returns the image (H, W, C) and its alpha (H, W, 1)."""
    y, x = torch.meshgrid(torch.arange(height).to(xy) + 0.5, torch.arange(width).to(xy) + 0.5, indexing="ij")
    through, going_on = torch.ones_like(x), torch.ones_like(x, dtype=torch.bool)
    image = features.new_zeros(height, width, features.shape[1])
    for i in depth.argsort(stable=True).tolist():
        xx, xy_, yy = conic[i]
        if not torch.cat([xy[i], conic[i], depth[i, None], opacity[i, None]]).isfinite().all():
            continue
        if not (xx > 0 and yy > 0 and xx * yy - xy_**2 > 0):
            continue
        dx, dy = x - xy[i, 0], y - xy[i, 1]
        alpha = (opacity[i] * torch.exp(-0.5 * (xx * dx**2 + yy * dy**2) - xy_ * dx * dy)).clamp(max=ALPHA_MAX)
        covered = going_on & (alpha >= ALPHA_MIN)
        behind = through * (1 - alpha)
        stops = covered & (behind < TRANSMITTANCE_MIN)
        going_on = going_on & ~stops
        blended = covered & ~stops
        weight = torch.where(blended, through * alpha, 0)
        image = image + weight[..., None] * features[i]
        through = torch.where(blended, behind, through)
    if background is not None:
        image = image + through[..., None] * background
    return image, 1 - through[..., None]
