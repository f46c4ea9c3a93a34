"""Volume rendering ray by ray and sample by sample, as the equations read; autograd does the rest."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def composite(
    sigma: Tensor,  # (S,)
    rgb: Tensor,  # (S, C)
    t: Tensor,  # (S,)
    dt: Tensor,  # (S,)
    offsets: Tensor,  # (R + 1,)
    *,
    background: Tensor | None = None,  # (C,) or (R, C)
    early_stop: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns colours (R, C), opacities (R,), depths (R,), weights (S,) and distortions (R,)."""
    o = offsets.tolist()
    colors, opacities, depths, distortions, all_weights = [], [], [], [], []
    for ray, (begin, end) in enumerate(pairwise(o)):
        transmittance = sigma.new_ones(())
        weights = []
        for i in range(begin, end):
            if transmittance < early_stop:
                weights.append(sigma.new_zeros(()))
                continue
            tau = sigma[i] * dt[i]
            weights.append(transmittance * -torch.expm1(-tau))
            transmittance = transmittance * torch.exp(-tau)
        w = torch.stack(weights) if weights else sigma.new_zeros(0)
        color = (w[:, None] * rgb[begin:end]).sum(0)
        if background is not None:
            color = color + (1 - w.sum()) * background.expand(len(o) - 1, -1)[ray]
        m = t[begin:end]
        # Barron et al. 2022, eq. 15, as it stands there.
        apart = (m[:, None] - m[None, :]).abs()
        distortions.append((w[:, None] * w[None, :] * apart).sum() + (w**2 * dt[begin:end]).sum() / 3)
        colors.append(color)
        opacities.append(w.sum())
        depths.append((w * m).sum())
        all_weights.append(w)
    weights = torch.cat(all_weights) if all_weights else sigma.new_zeros(0)
    if not colors:
        return rgb.new_zeros(0, rgb.shape[1]), weights.new_zeros(0), weights.new_zeros(0), weights, weights.new_zeros(0)
    return torch.stack(colors), torch.stack(opacities), torch.stack(depths), weights, torch.stack(distortions)
