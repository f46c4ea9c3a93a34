"""Pictures of Gaussian splats: projected, then blended front to back (Kerbl et al., SIGGRAPH 2023)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import lens_of, named
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.ops.splat_project import splat_project
from neural3d.ops.splat_raster import splat_raster
from neural3d.render import RenderOut

HIT = 1e-3  # alpha above which a pixel has a depth


def pinhole_intrinsics(camera: Camera) -> Float[Tensor, "4"]:
    """fx, fy, cx, cy. Raises UserError for a lens that bends lines, which splats cannot follow."""
    lens = lens_of(camera.model)
    if lens.projection != "perspective" or lens.distorts:
        raise UserError(f"Splats are drawn by pinhole cameras, not {camera.model}; use scene.undistort.pinhole_camera.")
    a = named(camera.model, camera.params)
    return torch.stack([a[name] for name in ("fx", "fy", "cx", "cy")])


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
    were trained. depth is the expected one of what was hit; a splat's normal is its shortest axis, towards the camera.
    """
    device = splats.means.device
    camera_from_world = torch.linalg.inv(camera.world_from_camera).float().to(device)
    projected = splat_project(
        splats.means, splats.quats, splats.log_scales, splats.opacity_logits, splats.sh_dc, splats.sh_rest,
        camera_from_world, pinhole_intrinsics(camera).float().to(device), camera.width, camera.height,
        sh_degree=splats.sh_degree if sh_degree is None else sh_degree, near=near, antialiased=antialiased, raw=True,
    )  # fmt: skip
    normals = splat_normals(splats, camera.centre.float().to(device))
    features = torch.cat([projected.color, projected.depth[:, None], normals], 1)
    behind = torch.zeros(7, device=device)
    if background is not None:
        behind[:3] = background.to(device)
    image, alpha = splat_raster(
        projected.xy, projected.conic, projected.depth, projected.opacity, features, camera.width, camera.height,
        background=behind,
    )  # fmt: skip
    hit = alpha > HIT
    depth = torch.where(hit, image[..., 3:4] / alpha.clamp(min=HIT), 0)
    normal = torch.where(hit, torch.nn.functional.normalize(image[..., 4:], dim=-1), 0)
    return RenderOut(image[..., :3], alpha, depth, normal)


def splat_normals(splats: Gaussians, eye: Float[Tensor, "3"]) -> Float[Tensor, "N 3"]:
    """Unit vectors along each splat's shortest axis, on the side that `eye` sees."""
    axes = rotation_from_quaternion(splats.quats)
    shortest = splats.log_scales.argmin(1)
    normals = axes.gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0]
    facing = ((eye - splats.means) * normals).sum(1, keepdim=True)
    return torch.where(facing < 0, -normals, normals)
