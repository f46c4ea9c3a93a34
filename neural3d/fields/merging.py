"""Fewer splats that look the same from afar: those of a grid's cell become one, by their moments.

Kerbl et al., "A Hierarchical 3D Gaussian Representation for Real-Time Rendering of Very Large Datasets", SIGGRAPH 2024,
section 4.1: with weights w_i = o_i S_i, opacity times surface, normalised to sum to 1,

    μ = Σ w_i μ_i,   Σ = Σ w_i (Σ_i + (μ_i − μ)(μ_i − μ)ᵀ),   harmonics = Σ w_i harmonics_i,   o = Σ o_i S_i / S,

where S, the surface of the merged splat, is that of its ellipsoid's largest cross-section, and o is capped.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.rotations import quaternion_from_rotation, rotation_from_quaternion

HALVINGS = 24  # of the interval in which the grid's spacing lies
OPAQUE = 0.99  # most opacity of a merged splat, as pictures cap it


@torch.no_grad()
def merged(splats: Gaussians, most: int) -> tuple[Gaussians, float]:
    """At most `most` splats in the place of more, and the spacing of the grid; the splats and 0 where they are few.

    Splats whose standard deviation is over half of the spacing stay as they are. The spacing is the smallest power of
    two times 2^(1/8) with which so few remain, to within what a search finds.
    """
    if len(splats) <= most:
        return splats, 0.0
    size = splats.log_scales.amax(1).exp().double()
    low = splats.means.double().amin(0)
    reach = float((splats.means.double() - low).amax()) + float(size.max()) + 1e-9
    finest, coarsest = reach * 2.0**-HALVINGS, 4 * reach
    steps = round(8 * math.log2(coarsest / finest))
    few, many = steps, 0  # eighths of octaves above the finest
    while few - many > 1:
        half = (few + many) // 2
        left = len(_groups(splats, low, size, finest * 2 ** (half / 8))[0])
        few, many = (half, many) if left <= most else (few, half)
    spacing = finest * 2 ** (few / 8)
    first, group = _groups(splats, low, size, spacing)
    return _moments(splats, group, len(first)), spacing


def _groups(
    splats: Gaussians, low: Tensor, size: Tensor, spacing: float
) -> tuple[Int[Tensor, "M 4"], Int[Tensor, "N"]]:
    """What tells groups apart, and the group of each splat."""
    cell = ((splats.means.double() - low) / spacing).floor().long()
    alone = size > spacing / 2
    number = torch.where(alone, torch.arange(1, len(size) + 1), 0)
    keys = torch.cat([torch.where(alone[:, None], 0, cell), number[:, None]], 1)
    return torch.unique(keys, dim=0, return_inverse=True)


def _moments(splats: Gaussians, group: Int[Tensor, "N"], count: int) -> Gaussians:
    def summed(x: Float[Tensor, "N ..."]) -> Float[Tensor, "M ..."]:
        return x.new_zeros(count, *x.shape[1:]).index_add_(0, group, x)

    means, scales = splats.means.double(), splats.log_scales.double().exp()
    mass = torch.sigmoid(splats.opacity_logits.double()) * _surface(scales)
    share = mass / summed(mass)[group].clamp(min=1e-300)
    mean = summed(share[:, None] * means)
    own = rotation_from_quaternion(splats.quats.double()) * scales[:, None, :]
    off = means - mean[group]
    covariance = summed(share[:, None, None] * (own @ own.mT + off[:, :, None] * off[:, None, :]))
    variance, axes = torch.linalg.eigh(covariance)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]  # a rotation, not a mirror
    scale = variance.clamp(min=1e-18).sqrt()
    opacity = (summed(mass) / _surface(scale)).clamp(1e-6, OPAQUE)
    alone = torch.bincount(group, minlength=count) == 1
    one = torch.zeros(count, dtype=torch.long).scatter_(0, group, torch.arange(len(group)))
    rest = splats.sh_rest.double()
    made = Gaussians(
        mean, scale.log(), quaternion_from_rotation(axes), torch.logit(opacity),
        summed(share[:, None] * splats.sh_dc.double()), summed(share[:, None, None] * rest),
    )  # fmt: skip
    for name, p in made.named_parameters():  # exactly, not up to rounding
        p[alone] = getattr(splats, name)[one[alone]]
    return made


def _surface(scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Of the ellipsoid's largest cross-section, up to a factor: the product of the two longest axes."""
    longest = scales.sort(1).values
    return longest[:, 1] * longest[:, 2]
