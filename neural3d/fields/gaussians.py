"""A scene as N anisotropic Gaussians with view-dependent colour (Kerbl et al., "3D Gaussian Splatting", SIGGRAPH 2023).

Splat i is o exp(−½ (x − μ)ᵀ Σ⁻¹ (x − μ)) with Σ = R S Sᵀ Rᵀ, seen from direction d in the colour
max(0, ½ + Σ_k c_k Y_k(d)), where Y_k are the real harmonics of `neural3d.ops.spherical_harmonics`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neural3d.geometry.rotations import quaternion_from_rotation, quaternion_product
from neural3d.ops.spherical_harmonics import MAX_LEVELS, spherical_harmonics

THIN = 0.02  # thickness of a splat, as a share of its smaller width, up to which it passes for flat


class Gaussians(nn.Module):
    """N splats as the numbers that are optimised: unconstrained, float32, in the frame of their scene.

    means: μ. log_scales: ln of S's diagonal, the standard deviations along the splat's own axes. quats: R as wxyz, any
    length but 0. opacity_logits: o = 1 / (1 + exp(−x)). sh_dc: c₀ per channel. sh_rest: the other K − 1 coefficients,
    K = (degree + 1)², degree 0 to 3.
    """

    def __init__(
        self,
        means: Float[Tensor, "N 3"],
        log_scales: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        opacity_logits: Float[Tensor, "N"],
        sh_dc: Float[Tensor, "N 3"],
        sh_rest: Float[Tensor, "N K-1 3"],
    ):
        super().__init__()
        n, k = len(means), sh_rest.shape[1] + 1 if sh_rest.ndim == 3 else 0
        shapes = dict(
            means=(n, 3), log_scales=(n, 3), quats=(n, 4), opacity_logits=(n,), sh_dc=(n, 3), sh_rest=(n, k - 1, 3)
        )
        if k not in {levels**2 for levels in range(1, MAX_LEVELS + 1)}:
            raise ValueError(f"sh_rest must have shape (N, 0, 3, 8 or 15, 3), not {tuple(sh_rest.shape)}")
        given = dict(
            means=means, log_scales=log_scales, quats=quats, opacity_logits=opacity_logits, sh_dc=sh_dc, sh_rest=sh_rest
        )
        for name, tensor in given.items():
            if tensor.shape != shapes[name]:
                raise ValueError(f"{name} must have shape {shapes[name]}, not {tuple(tensor.shape)}")
            self.register_parameter(name, nn.Parameter(tensor.detach().to(torch.float32).contiguous()))

    means: nn.Parameter
    log_scales: nn.Parameter
    quats: nn.Parameter
    opacity_logits: nn.Parameter
    sh_dc: nn.Parameter
    sh_rest: nn.Parameter

    def __len__(self) -> int:
        return len(self.means)

    def __bool__(self) -> bool:
        return True  # a module is one, also without splats

    @property
    def sh_degree(self) -> int:
        """The degree that sh_rest has room for."""
        return math.isqrt(self.sh_rest.shape[1] + 1) - 1

    @property
    def flat(self) -> Bool[Tensor, "N"]:
        """Which have next to no thickness: pieces of planes."""
        shortest, middle, _ = self.log_scales.detach().sort(1).values.unbind(1)
        return shortest <= middle + math.log(THIN)

    def selected(self, which: Tensor) -> Gaussians:
        """A copy of some of the splats: a mask or indices."""
        return Gaussians(*(p.detach()[which] for p in self.parameters()))

    @torch.no_grad()
    def transformed(self, similarity: Float[Tensor, "4 4"]) -> Gaussians:
        """A copy moved by x → s R x + t: means, scales, orientations and the directions that colours depend on.

        Raises ValueError where the matrix shears, mirrors or shrinks to nothing.
        """
        similarity = similarity.detach().to(self.means.device, torch.float64)
        linear, offset = similarity[:3, :3], similarity[:3, 3]
        scale = torch.linalg.det(linear).clamp_min(0) ** (1 / 3)
        rotation = linear / scale
        error = (rotation @ rotation.T - torch.eye(3).to(rotation)).abs().max()
        if not error < 1e-5:  # also of NaN, from a determinant ≤ 0; float32 matrices are 1e-7 off
            raise ValueError("similarity must be a rotation, one scale above 0 and a translation")
        turn = quaternion_from_rotation(rotation).to(self.quats)
        return Gaussians(
            self.means.double() @ linear.T + offset,
            self.log_scales + scale.log().float(),
            quaternion_product(turn, self.quats),
            self.opacity_logits.clone(),
            self.sh_dc.clone(),
            rotated_harmonics(self.sh_rest, rotation),
        )


def rotated_harmonics(
    coefficients: Float[Tensor, "N K-1 C"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "N K-1 C"]:
    """Coefficients c' of degrees 1 to 3 with Σ c'_k Y_k(d) = Σ c_k Y_k(Rᵀd): the function turned by R.

    Each degree l mixes within itself, by Wigner's matrix D_l. With as many directions as Y needs to tell its
    functions apart, D_l solves Y_l(d) D_l = Y_l(Rᵀd).
    """
    rotation = rotation.double()
    points = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(rotation.device)
    directions = nn.functional.normalize(points, dim=1)
    levels = math.isqrt(coefficients.shape[1] + 1)
    here, there = spherical_harmonics(directions, levels), spherical_harmonics(directions @ rotation, levels)
    turned = []
    for level in range(1, levels):
        band = slice(level**2, (level + 1) ** 2)
        wigner = torch.linalg.lstsq(here[:, band], there[:, band]).solution
        old = coefficients[:, level**2 - 1 : (level + 1) ** 2 - 1]
        turned.append(torch.einsum("jk,nkc->njc", wigner.to(coefficients), old))
    return torch.cat(turned, 1) if turned else coefficients.clone()
