"""Volume rendering of packed rays: colour, opacity, depth, weights and the distortion loss in one pass.

Sample i of a ray has density σ_i ≥ 0, colour c_i, distance t_i and length δ_i (Max 1995; Mildenhall et al., "NeRF",
ECCV 2020, eq. 3):

    τ_i = σ_i δ_i,   T_i = exp(−Σ_{j<i} τ_j),   w_i = T_i (1 − exp(−τ_i))
    rgb = Σ w_i c_i + (1 − opacity) background,   opacity = Σ w_i,   depth = Σ w_i t_i

and the distortion loss of mip-NeRF 360 (Barron et al., CVPR 2022, eq. 15), Σ_ij w_i w_j |t_i − t_j| + ⅓ Σ w_i² δ_i, by
running sums in O(samples). It is in units of t; the paper's is for t normalised to [0, 1]: divide by the far distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.native import check, native, stream
from neural3d.ops.ray_march import Samples, compact


@dataclass(frozen=True)
class Composite:
    """What `composite` returns; everything is differentiable."""

    rgb: Float[Tensor, "R C"]
    opacity: Float[Tensor, "R"]
    depth: Float[Tensor, "R"]  # Σ w t: divide by opacity for the expected distance where something is hit
    weights: Float[Tensor, "S"]
    distortion: Float[Tensor, "R"]


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigma, color, t, dt, offsets, early_stop):
        color = check("rgb", color, (None, None))
        samples, rays = color.shape[0], offsets.shape[0] - 1
        if color.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"rgb must be float32 or float64, not {color.dtype}")
        sigma, t, dt = (check(n, x, (samples,), color) for n, x in (("sigma", sigma), ("t", t), ("dt", dt)))
        offsets = _check_offsets(offsets, color)
        out_color = color.new_empty(rays, color.shape[1])
        opacity, depth, distortion = (color.new_empty(rays) for _ in range(3))
        weights = torch.empty_like(sigma)
        used = offsets.new_empty(rays, dtype=torch.int32)
        native(color.device).composite(
            sigma=sigma, color=color, t=t, dt=dt, offsets=offsets, out_color=out_color, opacity=opacity, depth=depth,
            distortion=distortion, weights=weights, used=used, early_stop=early_stop, stream=stream(color.device),
        )  # fmt: skip
        ctx.save_for_backward(color, t, dt, weights, opacity, used, offsets)
        ctx.set_materialize_grads(False)
        return out_color, opacity, depth, weights, distortion

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_color, v_opacity, v_depth, v_weights, v_distortion):
        color, t, dt, weights, opacity, used, offsets = ctx.saved_tensors
        v_out = [None if v is None else v.contiguous() for v in (v_color, v_opacity, v_depth, v_distortion, v_weights)]
        v_color, v_opacity, v_depth, v_distortion, v_weights = v_out
        v_sigma, v_rgb = color.new_empty(color.shape[0]), torch.empty_like(color)
        native(color.device).composite_vjp(
            color=color, t=t, dt=dt, weights=weights, opacity=opacity, used=used, offsets=offsets,
            v_out_color=v_color, v_opacity=v_opacity, v_depth=v_depth, v_distortion=v_distortion, v_weights=v_weights,
            v_sigma=v_sigma, v_color=v_rgb, stream=stream(color.device),
        )  # fmt: skip
        return v_sigma, v_rgb, None, None, None, None


def _check_offsets(offsets: Tensor, like: Tensor) -> Tensor:
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or offsets.shape[0] < 1 or offsets.device != like.device:
        raise ValueError(f"offsets must be int64 (rays + 1,) on {like.device}")
    return offsets.contiguous()


def composite(
    sigma: Float[Tensor, "S"],
    rgb: Float[Tensor, "S C"],
    t: Float[Tensor, "S"],
    dt: Float[Tensor, "S"],
    offsets: Int[Tensor, "R+1"],
    *,
    background: Float[Tensor, "C"] | Float[Tensor, "R C"] | None = None,
    early_stop: float = 1e-4,
) -> Composite:
    """Composites packed rays front to back; see the module's page for the equations.

    sigma: density per unit of t. rgb: any number of channels C ≥ 1 (normals or features may ride along). t, dt: the
    samples' middles and lengths, in order along each ray. offsets: int64, ray r owns samples offsets[r]:offsets[r+1]; a
    ray without samples is its background.
    early_stop: samples with T_i < early_stop get no weight and no gradient; 0 uses all.
    Differentiable in sigma, rgb and background, through every output; not in t and dt. float32 or float64, all alike.
    σ = ∞ is opaque; a NaN spoils its own ray and no other.
    Raises ValueError on mismatched shapes, dtypes or devices. Offsets are trusted to ascend from 0 to S: checking would
    cost a synchronisation.
    """
    color, opacity, depth, weights, distortion = _Composite.apply(sigma, rgb, t, dt, offsets, early_stop)
    if background is not None:
        color = color + (1 - opacity)[:, None] * background
    return Composite(color, opacity, depth, weights, distortion)


@torch.no_grad()
def used_samples(
    sigma: Float[Tensor, "S"], dt: Float[Tensor, "S"], offsets: Int[Tensor, "R+1"], early_stop: float = 1e-4
) -> Int[Tensor, "R"]:
    """How many of its first samples each ray uses: those with T_i ≥ early_stop, exactly as `composite` decides."""
    sigma = check("sigma", sigma, (None,))
    dt, offsets = check("dt", dt, sigma.shape, sigma), _check_offsets(offsets, sigma)
    used = offsets.new_empty(offsets.shape[0] - 1)
    native(sigma.device).composite_used(
        sigma=sigma, dt=dt, offsets=offsets, used=used, early_stop=early_stop, stream=stream(sigma.device)
    )
    return used


def compact_visible(
    samples: Samples, sigma: Float[Tensor, "S"], early_stop: float = 1e-4
) -> tuple[Samples, Int[Tensor, "S'"]]:
    """The samples that `composite` would use, given all densities, and their indices: colours are only needed there."""
    return compact(samples, used_samples(sigma, samples.dt, samples.offsets, early_stop))
