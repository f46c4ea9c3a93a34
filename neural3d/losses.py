"""Terms of objective functions, as pure functions: what data to match, and what to prefer where there is none."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

TURN = 0.67  # of the mean error of a colour: where `carving_force` turns


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


def carving_force(error: Float[Tensor, "R"], sure: Float[Tensor, "R"]) -> Float[Tensor, "R"]:
    """How strongly each ray's surface is to come nearer to the camera, from −3 to 1; times its depth, a loss.

    Space carving (Kutulakos & Seitz, "A theory of shape by space carving", IJCV 2000) as a force instead of a decision.
    Where a ray's colour is right the surface comes nearer: so where nothing else tells, as on plain faces, it is as far
    out as the silhouettes let it. Where it hides a hollow, photos see different things in one place of it: their error
    exceeds TURN of the mean, and it gives way until they agree.
    error: mean absolute difference of each ray's colour, in [0, 1]; sure: 1 for rays that count, 0 for those whose
    pixels are mixtures. Only for photos with silhouettes: nothing else stops the surface on its way out.
    """
    typical = (sure * error).sum() / sure.sum().clamp_min(1) + 1e-3  # less is noise of the photos
    return sure * (1 - error / (TURN * typical)).clamp(-3, 1)
