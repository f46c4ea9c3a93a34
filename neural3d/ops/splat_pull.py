"""What density control sums over views: how hard each pulls at a splat's centre, and how many drew it.

Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023, section 5.2: the positions' gradient
in the picture, here in halves of its sides, |(∂L/∂x · W/2, ∂L/∂y · H/2)|, summed over the views.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import check, native, stream


@torch.no_grad()
def splat_pull(
    v_xy: Float[Tensor, "N 2"],
    radius: Float[Tensor, "N"],
    pull: Float[Tensor, "N"],
    views: Float[Tensor, "N"],
    width: float,
    height: float,
) -> None:
    """Adds a view to `pull` and, where it drew the splat (radius > 0), 1 to `views`, both in place.

    v_xy: ∂L/∂xy per pixel, or its absolute sum. width, height: of the picture, pixels. float32 or float64, all alike.
    Raises ValueError on mismatched shapes, dtypes or devices, or where `pull` or `views` is not contiguous.
    """
    n = len(pull)
    v_xy, radius = check("v_xy", v_xy, (n, 2), pull), check("radius", radius, (n,), pull)
    check("pull", pull, (n,)), check("views", views, (n,), pull)
    if not (pull.is_contiguous() and views.is_contiguous()):
        raise ValueError("pull and views are written in place: they must be contiguous")
    native(pull.device).splat_pull(
        v_xy=v_xy, radius=radius, pull=pull, views=views, half_width=width / 2, half_height=height / 2,
        stream=stream(pull.device),
    )  # fmt: skip
