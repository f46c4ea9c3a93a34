"""3D Gaussians to pictures in one call: `splat_project`, then `splat_raster`.

For those who come from gsplat's `rasterization`: one camera at a time, whose matrix is `camera_from_world` (gsplat's
viewmat) and whose intrinsics may be their K; the same conventions (OpenCV axes, pixel centres at +0.5, wxyz
quaternions, the same spherical harmonics, blur `eps2d`, α in [1/255, 0.99], early stop), hence the same values and
gradients up to rounding. `info` is what `splat_project` returns: info.xy, info.conic, info.depth, info.opacity and
info.radius are their means2d, conics, depths, opacities and radii, with N rows, never packed; call
info.xy.retain_grad() for the gradients that densification looks at.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.splat_project import Projected, splat_project
from neural3d.ops.splat_raster import splat_raster

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")


def rasterize_gaussians(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N C"] | Float[Tensor, "N K 3"],
    camera_from_world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"] | Float[Tensor, "4"],
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    background: Float[Tensor, "C"] | None = None,
    near: float = 0.01,
    far: float = math.inf,
    blur: float = 0.3,
    antialiased: bool = False,
    render_mode: str = "RGB",
    xy_abs_grad: Float[Tensor, "N 2"] | None = None,
) -> tuple[Float[Tensor, "H W channels"], Float[Tensor, "H W 1"], Projected]:
    """Renders Gaussians to (image, alpha, info).

    means: world frame. quats: wxyz, any length. scales: standard deviations. opacities: in [0, 1].
    colors: with sh_degree None, any C values a splat; otherwise coefficients of the K ≥ (sh_degree + 1)² harmonics, of
    which those up to sh_degree are used.
    camera_from_world: rigid, OpenCV axes. intrinsics: in pixels, f_x, f_y, c_x, c_y or the matrix that holds them.
    background: shows through where alpha < 1; black without. near, far: of camera z. blur: pixels², added to the
    ellipses' variances; antialiased: compensated for in the opacity (Mip-Splatting).
    render_mode: "RGB" the colours; "D" Σ w z, with z the depth of the splats' centres; "ED" the expected depth
    Σ w z / Σ w, zero where nothing is; "RGB+D", "RGB+ED": the depth as a further, last channel.
    xy_abs_grad: receives Σ over pixels of |∂L/∂info.xy| in the backward pass (AbsGS), for up to 4 channels in all.
    Differentiable in means, quats, scales, opacities, colors, camera_from_world and background.
    Raises ValueError for shapes, dtypes, devices or modes that do not fit.
    """
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {', '.join(RENDER_MODES)}, not '{render_mode}'")
    if intrinsics.shape == (3, 3):
        intrinsics = torch.stack([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]])
    if sh_degree is not None and (colors.ndim != 3 or colors.shape[1] < 1 or colors.shape[2] != 3):
        raise ValueError(f"colors must have shape (N, K, 3) with sh_degree, not {tuple(colors.shape)}")
    dc, rest = (None, None) if sh_degree is None else (colors[:, 0], colors[:, 1:])
    info = splat_project(
        means, quats, scales, opacities, dc, rest, camera_from_world, intrinsics, width, height,
        sh_degree=sh_degree or 0, near=near, far=far, blur=blur, antialiased=antialiased,
    )  # fmt: skip
    parts = []
    if "RGB" in render_mode:
        parts.append(colors if sh_degree is None else info.color)
    if background is not None and "D" in render_mode:
        background = torch.cat([background, background.new_zeros(1)]) if parts else None
    if "D" in render_mode:
        parts.append(info.depth[:, None])
    image, alpha = splat_raster(
        info.xy, info.conic, info.depth, info.opacity, torch.cat(parts, 1) if len(parts) > 1 else parts[0],
        width, height, background=background, xy_abs_grad=xy_abs_grad,
    )  # fmt: skip
    if "ED" in render_mode:
        # Where alpha is 0 so is Σ w z; the smallest alpha that is not is 1/255.
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp(min=1e-4)], -1)
    return image, alpha, info
