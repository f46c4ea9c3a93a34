"""Volume rendering by quadrature along rays, with every ray holding the same number of samples.

Notation: R rays, S samples each, at distances t₁ < t₂ < … along unit directions; σᵢ density (1 / unit of t), cᵢ colour;
δᵢ = tᵢ₊₁ − tᵢ. Equations of NeRF (Mildenhall et al. 2020). `neural3d.ops.composite` does the same for packed samples.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Spacing = Literal["distance", "disparity"]


class RenderWeights(NamedTuple):
    """What each sample shows, and the rays."""

    weights: Float[Tensor, "R S"]  # wᵢ = Tᵢ αᵢ
    alpha: Float[Tensor, "R"]  # opacity, Σ wᵢ
    distance: Float[Tensor, "R"]  # expected t where the ray ends, Σ wᵢtᵢ / Σ wᵢ; 0 where the opacity is 0


def render_weights(
    t: Float[Tensor, "R S"], density: Float[Tensor, "R S"], end: Float[Tensor, "R"] | None = None
) -> RenderWeights:
    """wᵢ = Tᵢ (1 − exp(−σᵢδᵢ)),  Tᵢ = exp(−Σ_{j<i} σⱼδⱼ), eq. 3: exact for a density constant on each [tᵢ, tᵢ₊₁].

    end: where the volume ends, δ_S = end − t_S. None: it never does, and the last sample, if it has any density, is
    opaque; the authors' code has δ_S = 10¹⁰. density: σ ≥ 0. Differentiable in density and t.
    """
    last = torch.full_like(t[:, :1], 1e10) if end is None else end[:, None] - t[:, -1:]
    thickness = density * torch.cat([t[:, 1:] - t[:, :-1], last], 1)
    # Sums of what lies in front: shifted, so that the last thickness (up to 10¹⁰ σ) never enters a sum.
    in_front = torch.nn.functional.pad(thickness[:, :-1].cumsum(1), (1, 0))
    weights = torch.exp(-in_front) * -torch.expm1(-thickness)  # expm1: thin layers keep their digits
    alpha = weights.sum(1)
    # Where nothing is hit, 0 / tiny = 0; the threshold is far below any opacity that shows.
    distance = (weights * t).sum(1) / alpha.clamp_min(1e-10)
    return RenderWeights(weights, alpha, distance)


def accumulate(weights: Float[Tensor, "R S"], values: Float[Tensor, "R S C"]) -> Float[Tensor, "R C"]:
    """C(r) = Σ wᵢcᵢ, eq. 3: the expected colour, or whatever the samples carry, on a black background."""
    return torch.einsum("rs,rsc->rc", weights, values)


def stratified(
    near: Float[Tensor, "R"],
    far: Float[Tensor, "R"],
    count: int,
    *,
    generator: torch.Generator | None = None,
    spacing: Spacing = "distance",
) -> Float[Tensor, "R S"]:
    """One sample per bin, tᵢ ~ U[tₙ + (i−1)/S·(t_f − tₙ), tₙ + i/S·(t_f − tₙ)], eq. 2; without generator, bin centres.

    spacing: bins equal in t, or in 1/t ("disparity"), which resolves far scenes as a picture does; near > 0 then.
    """
    u = _stratified_unit(len(near), count, near, generator)
    if spacing == "disparity":
        return 1 / ((1 - u) / near[:, None] + u / far[:, None])
    return near[:, None] + (far - near)[:, None] * u


def sample_pdf(
    edges: Float[Tensor, "R B+1"],
    weights: Float[Tensor, "R B"],
    count: int,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "R count"]:
    """Sorted samples of the piecewise-constant density with mass ∝ weights in the bins between edges (section 5.2).

    Inverse transform sampling: t = F⁻¹(u). The u are stratified, one in each 1/count, which keeps their distribution
    and lowers the variance; without generator they are (i + ½)/count. No gradient flows into the samples, as published.
    """
    with torch.no_grad():
        # As in the authors' code: a little everywhere, so that rays that met nothing sample evenly.
        mass = weights + 1e-5
        cdf = torch.nn.functional.pad((mass / mass.sum(1, keepdim=True)).cumsum(1), (1, 0))
        u = _stratified_unit(len(weights), count, weights, generator)
        bin_ = (torch.searchsorted(cdf, u, right=True) - 1).clamp(0, weights.shape[1] - 1)
        low, high = cdf.gather(1, bin_), cdf.gather(1, bin_ + 1)
        left, right = edges.gather(1, bin_), edges.gather(1, bin_ + 1)
        # Rounding can leave u a hair outside its bin; high > low because every bin has mass.
        fraction = ((u - low) / (high - low)).clamp(0, 1)
        return left + fraction * (right - left)


def _stratified_unit(
    rays: int, count: int, like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "rays count"]:
    """(i + offset) / count for i = 0 … count − 1: offset uniform in [0, 1), or ½."""
    if generator is None:
        offset = torch.full((rays, count), 0.5, dtype=like.dtype, device=like.device)
    else:
        offset = torch.rand(rays, count, generator=generator, dtype=like.dtype, device=like.device)
    return (torch.arange(count, dtype=like.dtype, device=like.device) + offset) / count
