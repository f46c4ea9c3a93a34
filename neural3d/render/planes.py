"""Flat splats as pieces of planes, and the depth of the surface that they make together.

In the camera's frame, with μ a splat's centre there and n its shortest axis on the side that the camera sees, the splat
lies in the plane nᵀx = d, d = nᵀμ < 0. Blended as colours are, N = Σ w n and D = Σ w d, these tell where the ray z r
through a pixel, r = (u, v, 1), meets the surface:

    z = D / Nᵀr,    1/z = Nᵀr / D

(Chen et al., "PGSR: Planar-based Gaussian splatting", 2024, eq. 7). Both sums are lessened alike by what is
transparent, and where the splats are parts of one plane z is exact, though the ray meets them beside their centres.
Over a plane 1/z is linear in u and v; its slopes tell the normal of what lies in depth: `losses.plane_consistency`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.rotations import rotation_from_quaternion

GRAZING = 0.01  # −Nᵀr below which a pixel has no depth: a plane seen from its edge, or next to nothing


def splat_planes(splats: Gaussians, camera_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "N 4"]:
    """Each splat's (n, d). Differentiable in means and quats."""
    axes = rotation_from_quaternion(splats.quats)
    shortest = splats.log_scales.argmin(1)
    normal = axes.gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0]
    turn, offset = camera_from_world[:3, :3], camera_from_world[:3, 3]
    eye = -(turn * offset[:, None]).sum(0)
    distance = (normal * (splats.means - eye)).sum(1, keepdim=True)
    seen = torch.cat([(normal[:, None] * turn).sum(2), distance], 1)
    return torch.where(distance > 0, -seen, seen)


def plane_depth(planes: Float[Tensor, "H W 4"], rays: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 1"]:
    """z of blended planes along rays r of the camera's frame, r_z = 1; 0 where there is none."""
    slope = (planes[..., :3] * rays).sum(-1, keepdim=True)
    return torch.where(slope < -GRAZING, planes[..., 3:] / slope.clamp(max=-GRAZING), 0)
