"""Pictures of Gaussian splats: projected, then blended front to back (Kerbl et al., SIGGRAPH 2023)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import lens_of, named
from neural3d.ops.splat_project import splat_project
from neural3d.ops.splat_raster import splat_raster
from neural3d.render import RenderOut
from neural3d.render.planes import plane_depth, splat_planes

HIT = 1e-3  # alpha above which a pixel has a depth


def pinhole_intrinsics(camera: Camera) -> Float[Tensor, "4"]:
    """fx, fy, cx, cy. Raises UserError for a lens that bends lines, which splats cannot follow."""
    lens = lens_of(camera.model)
    if lens.projection != "perspective" or lens.distorts:
        raise UserError(f"Splats are drawn by pinhole cameras, not {camera.model}; use scene.undistort.pinhole_camera.")
    a = named(camera.model, camera.params)
    return torch.stack([a[name] for name in ("fx", "fy", "cx", "cy")])


def blended(
    splats: Gaussians, camera: Camera, features: Float[Tensor, "N C"], *, near: float, antialiased: bool
) -> Float[Tensor, "H W C"]:
    """Σ w_i f_i at each pixel of a pinhole camera's picture; differentiable in the features alone."""
    device = splats.means.device
    with torch.no_grad():
        projected = splat_project(
            splats.means, splats.quats, splats.log_scales, splats.opacity_logits, splats.sh_dc, splats.sh_rest[:, :0],
            torch.linalg.inv(camera.world_from_camera).float().to(device),
            pinhole_intrinsics(camera).float().to(device), camera.width, camera.height,
            sh_degree=0, near=near, antialiased=antialiased, raw=True,
        )  # fmt: skip
    size = camera.width, camera.height
    return splat_raster(projected.xy, projected.conic, projected.depth, projected.opacity, features, *size)[0]


@torch.no_grad()
def render_splats(
    splats: Gaussians,
    camera: Camera,
    background: Float[Tensor, "3"] | None = None,
    *,
    sh_degree: int | None = None,
    near: float = 0.01,
    antialiased: bool = False,
) -> RenderOut:
    """One picture of splats from a pinhole camera in their frame.

    background: sRGB behind them; None: black. sh_degree: harmonics in use; None: all there are. antialiased: as they
    were trained. depth is that of the planes of flat splats, of others the expected one of what was hit; a splat's
    normal is its shortest axis, towards the camera.
    """
    device = splats.means.device
    camera_from_world = torch.linalg.inv(camera.world_from_camera).float().to(device)
    projected = splat_project(
        splats.means, splats.quats, splats.log_scales, splats.opacity_logits, splats.sh_dc, splats.sh_rest,
        camera_from_world, pinhole_intrinsics(camera).float().to(device), camera.width, camera.height,
        sh_degree=splats.sh_degree if sh_degree is None else sh_degree, near=near, antialiased=antialiased, raw=True,
    )  # fmt: skip
    planes = splat_planes(splats, camera_from_world)
    features = torch.cat([projected.color, planes, projected.depth[:, None]], 1)
    behind = torch.zeros(8, device=device)
    if background is not None:
        behind[:3] = background.to(device)
    image, alpha = splat_raster(
        projected.xy, projected.conic, projected.depth, projected.opacity, features, camera.width, camera.height,
        background=behind,
    )  # fmt: skip
    hit = alpha > HIT
    depth = image[..., 7:] / alpha.clamp(min=HIT)
    if splats.flat.all():
        rays = camera.rays()[1].to(device) @ camera_from_world[:3, :3].T
        depth = plane_depth(image[..., 3:7], rays / rays[..., 2:])
    normal = torch.nn.functional.normalize(image[..., 3:6], dim=-1) @ camera_from_world[:3, :3]
    return RenderOut(image[..., :3], alpha, torch.where(hit, depth, 0), torch.where(hit, normal, 0))
