"""A small round temple, built from formulas: the scene of `neural3d demo`.

Frame: z up, the temple's axis is the z axis, its floor lies at z = FLOOR, everything within 1 of the axis. Points
are three 1-D tensors x, y, z; r is the distance from the axis, `angle` the angle about it.

The scene is meant to be hard to cheat: tile patterns a few pixels wide, rails and a spike two pixels thick, an arcade
with a vaulted interior, and glazed tiles, gold and marbles whose highlights move with the eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR, SPRING, CORNICE = -0.56, 0.02, 0.26  # heights: the floor, where the arches spring, the arcade's top
LOWEST, HIGHEST = -0.80, 1.20
RING = 0.66  # radius of the circle on which the columns stand
DOME_RADIUS, DOME_Z = 0.70, 0.30
MARBLE_RING, MARBLE_Z = 0.89, LOWEST + 0.17  # where the marbles lie, between the columns
SECTORS = 8  # columns stand at the angles 2 pi k / 8, arches between them
HALF_SECTOR = (math.cos(math.pi / SECTORS), math.sin(math.pi / SECTORS))

STEPS, COLUMNS, ARCADE, CORNICE_RING, DOME, GOLD, MARBLES, PEDESTAL, BALL = range(9)


@dataclass
class Material:
    """What light does at a surface point: colours are linear RGB."""

    albedo: Float[Tensor, "n 3"]  # scattered in all directions
    mirror: Float[Tensor, "n 3"]  # reflected share at normal incidence
    sharpness: Float[Tensor, " n"]  # Blinn-Phong exponent of the sun's highlight


def _norm(u: Tensor, v: Tensor) -> Tensor:
    return torch.addcmul(u * u, v, v).sqrt_()


def _box(u: Tensor, v: Tensor, half_u: float, half_v: float, rounding: float = 0.0) -> Tensor:
    """Signed distance to the rectangle |u| <= half_u, |v| <= half_v with rounded corners."""
    qu, qv = u.abs() - (half_u - rounding), v.abs() - (half_v - rounding)
    return _norm(qu.clamp_min(0), qv.clamp_min(0)) + torch.maximum(qu, qv).clamp_max_(0) - rounding


def _fold(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror (x, y) into the half sector 0 <= angle <= pi / 8: a column stands at angle 0, an arch at pi / 8."""
    x, y = x.abs(), y.abs()
    x, y = torch.maximum(x, y), torch.minimum(x, y)
    c, s = HALF_SECTOR
    beyond = 2 * (y * c - x * s).clamp_min_(0)
    return x + s * beyond, y - c * beyond


