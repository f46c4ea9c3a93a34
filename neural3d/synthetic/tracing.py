"""Sphere tracing of signed distance functions, for scenes made of formulas.

A scene is a function `distance(x, y, z)` of three 1-D tensors that never exceeds the true distance to the surface. Rays
are origins and unit directions (N, 3); t is the distance along a ray. Points live as three separate tensors throughout:
elementwise arithmetic on contiguous memory is what the CPU is fast at.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]
Points = tuple[Tensor, Tensor, Tensor]


def points_at(origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"], t: Float[Tensor, " n"]) -> Points:
    """The points o + t d as three contiguous tensors."""
    x, y, z = (torch.addcmul(origins[:, k], directions[:, k], t) for k in range(3))
    return x, y, z


def trace(
    distance: Distance,
    origins: Float[Tensor, "n 3"],
    directions: Float[Tensor, "n 3"],
    start: Float[Tensor, " n"],
    far: float,
    *,
    cone: float = 0.0,
    tolerance: float = 5e-4,
    steps: int = 96,
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """March each ray from `start` until it is within max(tolerance, cone * t) of the surface, or past `far`.

    Sphere tracing (Hart 1996): the distance itself is a safe step. With `cone` > 0 the march stops as soon as a cone of
    that slope (radius per unit of t) could touch the surface, so that t is a safe start for every ray inside the cone.
    Returns t and whether the ray stopped before `far`. Rays that run out of steps graze the surface and count as hits.
    """
    t = start.clone()
    live = (t < far).nonzero().squeeze(1)
    o, d, u = origins[live], directions[live], t[live]
    for _ in range(steps):
        if live.numel() == 0:
            break
        gap = distance(*points_at(o, d, u))
        touching = gap < torch.clamp_min(u * cone, tolerance)
        u = torch.where(touching, u, u + gap)
        keep = ~touching & (u < far)
        if keep.sum() < 0.8 * keep.numel():  # dropping finished rays costs a gather, so wait until it pays
            t[live] = u
            live, o, d, u = live[keep], o[keep], d[keep], u[keep]
    t[live] = u
    return t, t < far


def normals(distance: Distance, x: Tensor, y: Tensor, z: Tensor, h: float = 1e-3) -> Float[Tensor, "n 3"]:
    """Unit gradient of the distance by differences over the corners of a tetrahedron of size h (four evaluations)."""
    total = torch.zeros(x.numel(), 3)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        value = distance(x + h * corner[0], y + h * corner[1], z + h * corner[2])
        total += value[:, None] * torch.tensor(corner, dtype=torch.float32)
    return torch.nn.functional.normalize(total, dim=-1)


def sunlight(
    distance: Distance,
    points: Points,
    normal: Float[Tensor, "n 3"],
    sun: Float[Tensor, " 3"],
    *,
    spread: float = 0.08,
    far: float = 2.6,
    steps: int = 24,
) -> Float[Tensor, " n"]:
    """How much of a round sun of angular radius `spread` each point sees, in [0, 1].

    The narrowest gap along the way to the sun, relative to the sun's width there, tells the covered share; smoothed to
    an S-curve as a disc would give. Surfaces that face away see nothing and are not marched.
    """
    light = torch.zeros(len(normal))
    live = (normal @ sun > 0).nonzero().squeeze(1)
    p = [points[k][live] + 4e-3 * normal[live, k] for k in range(3)]
    t, seen = torch.full_like(p[0], 0.01), torch.ones_like(p[0])
    for _ in range(steps):
        if live.numel() == 0:
            break
        gap = distance(*(torch.add(p[k], t, alpha=float(sun[k])) for k in range(3)))
        seen = torch.minimum(seen, gap / (spread * t))
        t += gap.clamp(0.008, 0.25)
        light[live] = seen
        keep = (seen > -1) & (t < far)
        if keep.sum() < 0.8 * keep.numel():
            live, t, seen = live[keep], t[keep], seen[keep]
            p = [c[keep] for c in p]
    share = (0.5 + 0.5 * light).clamp(0, 1)
    return torch.where(normal @ sun > 0, share * share * (3 - 2 * share), 0)


def openness(distance: Distance, points: Points, normal: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Ambient light that reaches a point, in [0, 1]: how far the surroundings stay away along the normal.

    After Evans, "Fast approximations for global illumination on dynamic scenes" (2006): the distance a step h along the
    normal is h where the point is open and less in corners.
    """
    closed = torch.zeros(len(normal))
    for h, weight in ((0.03, 0.35), (0.08, 0.35), (0.18, 0.3)):
        gap = distance(*(torch.add(points[k], normal[:, k], alpha=h) for k in range(3)))
        closed += weight * (1 - gap / h).clamp(0, 1)
    return 1 - closed
