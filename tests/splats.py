"""Synthetic splats and a camera for tests, benchmarks and comparisons with other rasterisers: all from one seed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neural3d.fields.gaussians import Gaussians

WIDTH, HEIGHT = 269, 479


def synthetic_splats(
    n: int, *, degree: int = 3, seed: int = 0, raw: bool = True, spread: float = 1.0, size: float = 0.01
) -> tuple[Tensor, ...]:
    """means, quats, scales, opacities, sh_dc, sh_rest, float64: splats of about `size` in a ball of radius `spread`.

    Scales of a splat differ by about a factor e, its quaternion has any length; opacities are mostly above a half.
    With raw, scales are logarithms and opacities logits.
    """
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    direction = torch.nn.functional.normalize(normal(n, 3), dim=-1)
    means = direction * torch.rand(n, 1, generator=g, dtype=torch.float64) ** (1 / 3) * spread
    quats = normal(n, 4)
    scales = math.log(size) + 0.5 * normal(n, 3)
    opacities = 1 + 2 * normal(n)
    sh_dc, sh_rest = 0.6 * normal(n, 3), 0.15 * normal(n, (degree + 1) ** 2 - 1, 3)
    if not raw:
        scales, opacities = scales.exp(), opacities.sigmoid()
    return means, quats, scales, opacities, sh_dc, sh_rest


def synthetic_gaussians(n: int) -> Gaussians:
    means, quats, scales, opacities, sh_dc, sh_rest = synthetic_splats(n)
    return Gaussians(means, scales, quats, opacities, sh_dc, sh_rest)


def synthetic_camera(distance: float = 2.5, *, width: int = WIDTH, height: int = HEIGHT) -> tuple[Tensor, Tensor]:
    """camera_from_world (4, 4) and intrinsics (4,), float64: looks at the origin from an odd angle."""
    forward = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, 0.8], dtype=torch.float64), dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.1, 1.0, 0.0]).double(), forward), dim=0)
    camera = torch.eye(4, dtype=torch.float64)
    camera[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    camera[2, 3] = distance
    f = 0.9 * max(width, height)
    return camera, torch.tensor([f, 1.1 * f, 0.52 * width, 0.47 * height], dtype=torch.float64)