def parts(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """Distance to each part of the temple, in the order of the constants STEPS ... BALL."""
    r = _norm(x, y)
    fx, fy = _fold(x, y)
    c, s = HALF_SECTOR

    foot = z - LOWEST
    steps = torch.minimum(_box(r, foot, 0.96, 0.12, 0.03), _box(r, foot, 0.82, 0.24, 0.03))
    steps = torch.maximum(steps, -foot)

    shaft, half_height = _norm(fx - RING, fy), (SPRING - FLOOR) / 2
    up = z - (FLOOR + half_height)
    ends = up.abs() - (half_height - 0.025)  # base and capital mirror each other
    columns = torch.minimum(_box(shaft, up, 0.06, half_height), _box(shaft, ends, 0.085, 0.025, 0.015))

    wall = _box(r - RING, z - (SPRING + CORNICE) / 2, 0.075, (CORNICE - SPRING) / 2)
    along = fx * s - fy * c  # distance from the middle of the arch, across the view through it
    arcade = torch.maximum(wall, 0.185 - _norm(along, (z - SPRING).clamp_min(0)))
    cornice = _box(r - RING, z - (CORNICE + 0.025), 0.135, 0.025, 0.015)

    shell = (_norm(r, z - DOME_Z) - DOME_RADIUS).abs_() - 0.025
    dome = torch.maximum(shell, DOME_Z - z)

    gold = torch.minimum(_norm(r, z - 1.055) - 0.075, torch.maximum(r - 0.11 * (HIGHEST - z), 1.055 - z))
    gold = torch.minimum(gold, _norm(r - RING, z + 0.38) - 0.016)  # and a rail
    marbles = _norm(_norm(fx - MARBLE_RING * c, fy - MARBLE_RING * s), z - MARBLE_Z) - 0.05
    pedestal = _box(r, z - FLOOR, 0.13, 0.16, 0.02)
    ball = _norm(r, z + 0.16) - 0.245
    return [steps, columns, arcade, cornice, dome, gold, marbles, pedestal, ball]


def distance(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Signed distance bound of the whole temple: 1-Lipschitz, negative inside."""
    return reduce(torch.minimum, parts(x, y, z))


def _rgb(*values: float) -> Tensor:
    """An sRGB colour, 0 to 255, as linear RGB (1, 3)."""
    c = torch.tensor([values]) / 255
    return torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _palette(index: Tensor, *colours: Tensor) -> Tensor:
    return torch.cat(colours)[index.long() % len(colours)]


def _mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(a.expand(len(share), 3), b.expand(len(share), 3), share[:, None])


IVORY, CREAM, SAND, OCHRE = _rgb(248, 244, 234), _rgb(242, 226, 190), _rgb(228, 186, 144), _rgb(233, 168, 60)
ROSE, CRIMSON, SLATE = _rgb(222, 138, 122), _rgb(170, 36, 48), _rgb(158, 176, 208)
TEAL, TURQUOISE, SEAFOAM, COBALT = _rgb(12, 92, 118), _rgb(52, 158, 168), _rgb(132, 206, 190), _rgb(44, 84, 158)
MARBLE_COLOURS = CRIMSON, OCHRE, TEAL, COBALT
GOLD_MIRROR = _rgb(255, 205, 110)


def _wave(phase: Tensor) -> Tensor:
    """A soft stripe: 0 ... 1 ... 0 once per unit of phase. Being smooth, it holds no detail finer than its period."""
    return 0.5 - 0.5 * torch.cos(2 * math.pi * phase)


def _tiles(u: Tensor, v: Tensor, *colours: Tensor, soft: float = 0.35) -> Tensor:
    """Unit squares of the (u, v) plane in turn through the colours, which blend over `soft` of a square."""
    i, j = torch.floor(u - 0.5), torch.floor(v - 0.5)  # the border between squares i and i + 1 is at u = i + 1
    across, along = (((w - k - 1) / soft + 0.5).clamp(0, 1) for w, k in ((u, i), (v, j)))

    def row(j: Tensor) -> Tensor:
        return torch.lerp(_palette(i + 2 * j, *colours), _palette(i + 1 + 2 * j, *colours), across[:, None])

    return torch.lerp(row(j), row(j + 1), along[:, None])


def _dome(turns: Tensor, r: Tensor, z: Tensor) -> Tensor:
    """Glazed lozenges between spirals of constant slope, so that they are as high as wide from the rim to the top.

    Such spirals are straight lines on Mercator's map, whose ordinate is asinh(tan(latitude)). A plain cap hides the
    top, where the lozenges would shrink to nothing.
    """
    mercator = torch.asinh((z - DOME_Z).clamp_min(0) / r.clamp_min(1e-3)) / (2 * math.pi)
    lozenges = _tiles(28 * (turns + mercator), 28 * (turns - mercator), TEAL, SEAFOAM, COBALT, TURQUOISE)
    return _mix(OCHRE, lozenges, ((r - 0.22) / 0.02).clamp(0, 1))


def material(x: Tensor, y: Tensor, z: Tensor) -> Material:
    """Colour and gloss of the nearest part at each point (of points on the surface, up to the tracer's tolerance)."""
    part = torch.stack(parts(x, y, z)).argmin(0)
    r, turns = _norm(x, y), torch.atan2(y, x) / (2 * math.pi)
    sector = torch.remainder(torch.floor(turns * SECTORS), SECTORS)
    about = (torch.remainder(turns * SECTORS + 0.5, 1) - 0.5) * (2 * math.pi / SECTORS)  # angle from the next column
    twist = torch.atan2(r * about.sin(), r * about.cos() - RING) / (2 * math.pi)

    floor = _mix(CREAM, SAND, _wave(turns * 24))
    stairs = _mix(IVORY, SLATE, _wave(turns * 40))
    teeth = (turns * 40 - torch.floor(turns * 40) - 0.5).abs() * 0.16 + 0.14
    outside = _norm(r, z - DOME_Z) > DOME_RADIUS
    albedo = torch.zeros(len(x), 3)
    for index, colour in (
        (STEPS, torch.where((z > FLOOR - 0.006)[:, None], floor, stairs)),
        (COLUMNS, _mix(IVORY, ROSE, _wave(2 * twist + z / 0.26))),
        (ARCADE, _mix(CREAM, ROSE, ((z - teeth) / 0.03 + 0.5).clamp(0, 1))),
        (CORNICE_RING, _mix(CREAM, TURQUOISE, _wave(turns * 32))),
        (DOME, torch.where(outside[:, None], _dome(turns, r, z), IVORY)),
        (MARBLES, _palette(sector, *MARBLE_COLOURS)),
        (PEDESTAL, SAND),
        (BALL, CRIMSON),
    ):
        albedo = torch.where((part == index)[:, None], colour, albedo)

    glossy = (part == DOME) | (part == MARBLES) | (part == BALL)
    gold = part == GOLD
    mirror = torch.where(gold[:, None], GOLD_MIRROR, torch.where(glossy, 0.05, 0.0)[:, None])
    return Material(albedo, mirror, torch.where(gold, 40.0, 90.0))
