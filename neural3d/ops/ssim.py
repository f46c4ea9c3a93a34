"""Structural similarity as a training loss: value and gradient fused, four blurred fields instead of five images.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, eq. 13. G is the 11 × 11
Gaussian window (σ = 1.5); at each pixel of each channel μ = G∗x, σ² = G∗x² − μ², σxy = G∗(xy) − μx μy, and

    SSIM = (2 μx μy + C₁)(2 σxy + C₂) / ((μx² + μy² + C₁)(σx² + σy² + C₂)),   C₁ = 0.01², C₂ = 0.03²

The windows at the border see zeros outside the picture ("same" padding), as in the training loss of 3D Gaussian
splatting (Kerbl et al. 2023); `neural3d.metrics.ssim`, the figure that papers report, averages where windows fit.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import check, native, stream

MAX_CHANNELS = 8


class _SsimL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, truth):
        needed = ctx.needs_input_grad[0]
        image = check("image", image, (None, None, None))
        if image.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"image must be float32 or float64, not {image.dtype}")
        if image.numel() == 0 or image.shape[2] > MAX_CHANNELS:
            raise ValueError(f"image must have pixels and 1 to {MAX_CHANNELS} channels, not {tuple(image.shape)}")
        truth = check("truth", truth, tuple(image.shape), image)
        kernels = native(image.device)
        height, width, channels = image.shape
        sums = image.new_empty(2, kernels.ssim_pieces(height, width * channels), dtype=torch.float64)
        means = image.new_empty(2)
        partials = image.new_empty(3, *image.shape) if needed else None
        kernels.ssim(image=image, truth=truth, partials=partials, sums=sums, means=means, stream=stream(image.device))
        ctx.save_for_backward(image, truth, partials)
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_means):
        image, truth, partials = ctx.saved_tensors
        v_image = torch.empty_like(image)
        native(image.device).ssim_vjp(
            image=image, truth=truth, partials=partials, v_means=v_means.contiguous(), v_image=v_image,
            stream=stream(image.device),
        )  # fmt: skip
        return v_image, None


def ssim(image: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> Float[Tensor, ""]:
    """Mean structural similarity over pixels and channels, in [−1, 1], 1 for equal pictures; see the module's page.

    image, truth: any size from one pixel, 1 to 8 channels, float32 or float64, values about [0, 1]: the constants C are
    for that range, and variances as differences keep about four digits in it. Differentiable in `image` only. On both
    devices the same inputs give the same bytes each time. Raises ValueError on other shapes, dtypes or devices.
    """
    return _SsimL1.apply(image, truth)[0]


def ssim_and_l1(
    image: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`ssim` and the mean of |image − truth|, both in one pass there and one back; arguments and errors as there."""
    similarity, distance = _SsimL1.apply(image, truth).unbind()
    return similarity, distance
