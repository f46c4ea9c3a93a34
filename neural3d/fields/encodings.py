"""Encodings that let small networks see detail, and the contraction that fits an unbounded world into a box.

Notation: x (..., D) a position or unit direction; L octaves; B (M, D) random frequencies.
All are differentiable in x, as often as wanted.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def positional_encoding(
    x: Float[Tensor, "... D"],
    levels: int,
    *,
    include_input: bool = False,
    weights: Float[Tensor, "levels"] | None = None,
) -> Float[Tensor, "... E"]:
    """γ(x) = (sin 2⁰πx, cos 2⁰πx, …, sin 2ᴸ⁻¹πx, cos 2ᴸ⁻¹πx), eq. 4 of NeRF (Mildenhall et al. 2020).

    levels: L. Each sin or cos is a block of D channels, so E = 2·D·L, plus D in front with `include_input`, as in the
    authors' code. Eq. 4 has period 2: it tells positions apart where x lies in [-1, 1], as the paper assumes.
    weights: one factor per octave (`frequency_weights`); None: all 1.
    """
    octaves = math.pi * 2.0 ** torch.arange(levels, dtype=x.dtype, device=x.device)
    angles = x[..., None, :] * octaves[:, None]  # (..., L, D)
    waves = torch.stack([angles.sin(), angles.cos()], -2)  # (..., L, 2, D)
    if weights is not None:
        waves = waves * weights.to(x)[:, None, None]
    encoded = waves.flatten(-3)
    return torch.cat([x, encoded], -1) if include_input else encoded


def positional_width(dimensions: int, levels: int, include_input: bool = False) -> int:
    """Channels of `positional_encoding`: E."""
    return dimensions * (2 * levels + include_input)


def frequency_weights(levels: int, visible: float) -> Float[Tensor, "levels"]:
    """Which octaves a network sees while frequencies are annealed: wₖ = clamp(visible·L − k, 0, 1), k = 0 … L−1.

    visible: 0 (none) to 1 (all). After FreeNeRF (Yang et al. 2023) eq. 4, which reveals the channels in order, linearly
    in time; here sin and cos of an octave appear together.
    """
    return (visible * levels - torch.arange(levels, dtype=torch.float32)).clamp(0, 1)


def random_frequencies(
    count: int, dimensions: int, sigma: float, generator: torch.Generator | None = None
) -> Float[Tensor, "M D"]:
    """B for `fourier_features`: entries from N(0, σ²), in cycles per unit of x. A larger σ sees finer detail."""
    return sigma * torch.randn(count, dimensions, generator=generator)


def fourier_features(x: Float[Tensor, "... D"], frequencies: Float[Tensor, "M D"]) -> Float[Tensor, "... E"]:
    """γ(x) = (cos 2πBx, sin 2πBx), E = 2M: random Fourier features (Tancik et al. 2020), eq. 5 and section 6.1."""
    angles = 2 * math.pi * (x @ frequencies.to(x).T)
    return torch.cat([angles.cos(), angles.sin()], -1)


def contract(x: Float[Tensor, "... D"], norm: Literal["l2", "linf"] = "linf") -> Float[Tensor, "... D"]:
    """contract(x) = x where ‖x‖ ≤ 1, else (2 − 1/‖x‖)·x/‖x‖: all of space within ‖·‖ < 2.

    Mip-NeRF 360 (Barron et al. 2022) eq. 10 with the Euclidean norm: a ball of radius 2, once differentiable.
    With "linf" (max |xᵢ|) the image is the cube [-2, 2]ᴰ, which suits grids, with kinks along the cube's diagonals
    outside [-1, 1]ᴰ. Finite x only.
    """
    # With the norm clamped at 1 one formula serves both sides, and the gradient at 0 is the identity, never NaN.
    size = x.abs().amax(-1, keepdim=True) if norm == "linf" else torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    size = size.clamp(min=1)
    return (2 - 1 / size) * (x / size)


def expand(y: Float[Tensor, "... D"], norm: Literal["l2", "linf"] = "linf") -> Float[Tensor, "... D"]:
    """The inverse of `contract`, of what it can have made: ‖y‖ < 2."""
    size = y.abs().amax(-1, keepdim=True) if norm == "linf" else torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    size = size.clamp(min=1)
    return y / (size * (2 - size))


def contract_to_unit(x: Float[Tensor, "... D"], norm: Literal["l2", "linf"] = "linf") -> Float[Tensor, "... D"]:
    """`contract`, then [-2, 2]ᴰ → [0, 1]ᴰ, where grids live: the scene's [-1, 1]ᴰ becomes the middle [1/4, 3/4]ᴰ."""
    return contract(x, norm) / 4 + 0.5
