"""Blending of projected splats, front to back, in one kernel with its derivative.

Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", SIGGRAPH 2023, section 6, after Zwicker et
al., "EWA Splatting", 2001. Splat i, in order of depth, covers a pixel whose centre lies d away from xy_i by

    α_i = min(0.99, o_i exp(−½ dᵀ Q_i d)),   w_i = T_i α_i,   T_{i+1} = T_i (1 − α_i),   T_1 = 1
    image = Σ w_i c_i + T_end background,    alpha = 1 − T_end

where i runs over the splats with α_i ≥ 1/255, up to the one that would bring T below 1e-4, which is left out (the
conventions of the paper's code and of gsplat; csrc/core/splat.h holds the constants).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import check, native, stream
from neural3d.ops.splat_bin import RECORD, Bins, kept_memory, splat_bin

_GROUP = 8  # channels that one pass blends (kGroup in csrc/ops/splat_raster.h)
_LARGEST = 1 << 16  # pixels along a side


def splat_raster(
    xy: Float[Tensor, "N 2"],
    conic: Float[Tensor, "N 3"],
    depth: Float[Tensor, "N"],
    opacity: Float[Tensor, "N"],
    features: Float[Tensor, "N C"],
    width: int,
    height: int,
    *,
    background: Float[Tensor, "C"] | None = None,
    xy_abs_grad: Float[Tensor, "N 2"] | None = None,
) -> tuple[Float[Tensor, "H W C"], Float[Tensor, "H W 1"]]:
    """Blends splats to an image and its alpha; see the module's page for the equations.

    xy: centres in pixels; the first pixel's centre is (0.5, 0.5). conic: Q = Σ'⁻¹ in pixels⁻², as xx, xy, yy.
    depth: any number that orders the splats, near ones first; of equal depths the earlier splat is in front.
    opacity: o; splats with o < 1/255 touch nothing. features: colours or anything else, any C ≥ 1, 8 of them in a pass;
    expected depth comes from depths appended to the colours. background: what shows behind, black without.
    Splats whose conic is not positive definite, or whose xy, conic, depth or opacity is not finite, touch nothing and
    get zero gradients. NaN features spoil the pixels that they are blended to.

    Differentiable once, in xy, conic, opacity, features and background, not in depth; capped α have no slope in xy,
    conic and opacity. float32; float64 runs the same formulas slowly, for gradient checks. The same inputs give the
    same bytes, on the CPU for any number of threads.

    xy_abs_grad: the backward pass writes Σ over pixels of |∂L/∂xy| here (AbsGS, Ye et al. 2024); for C ≤ 8.
    Raises ValueError for shapes, dtypes or devices that do not fit; RuntimeError where splats touch 2³¹ tiles.
    """
    if features.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"features must be float32 or float64, not {features.dtype}")
    if features.ndim != 2 or features.shape[1] < 1:
        raise ValueError(f"features must have shape (N, C) with C at least 1, not {tuple(features.shape)}")
    if not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise ValueError(f"width and height must be 1 to {_LARGEST}, not {width} and {height}")
    if xy_abs_grad is not None:
        check("xy_abs_grad", xy_abs_grad, (features.shape[0], 2), like=features)
        if features.shape[1] > _GROUP:
            raise ValueError(f"xy_abs_grad needs at most {_GROUP} channels, not {features.shape[1]}")
        if not xy_abs_grad.is_contiguous():
            raise ValueError("xy_abs_grad is written in place: it must be contiguous")
    return _SplatRaster.apply(xy, conic, depth, opacity, features, background, width, height, xy_abs_grad)


class _SplatRaster(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xy, conic, depth, opacity, features, background, width, height, xy_abs_grad):
        features = check("features", features, (None, None))
        n, channels = features.shape
        xy, conic = check("xy", xy, (n, 2), features), check("conic", conic, (n, 3), features)
        depth, opacity = check("depth", depth, (n,), features), check("opacity", opacity, (n,), features)
        if background is not None:
            background = check("background", background, (channels,), features)
        bins = splat_bin(xy, conic, depth, opacity, features, width, height)
        image, alpha = features.new_empty(height, width, channels), features.new_empty(height, width, 1)
        pixels = (len(bins.tile_begin) - 1) * native(features.device).splat_tile ** 2
        through, stopped = features.new_empty(pixels), features.new_empty(pixels, dtype=torch.int32)
        native(features.device).splat_raster(
            splats=bins.splats, features=features, background=background, tile_begin=bins.tile_begin, entry=bins.entry,
            cells=bins.cells, image=image, alpha=alpha, through=through, stopped=stopped,
            stream=stream(features.device),
        )  # fmt: skip
        ctx.save_for_backward(opacity, features, background, through, stopped, *bins)
        ctx.xy_abs_grad = xy_abs_grad
        ctx.set_materialize_grads(False)
        return image, alpha

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_image, v_alpha):
        if v_image is None and v_alpha is None:
            return (None,) * 9
        opacity, features, background, through, stopped, *bins = ctx.saved_tensors
        bins = Bins(*bins)
        height, width = (v_image if v_image is not None else v_alpha).shape[:2]
        n, channels = features.shape
        v_image = features.new_zeros(height, width, channels) if v_image is None else v_image.contiguous()
        v_alpha = None if v_alpha is None else v_alpha.contiguous()
        v_xy, v_conic, v_opacity = (features.new_empty(n, *k) for k in ((2,), (3,), ()))
        v_features = torch.empty_like(features)
        v_background = None if background is None else torch.empty_like(background)
        rows = kept_memory("rows", features, RECORD * len(bins.entry), features.dtype)
        v_tile = features.new_empty(len(bins.tile_begin) - 1, channels)
        native(features.device).splat_raster_vjp(
            opacity=opacity, features=features, background=background, through=through, stopped=stopped,
            **bins._asdict(), v_image=v_image, v_alpha=v_alpha, rows=rows, v_tile=v_tile, v_xy=v_xy, v_conic=v_conic,
            v_opacity=v_opacity, v_features=v_features, v_background=v_background, v_xy_abs=ctx.xy_abs_grad,
            stream=stream(features.device),
        )  # fmt: skip
        return v_xy, v_conic, None, v_opacity, v_features, v_background, None, None, None
