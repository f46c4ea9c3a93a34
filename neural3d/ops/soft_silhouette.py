"""Silhouettes of triangle meshes that fade out around their outlines, for fitting what does not yet overlap.

With d the distance in pixels from a pixel's centre to a triangle's border, and x = d² / σ within it, −d² / σ outside
(Liu et al., "Soft Rasterizer: A Differentiable Renderer for Image-based 3D Reasoning", ICCV 2019, equations 1 and 4):

    D = 1 / (1 + e^−x),   S = 1 − Π (1 − D)   over all triangles

S is 1 deep inside, ½ at the border of a triangle alone, ¾ where two meet. Where D is below ε = 1e-4, beyond a reach of
√(σ ln(1/ε − 1)) ≈ 3 √σ, it counts as 0. Within that reach outlines are pulled by pixels that they should come to cover;
those of `antialias` are sharper, but no pixel pulls them that does not lie under them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from neural3d.ops.mesh_raster import check_faces, check_pixels, sum_corners
from neural3d.ops.native import native, stream

LEAST = 1e-4  # ε: S loses no more, and its gradient next to nothing


class _SoftSilhouette(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pixels, faces, width, height, sigma):
        transmittance = pixels.new_empty(pixels.shape[0], height, width)
        ctx.fade = {"sigma": sigma, "reach": math.sqrt(sigma * math.log(1 / LEAST - 1))}
        native(pixels.device).soft_silhouette(
            pixels=pixels, faces=faces, transmittance=transmittance, **ctx.fade, stream=stream(pixels.device)
        )
        ctx.save_for_backward(pixels, faces, transmittance)
        return 1 - transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_silhouette):
        pixels, faces, transmittance = ctx.saved_tensors
        v_corners = pixels.new_empty(len(pixels), len(faces), 3, 2)
        native(pixels.device).soft_silhouette_vjp(
            pixels=pixels, faces=faces, transmittance=transmittance, v_silhouette=v_silhouette.contiguous(),
            v_corners=v_corners, **ctx.fade, stream=stream(pixels.device),
        )  # fmt: skip
        return F.pad(sum_corners(v_corners, faces, pixels.shape[1]), (0, 1)), None, None, None, None


def soft_silhouette(
    pixels: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], width: int, height: int, sigma: float = 1.0
) -> Float[Tensor, "B H W"]:
    """What share of each pixel the faces of B meshes of one topology cover, softly; see the module's page.

    pixels, faces: as `mesh_raster` takes them, both sides alike. A face with a corner behind the camera (z ≤ 0), or one
    that is not finite, is left out.
    sigma: σ in pixels². Outlines reach 3 √σ: begin as wide as the way to go, and narrow it as the fit comes closer.
    Differentiable in x and y of pixels; z says only what is in front of the camera.
    Results do not depend on the number of threads. Raises ValueError as `mesh_raster` does, and for σ ≤ 0.
    """
    faces = check_faces(faces, check_pixels(pixels, width, height))
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be above 0, not {sigma}")
    return _SoftSilhouette.apply(pixels.contiguous(), faces, width, height, float(sigma))
