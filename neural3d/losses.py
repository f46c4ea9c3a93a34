"""Terms of objective functions, as pure functions: what data to match, and what to prefer where there is none."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def patch_smoothness(values: Float[Tensor, "P S S C"]) -> Float[Tensor, ""]:
    """Mean squared difference between neighbours along both sides of P patches of S × S rays.

    On expected depth: the geometry regulariser of RegNeRF (Niemeyer et al. 2022) eq. 7, as a mean instead of a sum.
    """
    down = (values[:, 1:] - values[:, :-1]).square().mean()
    across = (values[:, :, 1:] - values[:, :, :-1]).square().mean()
    return down + across


def occlusion(density: Float[Tensor, "R S"], t: Float[Tensor, "R S"], limit: Float[Tensor, "R"]) -> Float[Tensor, ""]:
    """(1/S) Σᵢ σᵢ mᵢ, mᵢ = 1 where tᵢ < limit: density near the camera, where few views agree on anything.

    FreeNeRF (Yang et al. 2023) eq. 5, with the mask by distance instead of by sample number.
    """
    return (density * (t < limit[:, None])).mean()
