"""Projection of splats as the equations read, one matrix after the other; autograd does the rest."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neural3d.ops.spherical_harmonics import spherical_harmonics

ALPHA_MIN = 1 / 255
SLOPE_MARGIN = 1.3
DETERMINANT_MIN = 1e-10
COMPENSATION_MIN = 0.005


class Projected(NamedTuple):
    xy: Tensor  # (N, 2)
    conic: Tensor  # (N, 3)
    depth: Tensor  # (N,)
    opacity: Tensor  # (N,)
    color: Tensor  # (N, 3)
    radius: Tensor  # (N,)


def rotation_matrix(
    quats: Tensor,  # (N, 4) wxyz, any length
) -> Tensor:  # (N, 3, 3)
    w, x, y, z = functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def pixels(
    p: Tensor,  # (N, 3) camera frame
    intrinsics: Tensor,  # (4,) fx fy cx cy
    lens: str,
) -> Tensor:  # (N, 2)
    fx, fy, cx, cy = intrinsics
    x, y, z = p.unbind(-1)
    if lens == "pinhole":
        x, y = x / z, y / z
    elif lens == "fisheye":
        r = torch.sqrt(x * x + y * y)
        x, y = x * torch.atan2(r, z) / r, y * torch.atan2(r, z) / r
    return torch.stack([fx * x + cx, fy * y + cy], -1)


def jacobian(
    p: Tensor,  # (N, 3) camera frame
    intrinsics: Tensor,  # (4,) fx fy cx cy
    width: int,
    height: int,
    lens: str,
) -> Tensor:  # (N, 2, 3)
    """Of `pixels`; the pinhole's at slopes no steeper than the margin allows."""
    if lens != "pinhole":
        rows = [torch.autograd.grad(xy.sum(), p, create_graph=True)[0] for xy in pixels(p, intrinsics, lens).unbind(-1)]
        return torch.stack(rows, -2)
    fx, fy, cx, cy = intrinsics
    z = p[:, 2]
    extra = SLOPE_MARGIN - 1  # beyond the image's border, in half fields of view: the margin, if the centre is central
    u = (p[:, 0] / z).clamp(-cx / fx - extra * width / (2 * fx), (width - cx) / fx + extra * width / (2 * fx))
    v = (p[:, 1] / z).clamp(-cy / fy - extra * height / (2 * fy), (height - cy) / fy + extra * height / (2 * fy))
    zero = torch.zeros_like(z)
    rows = [[fx / z, zero, -fx * u / z], [zero, fy / z, -fy * v / z]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _project(
    means, quats, scales, opacities, sh_dc, sh_rest, camera_from_world, intrinsics, width, height, sh_degree, blur,
    antialiased, raw, lens,
):  # fmt: skip
    if raw:
        scales, opacities = scales.exp(), opacities.sigmoid()
    w, t = camera_from_world[:3, :3], camera_from_world[:3, 3]
    p = means @ w.T + t
    if not p.requires_grad:
        p.requires_grad_()
    xy = pixels(p, intrinsics, lens)

    rs = rotation_matrix(quats) * scales[:, None, :]
    sigma = rs @ rs.mT
    jw = jacobian(p, intrinsics, width, height, lens) @ w
    flat = jw @ sigma @ jw.mT  # Σ′
    wide = flat + blur * torch.eye(2).to(flat)
    ratio = torch.linalg.det(flat) / torch.linalg.det(wide)
    if antialiased:
        opacities = opacities * ratio.clamp(min=COMPENSATION_MIN**2).sqrt()
    inverse = torch.linalg.inv(wide)
    conic = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)

    directions = functional.normalize(means + t @ w, dim=-1)  # the camera's centre is −Wᵀt
    harmonics = spherical_harmonics(directions, sh_degree + 1)
    coefficients = torch.cat([sh_dc[:, None], sh_rest], 1)[:, : (sh_degree + 1) ** 2]
    color = (0.5 + (harmonics[..., None] * coefficients).sum(1)).clamp(min=0)

    with torch.no_grad():
        reach = 2 * torch.log(opacities / ALPHA_MIN)  # d Σ′⁻¹ d there, where alpha has fallen to 1/255
        radius = (reach * torch.linalg.eigvalsh(wide)[:, 1]).sqrt()
    return Projected(xy, conic, p[:, 2], opacities, color, radius), wide, reach


def splat_project(
    means: Tensor,  # (N, 3)
    quats: Tensor,  # (N, 4)
    scales: Tensor,  # (N, 3)
    opacities: Tensor,  # (N,)
    sh_dc: Tensor,  # (N, 3)
    sh_rest: Tensor,  # (N, K - 1, 3)
    camera_from_world: Tensor,  # (4, 4)
    intrinsics: Tensor,  # (4,)
    width: int,
    height: int,
    *,
    sh_degree: int,
    near: float = 0.01,
    far: float = math.inf,
    blur: float = 0.3,
    antialiased: bool = False,
    raw: bool = False,
    lens: str = "pinhole",
) -> Projected:
    splats = (means, quats, scales, opacities, sh_dc, sh_rest)
    view = (camera_from_world, intrinsics, width, height, sh_degree, blur, antialiased, raw, lens)

    def some(rows):
        return _project(*(x[rows] for x in splats), *view)

    with torch.no_grad():
        z = means @ camera_from_world[2, :3] + camera_from_world[2, 3]
        rows = ((z >= near) & (z <= far)).nonzero()[:, 0]
        with torch.enable_grad():  # for the Jacobian
            p, wide, reach = some(rows)
        half = (reach[:, None] * wide.diagonal(dim1=1, dim2=2)).sqrt()  # of the box around the ellipse
        low, high = p.xy + half - 0.5, p.xy - half + 0.5  # against the centres of the first and the last pixel
        seen = (low[:, 0] >= 0) & (low[:, 1] >= 0) & (high[:, 0] <= width) & (high[:, 1] <= height)
        rows = rows[seen & (p.radius > 0) & (torch.linalg.det(wide) > DETERMINANT_MIN)]
    return Projected(*(x.new_zeros(len(means), *x.shape[1:]).index_put((rows,), x) for x in some(rows)[0]))
