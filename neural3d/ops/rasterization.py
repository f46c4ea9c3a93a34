"""3D Gaussians to pictures in one call, with the signature of gsplat's `rasterization`.

Names, shapes and conventions are theirs (OpenCV axes, pixel centres at +0.5, wxyz quaternions, the same spherical
harmonics, blur eps2d, α in [1/255, 0.99], early stop), hence the same values and gradients up to rounding; code that
calls `gsplat.rasterization` calls this instead. What differs: cameras are drawn one after the other and nothing is
packed, so that every entry of `info` has a row for each Gaussian; radii are one number, the long half axis of the
ellipse on which α is 1/255; gradients also reach viewmats, Ks and backgrounds. Underneath are `splat_project` and
`splat_raster`, where the equations are.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.splat_project import splat_project
from neural3d.ops.splat_raster import splat_raster

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
LENSES = {"pinhole": "pinhole", "ortho": "orthographic", "fisheye": "fisheye"}


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, "N"],
    colors: Float[Tensor, "N D"] | Float[Tensor, "C N D"] | Float[Tensor, "N K 3"] | Float[Tensor, "C N K 3"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    *,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    camera_model: Literal["pinhole", "ortho", "fisheye"] = "pinhole",
) -> tuple[Float[Tensor, "C H W channels"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Renders Gaussians as C cameras see them: (pictures, alphas, info).

    means: world frame. quats: wxyz, any length. scales: standard deviations. opacities: in [0, 1].
    colors: with sh_degree None, D values of each Gaussian, of all cameras or of each; otherwise coefficients of K ≥
    (sh_degree + 1)² harmonics, of which those up to sh_degree are used.
    viewmats: camera_from_world, rigid. Ks: in pixels, without skew. near_plane, far_plane: of camera z.
    eps2d: pixels², added to the ellipses' variances; rasterize_mode "antialiased" compensates for it in the opacity
    (Mip-Splatting). camera_model: fisheye is equidistant, below 90°; ortho: focal lengths are pixels per unit.
    backgrounds: show through where alpha < 1; black without.
    render_mode: "RGB" the colours; "D" Σ w z, with z the depth of the Gaussians' centres; "ED" the expected depth
    Σ w z / Σ w, zero where nothing is; "RGB+D", "RGB+ED": the depth as a further, last channel.
    info: means2d (C, N, 2), conics (C, N, 3), depths, opacities and radii (C, N), zero where culled; width, height,
    n_cameras. Call info["means2d"].retain_grad() for the gradients that densification looks at; with absgrad,
    info["means2d"].absgrad is Σ over pixels of |∂L/∂means2d| after the backward pass (AbsGS), for up to 4 channels.
    Differentiable in all tensors. Raises ValueError for shapes, dtypes, devices or modes that do not fit.
    """
    cameras, harmonics = _checked(len(means), colors, viewmats, Ks, sh_degree, backgrounds, render_mode, camera_model)
    if rasterize_mode not in ("classic", "antialiased"):
        raise ValueError(f"rasterize_mode must be classic or antialiased, not '{rasterize_mode}'")
    dc, rest = (None, None) if sh_degree is None else (harmonics[..., 0, :], harmonics[..., 1:, :])
    projected = [
        splat_project(
            means, quats, scales, opacities, None if dc is None else dc[c], None if rest is None else rest[c],
            viewmats[c], torch.stack([Ks[c, 0, 0], Ks[c, 1, 1], Ks[c, 0, 2], Ks[c, 1, 2]]), width, height,
            sh_degree=sh_degree or 0, near=near_plane, far=far_plane, blur=eps2d,
            antialiased=rasterize_mode == "antialiased", lens=LENSES[camera_model],  # type: ignore[arg-type]
        )
        for c in range(cameras)
    ]  # fmt: skip
    parts = ("xy", "conic", "depth", "opacity", "radius")
    means2d, conics, depths, alphas, radii = (torch.stack([getattr(p, part) for p in projected]) for part in parts)
    pulls = torch.zeros_like(means2d) if absgrad else None
    drawn = [
        splat_raster(
            means2d[c], conics[c], depths[c], alphas[c],
            _features(harmonics[c] if sh_degree is None else projected[c].color, depths[c], render_mode), width, height,
            background=_background(None if backgrounds is None else backgrounds[c], render_mode),
            xy_abs_grad=None if pulls is None else pulls[c],
        )
        for c in range(cameras)
    ]  # fmt: skip
    pictures, opacity = (torch.stack(images) for images in zip(*drawn))
    if "ED" in render_mode:
        # Where alpha is 0 so is Σ w z; the smallest alpha that is not is 1/255.
        pictures = torch.cat([pictures[..., :-1], pictures[..., -1:] / opacity.clamp(min=1e-4)], -1)
    if pulls is not None:
        means2d.absgrad = pulls  # type: ignore[attr-defined]
    info = {
        "means2d": means2d, "conics": conics, "depths": depths, "opacities": alphas, "radii": radii,
        "width": width, "height": height, "n_cameras": cameras,
    }  # fmt: skip
    return pictures, opacity, info


def _features(colors: Tensor, depth: Tensor, mode: str) -> Tensor:
    return torch.cat(([colors] if "RGB" in mode else []) + ([depth[:, None]] if "D" in mode else []), -1)


def _background(color: Tensor | None, mode: str) -> Tensor | None:
    """Behind depths there is nothing."""
    if color is None or mode == "RGB":
        return color
    return torch.cat([color, color.new_zeros(1)]) if "RGB" in mode else None


def _checked(
    n: int, colors: Tensor, viewmats: Tensor, ks: Tensor, sh_degree: int | None, backgrounds: Tensor | None, mode: str,
    model: str,
) -> tuple[int, Tensor]:  # fmt: skip
    """How many cameras, and each one's colours or coefficients. Raises ValueError."""
    if mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {', '.join(RENDER_MODES)}, not '{mode}'")
    if model not in LENSES:
        raise ValueError(f"camera_model must be one of {', '.join(LENSES)}, not '{model}'")
    if viewmats.ndim != 3 or viewmats.shape[1:] != (4, 4) or not len(viewmats):
        raise ValueError(f"viewmats must have shape (C, 4, 4), not {tuple(viewmats.shape)}")
    cameras = len(viewmats)
    if ks.shape != (cameras, 3, 3):
        raise ValueError(f"Ks must have shape ({cameras}, 3, 3), not {tuple(ks.shape)}")
    rank = 2 if sh_degree is None else 3
    if colors.ndim == rank:
        colors = colors.expand(cameras, *colors.shape)
    right = colors.ndim == rank + 1 and colors.shape[:2] == (cameras, n)
    if not right or (sh_degree is not None and (colors.shape[3] != 3 or not colors.shape[2])):
        shape = "(N, D) or (C, N, D)" if sh_degree is None else "(N, K, 3) or (C, N, K, 3) with sh_degree"
        raise ValueError(f"colors must have shape {shape}, not {tuple(colors.shape)}")
    if backgrounds is not None and (backgrounds.ndim != 2 or len(backgrounds) != cameras):
        raise ValueError(f"backgrounds must have shape ({cameras}, D), not {tuple(backgrounds.shape)}")
    return cameras, colors
