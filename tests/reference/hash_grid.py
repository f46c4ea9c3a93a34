"""Multiresolution hash encoding, as its paper and tiny-cuda-nn's layout define it: a loop over levels and corners."""

from __future__ import annotations

import torch
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)


def level_layout(spec, level: int) -> tuple[float, int, int, int]:
    """(scale, resolution, offset, size) from the definitions."""
    return spec.scales[level], spec.resolutions[level], spec.offsets[level], spec.sizes[level]


def entry_index(corner: Tensor, resolution: int, size: int) -> Tensor:
    """corner (n, 3) int64 grid coordinates -> (n,) entry within the level."""
    x, y, z = corner.unbind(-1)
    if resolution**3 <= size:
        return (x + resolution * y + resolution**2 * z) % size
    mask = 2**32 - 1
    return ((x * PRIMES[0] & mask) ^ (y * PRIMES[1] & mask) ^ (z * PRIMES[2] & mask)) % size


def hash_grid(positions: Tensor, table: Tensor, spec) -> Tensor:
    """positions (n, 3), table (entries, features) -> (n, levels · features). Differentiable by autograd."""
    x = positions.clamp(0, 1)
    features = []
    for level in range(spec.levels):
        scale, resolution, offset, size = level_layout(spec, level)
        p = x * scale + 0.5
        cell = p.detach().nan_to_num().floor().long()
        frac = p - cell
        total = 0
        for c in range(8):
            bits = torch.tensor([c & 1, c >> 1 & 1, c >> 2], device=x.device)
            weight = torch.where(bits.bool(), frac, 1 - frac).prod(-1)
            total = total + weight[:, None] * table[offset + entry_index(cell + bits, resolution, size)]
        weight = spec.level_weights[level] if spec.level_weights else 1.0
        features.append(total * weight)
    return torch.cat(features, -1)
