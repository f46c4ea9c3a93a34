"""Terms of objective functions, as pure functions: what data to match, and what to prefer where there is none."""

from __future__ import annotations

import torch
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


def carving(
    opacity: Float[Tensor, "R"], depth: Float[Tensor, "R"], off: Float[Tensor, "R C"], telling: Float[Tensor, "R C"]
) -> Float[Tensor, ""]:
    """Its gradient moves surfaces that are rendered as volumes along rays, by `carving_force`.

    Only where along the ray its light is lost changes this, not how much of it. Rays that graze the rim are left alone:
    their pixels are mixtures. depth: Σ w t. off: weighted errors of colours; telling: their weights.
    """
    told = telling.sum(-1)
    sure = (opacity.detach() > 0.95) & (told > 0)
    force = carving_force(off.sum(-1) / told.clamp_min(1e-6), sure.float())
    middle = (depth / opacity.clamp_min(1e-6)).detach()
    return (force * (depth - middle * opacity)).mean()


def plane_consistency(
    planes: Float[Tensor, "H W 5"],
    alpha: Float[Tensor, "H W 1"],
    u: Float[Tensor, "W"],
    v: Float[Tensor, "H"],
    trust: Float[Tensor, "H W"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(how far the normals of splats are from those of the surface that they make, how thick their layers are)

    planes, alpha: blended N, D and S = Σ w d², and A, of `render.planes`. u, v: slopes of the rays through columns and
    rows, evenly spaced. trust: 0 to 1, less where the surface may well have an edge.
    The first is the mean of trust · (A − NᵀN̂) = trust · Σ w (1 − nᵀN̂) (Huang et al., "2D Gaussian splatting", 2024,
    eq. 14), so that turned splats grow transparent, too. Where 1/z = Nᵀr / D = a u + b v + c, the surface is a plane
    with the normal N̂ = −(a, b, c) / |(a, b, c)|; a and b are differences between neighbours.
    The second is the mean of √(S − D² / A) / z, the deviation of the planes' distances as a share of the depth: of a
    splat behind others that let some light through, colours say little, and the depth would lie too deep.
    What is less than half opaque, or seen aslant, does not count.
    """
    n, opaque = planes[..., :3].unbind(-1), alpha[..., 0]
    slope, distance, squares = n[0] * u + n[1] * v[:, None] + n[2], planes[..., 3], planes[..., 4]
    solid = (opaque > 0.5) & (slope < -0.05)
    inverse = slope / torch.where(solid, distance, -1)
    here = inverse[:-1, :-1]
    a = (inverse[:-1, 1:] - here) / (u[1] - u[0])
    b = (inverse[1:, :-1] - here) / (v[1] - v[0])
    c = here - a * u[:-1] - b * v[:-1, None]
    counts = solid[:-1, :-1] & solid[:-1, 1:] & solid[1:, :-1]
    length = torch.sqrt(torch.where(counts, a * a + b * b + c * c, 1))
    cosine = -sum(x[:-1, :-1] * y for x, y in zip(n, (a, b, c))) / length
    turned = torch.where(counts, trust[:-1, :-1], 0) * (opaque[:-1, :-1] - cosine)
    variance = (squares - distance * distance / torch.where(solid, opaque, 1)) * inverse * inverse
    # 1e-8: less than a ten-thousandth of the distance is no thickness, and the root has a slope there.
    thickness = torch.sqrt(torch.where(solid, variance, 0).clamp_min(0) + 1e-8) - 1e-4
    return turned.mean(), thickness.mean()
