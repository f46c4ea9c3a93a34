"""Rays o + t·d with unit directions: where they meet simple shapes, and bundles of them to look at a scene with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from neural3d.geometry.cameras import Camera, pixel_centres, unproject
from neural3d.ops.ray_march import ray_aabb


def box_span(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Distances t ≥ 0 at which rays enter and leave an axis-aligned box; enter ≥ leave where they miss it.

    From inside, a ray enters at 0. The slab test: the ray is inside where it is between the planes of all three axes.
    """
    # A component of 0 becomes 1e-12: the planes of that axis then lie behind or beyond every distance in use, and an
    # origin exactly in such a plane gives 0 instead of 0/0.
    safe = torch.where(directions.abs() < 1e-12, directions.new_tensor(1e-12), directions)
    a, b = (box.to(origins)[:, None] - origins) / safe
    enter = torch.minimum(a, b).amax(-1).clamp_min(0)
    return enter, torch.maximum(a, b).amin(-1)


def crossing(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Distances at which rays enter and leave a box; those that miss it do both nearest to the middle."""
    enter, leave = ray_aabb(origins, directions, box)
    nearest = (-(origins * directions).sum(-1)).clamp(min=0)
    hit = leave > enter
    return torch.where(hit, enter, nearest), torch.where(hit, leave, nearest)


def unseen_patches(
    cameras: list[Camera], box: Float[Tensor, "2 3"], count: int, size: int, stride: int, generator: torch.Generator
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
    """Rays of square patches of pixels, each seen from its own random pose that no camera has, after RegNeRF.

    Poses lie on the way between two of the cameras as seen from the middle of the box, at a distance between theirs,
    and look at the middle with +z up, through the first camera's lens. count: patches; size: pixels along a side;
    stride: pixels from one to the next. Patches come one after the other, row by row.
    """
    device = generator.device
    focus = box.mean(0).to(device)
    chosen = torch.randint(len(cameras), (count, 2), generator=generator, device=device)
    u = torch.rand(count, 3, generator=generator, device=device)
    offsets = torch.stack([c.centre for c in cameras]).to(device).float()[chosen] - focus  # (count, 2, 3)
    reach = offsets.norm(dim=-1, keepdim=True)
    mix = torch.stack([u[:, 0], 1 - u[:, 0]], 1)[..., None]
    offset = normalize((mix * offsets / reach).sum(1), dim=-1) * (mix * reach).sum(1)
    forward = -normalize(offset, dim=-1)
    right = normalize(torch.linalg.cross(forward, forward.new_tensor([[0.0, 0.0, 1.0]]).expand_as(forward)), dim=-1)
    world_from_camera = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)

    lens = cameras[0]
    room = torch.tensor([lens.width, lens.height], device=device) - (size - 1) * stride
    corner = (u[:, 1:] * room).floor()
    xy = corner[:, None, None] + stride * (pixel_centres(size, size, torch.float32).to(device) - 0.5) + 0.5
    local = unproject(lens.model, lens.params.float().to(device), xy.view(count, -1, 2))
    directions = (local @ world_from_camera.mT).reshape(-1, 3)
    origins = (focus + offset)[:, None].expand(-1, size * size, -1).reshape(-1, 3)
    return origins, directions
