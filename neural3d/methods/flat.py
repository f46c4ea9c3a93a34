"""What makes a surface of splats while they train: they are flat, lie in it, and not in layers behind each other."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.data.rays import PhotoBatch
from neural3d.fields.gaussians import Gaussians
from neural3d.files.quantised import FLAT
from neural3d.losses import plane_consistency
from neural3d.render.planes import splat_planes


@torch.no_grad()
def flatten(splats: Gaussians) -> None:
    """The shortest axis becomes the normal, with next to no scale."""
    scales = splats.log_scales
    shortest = scales.argmin(1, keepdim=True)
    width = scales.scatter(1, shortest, math.inf).amin(1, keepdim=True)
    scales.scatter_(1, shortest, width + math.log(FLAT))


def plane_features(splats: Gaussians, camera_from_world: Float[Tensor, "4 4"]) -> Float[Tensor, "N 5"]:
    """What is blended beside colours: n, d and d² of `render.planes`."""
    planes = splat_planes(splats, camera_from_world)
    return torch.cat([planes, planes[:, 3:].square()], 1)


class Parts(torch.autograd.Function):
    """Of an image with blended planes: its colours, and planes and alpha of every other row and column from `first` on.

    One function, as slices would each hand back a whole image of gradients, to be added up.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, alpha: Tensor, first: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        ctx.shape, ctx.part = image.shape, (slice(first[0], None, 2), slice(first[1], None, 2))
        return (
            image[..., :3].contiguous(),
            image[ctx.part][..., 3:].contiguous(),
            alpha[ctx.part].contiguous(),
        )

    @staticmethod
    def backward(ctx: Any, v_color: Tensor, v_planes: Tensor, v_part: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        v_image, v_alpha = v_color.new_zeros(ctx.shape), v_color.new_zeros(*ctx.shape[:2], 1)
        v_image[..., :3] = v_color
        v_image[ctx.part][..., 3:] = v_planes
        v_alpha[ctx.part] = v_part
        return v_image, v_alpha, None


def plane_losses(
    batch: PhotoBatch,
    planes: Float[Tensor, "h w 5"],
    alpha: Float[Tensor, "h w 1"],
    intrinsics: Float[Tensor, "4"],
    first: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """`plane_consistency` of what `Parts` left; where the photo has an edge, the surface may have one.

    intrinsics: of the photo in full size. Masks of what counts in photos do not matter to the splats' own shape.
    """
    fx, fy, cx, cy = intrinsics / batch.shrink
    (height, width), device = planes.shape[:2], planes.device
    u = (first[1] + 0.5 + 2 * torch.arange(width, device=device) - cx) / fx
    v = (first[0] + 0.5 + 2 * torch.arange(height, device=device) - cy) / fy
    photo = batch.rgb[first[0] :: 2, first[1] :: 2]
    across, down = (photo[:-1, :-1] - x for x in (photo[:-1, 1:], photo[1:, :-1]))
    trust = torch.zeros(height, width, device=device)
    trust[:-1, :-1] = (1 - torch.maximum(across.abs(), down.abs()).amax(-1)).square()
    return plane_consistency(planes, alpha, u, v, trust)
