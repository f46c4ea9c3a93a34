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

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.fields.gaussians import Gaussians

GRAZING = 0.01  # −Nᵀr below which a pixel has no depth: a plane seen from its edge, or next to nothing


def splat_planes(splats: Gaussians, camera_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "N 4"]:
    """Each splat's (n, d). Differentiable once, in means and quats."""
    shortest = splats.log_scales.detach().argmin(1)
    return _Planes.apply(splats.means, splats.quats, shortest, camera_from_world)


class _Planes(torch.autograd.Function):
    """By hand, which costs a fifth of autograd's. Axes are taken in turn so that c is the shortest: with the unit
    quaternion (w, a, b, c), n = (2 (a c + w b), 2 (b c − w a), 1 − 2 (a² + b²)).
    """

    @staticmethod
    def forward(ctx: Any, means: Tensor, quats: Tensor, shortest: Tensor, camera_from_world: Tensor) -> Tensor:
        turn, offset = camera_from_world[:3, :3].to(means), camera_from_world[:3, 3].to(means)
        order = (shortest[:, None] + torch.arange(1, 4, device=means.device)) % 3
        w, a, b, c = _columns(torch.cat([quats[:, :1], quats[:, 1:].gather(1, order)], 1))
        length = torch.sqrt(w * w + a * a + b * b + c * c)
        w, a, b, c = (x / length for x in (w, a, b, c))
        in_order = torch.stack([2 * (a * c + w * b), 2 * (b * c - w * a), 1 - 2 * (a * a + b * b)], 1)
        n = _columns(torch.empty_like(in_order).scatter_(1, order, in_order))
        eye = -(turn * offset[:, None]).sum(0)
        ray = _columns(means - eye)
        distance = n[0] * ray[0] + n[1] * ray[1] + n[2] * ray[2]
        sign = torch.where(distance > 0, -1.0, 1.0).to(means)
        seen = [row[0] * n[0] + row[1] * n[1] + row[2] * n[2] for row in turn]
        ctx.save_for_backward(torch.stack([w, a, b, c, length, *n, *ray, sign]), order, turn)
        return torch.stack([sign * x for x in (*seen, distance)], 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        (w, a, b, c, length, *rest, sign), order, turn = ctx.saved_tensors
        n, ray = rest[:3], rest[3:]
        *v_seen, v_distance = (sign * x for x in _columns(v))
        v_n = [sum(turn[k, i] * v_seen[k] for k in range(3)) + v_distance * ray[i] for i in range(3)]
        v_a, v_b, v_c = _columns(torch.stack(v_n, 1).gather(1, order))
        v_unit = [
            2 * (b * v_a - a * v_b),
            2 * (c * v_a - w * v_b) - 4 * a * v_c,
            2 * (w * v_a + c * v_b) - 4 * b * v_c,
            2 * (a * v_a + b * v_b),
        ]
        along = sum(x * y for x, y in zip((w, a, b, c), v_unit))
        v_w, *v_axes = ((x - along * y) / length for x, y in zip(v_unit, (w, a, b, c)))
        in_order = torch.stack(v_axes, 1)
        v_quats = torch.cat([v_w[:, None], torch.empty_like(in_order).scatter_(1, order, in_order)], 1)
        return torch.stack([v_distance * x for x in n], 1), v_quats, None, None


def _columns(x: Float[Tensor, "N K"]) -> tuple[Float[Tensor, "N"], ...]:
    return x.T.contiguous().unbind(0)


def plane_depth(planes: Float[Tensor, "H W 4"], rays: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 1"]:
    """z of blended planes along rays r of the camera's frame, r_z = 1; 0 where there is none."""
    slope = (planes[..., :3] * rays).sum(-1, keepdim=True)
    return torch.where(slope < -GRAZING, planes[..., 3:] / slope.clamp(max=-GRAZING), 0)
