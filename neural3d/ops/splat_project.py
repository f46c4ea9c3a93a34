"""Projection of 3D Gaussians onto an image: ellipses, colours, depths, and what lies out of sight.

A splat has mean m, rotation R (of its quaternion), scales s, opacity o and spherical-harmonic coefficients c_k. With
camera_from_world = [W t], p = W m + t and slopes u = p_x/p_z, v = p_y/p_z (Zwicker et al., "EWA volume splatting",
2001; Kerbl et al., "3D Gaussian splatting", SIGGRAPH 2023, eq. 5 and 6):

    xy = (f_x u + c_x, f_y v + c_y)
    Σ = R diag(s)² Rᵀ,   Σ′ = J W Σ Wᵀ Jᵀ + b I,   J = [f_x 0 −f_x u; 0 f_y −f_y v] / p_z,   conic = Σ′⁻¹
    orthographic:  xy = f p_xy + c       fisheye:  xy = f θ/r p_xy + c,  r = |p_xy|,  θ = atan(r / p_z)
    colour = max(0, ½ + Σ_k c_k Y_k(d)),   d = (m − centre) / |m − centre|,   centre = −Wᵀt

J is the derivative of xy by p. In the pinhole's, u and v go no further beyond the image than 0.3 half fields of view:
the linearisation is meaningless there.
The alpha of a splat at a pixel's centre x is o · exp(−½ (x − xy)ᵀ Σ′⁻¹ (x − xy)); below 1/255 it is not drawn. With
`antialiased`, o is multiplied by √(det(Σ′ − b I) / det Σ′) (Yu et al., "Mip-Splatting", CVPR 2024, eq. 9), so that the
blur b widens a splat without brightening it; the factor stops at 0.005, as in their code, as the root's slope has no
bound at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import check, native, stream

LENSES = ("pinhole", "orthographic", "fisheye")
_INPUTS = ("means", "quats", "scales", "opacities", "sh_dc", "sh_rest", "camera", "intrinsics")
BANDS = (0, 3, 8, 15)  # harmonics beyond the constant one, by degree


@dataclass(frozen=True)
class Projected:
    """What `splat_project` returns, in the order of its input. A culled splat is zero throughout."""

    xy: Float[Tensor, "N 2"]  # pixels; (0.5, 0.5) is the first pixel's centre
    conic: Float[Tensor, "N 3"]  # Σ′⁻¹: xx, xy, yy
    depth: Float[Tensor, "N"]  # along the camera's z axis
    opacity: Float[Tensor, "N"]
    color: Float[Tensor, "N 3"]  # ≥ 0, not limited above; (N, 0) without harmonics
    radius: Float[Tensor, "N"]  # pixels: long half axis of the ellipse on which alpha is 1/255; not differentiable


class _SplatProject(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics, view, differentiable):
        inputs = [means, quats, scales, opacities, sh_dc, sh_rest, camera, intrinsics]
        inputs = [None if x is None else x.detach().contiguous() for x in inputs]
        n = len(means)
        xy, conic, depth, opacity, radius = (means.new_empty(n, *shape) for shape in ((2,), (3,), (), (), ()))
        color = means.new_empty(n, 0 if sh_dc is None else 3)
        slopes = means.new_empty(9, -(-n // 16) * 16) if differentiable and sh_dc is not None else None
        native(means.device).splat_project(
            **dict(zip(_INPUTS, inputs)), view=view, xy=xy, conic=conic, depth=depth, opacity=opacity, color=color,
            radius=radius, slopes=slopes, stream=stream(means.device),
        )  # fmt: skip
        ctx.save_for_backward(*inputs, color, radius, slopes)
        ctx.view = view
        ctx.mark_non_differentiable(radius)
        ctx.set_materialize_grads(False)
        return xy, conic, depth, opacity, color, radius

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_xy, v_conic, v_depth, v_opacity, v_color, _):
        *inputs, color, radius, slopes = ctx.saved_tensors
        means = inputs[0]
        module = native(means.device)
        v_out = dict(v_xy=v_xy, v_conic=v_conic, v_depth=v_depth, v_opacity=v_opacity, v_color=v_color)
        v_out = {name: None if v is None else v.contiguous() for name, v in v_out.items()}
        v_in = [torch.empty_like(x) if need else None for x, need in zip(inputs, ctx.needs_input_grad)]
        partial = None
        if any(ctx.needs_input_grad[6:8]):
            partial = means.new_empty(-(-len(means) // module.SPLAT_BLOCK), module.CAMERA_SUMS)
        module.splat_project_vjp(
            **dict(zip(_INPUTS, inputs)), view=ctx.view, color=color, radius=radius, slopes=slopes, **v_out,
            **{f"v_{name}": v for name, v in zip(_INPUTS, v_in)}, partial=partial, stream=stream(means.device),
        )  # fmt: skip
        return *v_in, None, None


def splat_project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    sh_dc: Float[Tensor, "N 3"] | None,
    sh_rest: Float[Tensor, "N K-1 3"] | None,
    camera_from_world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "4"],
    width: int,
    height: int,
    *,
    sh_degree: int,
    near: float = 0.01,
    far: float = math.inf,
    blur: float = 0.3,
    antialiased: bool = False,
    raw: bool = False,
    lens: Literal["pinhole", "orthographic", "fisheye"] = "pinhole",
) -> Projected:
    """Projects N splats into an image of width × height pixels; see the module's page for the equations.

    means: world frame. quats: wxyz, any length; 0 is no rotation. scales: standard deviations along the splat's axes.
    opacities: in [0, 1]. sh_dc, sh_rest: coefficients of Y_0 and of the other K − 1 = 0, 3, 8 or 15 harmonics, in the
    order and with the signs of `spherical_harmonics`; None for both: no colours.
    camera_from_world: rigid, OpenCV axes. intrinsics: f_x, f_y, c_x, c_y in pixels. Both may be of any floating dtype
    and device.
    sh_degree: 0 to 3, the harmonics in use; at most what sh_rest holds, the gradient of the rest is zero.
    near, far: splats with p_z outside are culled. So are those whose alpha is below 1/255 at every pixel's centre, as
    far as the box around their ellipse tells, and those with NaN in their geometry.
    blur: b, pixels². antialiased: keeps a splat's light where the blur widens it.
    raw: scales are given as logarithms and opacities as logits; the gradients are with respect to those.
    lens: fisheye is equidistant, f θ, for angles below 90°; orthographic: f is pixels per unit.
    Differentiable in means, quats, scales, opacities, sh_dc, sh_rest, camera_from_world and intrinsics, through every
    output but radius; for a colour clamped at 0 and for a culled splat the gradient is zero. float32 or float64, all
    alike.
    Results and gradients do not depend on the number of threads, nor on a GPU from one run to the next.
    Raises ValueError on mismatched shapes, dtypes or devices, and on settings out of range.
    """
    if means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"means must be float32 or float64, not {means.dtype}")
    check("means", means, (None, 3))
    n = len(means)
    check("quats", quats, (n, 4), means)
    check("scales", scales, (n, 3), means)
    check("opacities", opacities, (n,), means)
    if (sh_dc is None) != (sh_rest is None):
        raise ValueError("sh_dc and sh_rest must both be given, or neither")
    if sh_dc is not None and sh_rest is not None:
        check("sh_dc", sh_dc, (n, 3), means)
        check("sh_rest", sh_rest, (n, None, 3), means)
        if sh_rest.shape[1] not in BANDS:
            raise ValueError(f"sh_rest must hold 0, 3, 8 or 15 harmonics, not {sh_rest.shape[1]}")
        if not (0 <= sh_degree <= 3 and BANDS[sh_degree] <= sh_rest.shape[1]):
            raise ValueError(f"sh_degree {sh_degree} needs more than the {sh_rest.shape[1]} harmonics of sh_rest")
    check("camera_from_world", camera_from_world, (4, 4))
    check("intrinsics", intrinsics, (4,))
    if not (near > 0 and far >= near and blur >= 0 and width > 0 and height > 0):
        raise ValueError(f"0 < near <= far and blur >= 0 wanted, not near={near}, far={far}, blur={blur}")
    if lens not in LENSES:
        raise ValueError(f"lens must be one of {', '.join(LENSES)}, not '{lens}'")
    splats = (means, quats, scales, opacities, sh_dc, sh_rest)
    camera, intrinsics = camera_from_world.to(means), intrinsics.to(means)
    view = (width, height, sh_degree, near, far, blur, antialiased, raw, LENSES.index(lens))
    differentiable = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*splats, camera, intrinsics)
    )
    return Projected(*_SplatProject.apply(*splats, camera, intrinsics, view, differentiable))
