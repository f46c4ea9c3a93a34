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
MARBLE_RING, MARBLE_Z = 0.91, LOWEST + 0.13  # where the marbles lie, between the columns
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
    steps = torch.minimum(_box(r, foot, 0.96, 0.08, 0.012), _box(r, foot, 0.88, 0.16, 0.012))
    steps = torch.maximum(torch.minimum(steps, _box(r, foot, 0.80, 0.24, 0.012)), -foot)

    shaft, half_height = _norm(fx - RING, fy), (SPRING - FLOOR) / 2
    up = z - (FLOOR + half_height)
    ends = up.abs() - (half_height - 0.025)  # base and capital mirror each other
    columns = torch.minimum(_box(shaft, up, 0.052, half_height), _box(shaft, ends, 0.085, 0.025, 0.015))

    wall = _box(r - RING, z - (SPRING + CORNICE) / 2, 0.075, (CORNICE - SPRING) / 2)
    along = fx * s - fy * c  # distance from the middle of the arch, across the view through it
    arcade = torch.maximum(wall, 0.185 - _norm(along, (z - SPRING).clamp_min(0)))
    cornice = _box(r - RING, z - (CORNICE + 0.025), 0.135, 0.025, 0.015)

    shell = (_norm(r, z - DOME_Z) - DOME_RADIUS).abs_() - 0.025
    dome = torch.maximum(shell, DOME_Z - z)

    gold = torch.minimum(_norm(r, z - 1.055) - 0.075, torch.maximum(r - 0.11 * (HIGHEST - z), 1.055 - z))
    gold = torch.minimum(gold, _norm(r - RING, (z + 0.41).abs() - 0.05) - 0.014)  # two rails
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


WHITE, CREAM, INK = _rgb(246, 243, 236), _rgb(240, 224, 190), _rgb(38, 40, 52)
CRIMSON, SAND, OCHRE = _rgb(178, 34, 52), _rgb(214, 148, 104), _rgb(233, 168, 60)
TEAL, TURQUOISE, COBALT = _rgb(22, 112, 128), _rgb(66, 166, 172), _rgb(40, 84, 160)
SLATE, ROSE = _rgb(150, 160, 178), _rgb(226, 130, 120)
MARBLE_COLOURS = CRIMSON, OCHRE, TEAL, COBALT
GOLD_MIRROR = _rgb(255, 205, 110)


def _checker(u: Tensor, v: Tensor) -> Tensor:
    return torch.remainder(torch.floor(u) + torch.floor(v), 2)


def _paving(angle: Tensor, r: Tensor, z: Tensor) -> Tensor:
    """Floor and steps: a ring of checkers on each tread, lozenges on the risers."""
    turns = angle / (2 * math.pi)
    ring = torch.floor(r / 0.10)
    floor = _palette(torch.floor(turns * 24 + ring / 2) + ring, CREAM, SAND)
    treads = _mix(WHITE, SLATE, _checker(turns * 48, r * 0))
    flat = torch.minimum((z + 0.72).abs(), (z + 0.64).abs()) < 0.006
    return torch.where((z > FLOOR - 0.006)[:, None], floor, torch.where(flat[:, None], treads, WHITE))


def _scales(angle: Tensor, r: Tensor, z: Tensor) -> Tensor:
    """The dome's roof: rows of overlapping round tiles, darker towards the edge each tile shows."""
    height = torch.atan2(z - DOME_Z, r) / 0.16
    row = torch.floor(height)
    count = torch.where(row < 5, 32.0, 16.0)
    v = height - row
    u = angle / (2 * math.pi) * count + row / 2
    across = torch.remainder(u, 1) - 0.5
    own = _norm(across, 0.8 * v) < 0.5  # else the tile of the row above, which is shifted by half a tile, shows
    tile_row = torch.where(own, row, row + 1)
    tile = torch.floor(torch.where(own, u, u + 0.5))
    return _palette(tile + 2 * tile_row, TEAL, TURQUOISE, COBALT, TURQUOISE)


def material(x: Tensor, y: Tensor, z: Tensor) -> Material:
    """Colour and gloss of the nearest part at each point (of points on the surface, up to the tracer's tolerance)."""
    part = torch.stack(parts(x, y, z)).argmin(0)
    r, angle = _norm(x, y), torch.atan2(y, x)
    sector = torch.remainder(torch.floor(angle / (2 * math.pi) * SECTORS), SECTORS)
    about = torch.remainder(angle + math.pi / SECTORS, 2 * math.pi / SECTORS) - math.pi / SECTORS
    twist = torch.atan2(r * about.sin(), r * about.cos() - RING)

    stripes = torch.remainder(twist / math.pi + z / 0.2, 1) < 0.5
    zigzag = (torch.remainder(angle / (2 * math.pi) * 64, 1) - 0.5).abs() * 0.16 + 0.14 < z
    outside = torch.hypot(r, z - DOME_Z) > DOME_RADIUS
    albedo = torch.zeros(len(x), 3)
    for index, colour in (
        (STEPS, _paving(angle, r, z)),
        (COLUMNS, _mix(WHITE, ROSE, stripes.float())),
        (ARCADE, _mix(CREAM, ROSE, zigzag.float())),
        (CORNICE_RING, _mix(CREAM, TEAL, _checker(angle / (2 * math.pi) * 64, torch.zeros_like(z)))),
        (DOME, torch.where(outside[:, None], _scales(angle, r, z), WHITE)),
        (MARBLES, _palette(sector, *MARBLE_COLOURS)),
        (PEDESTAL, SLATE),
        (BALL, CRIMSON),
    ):
        albedo = torch.where((part == index)[:, None], colour, albedo)

    glossy = (part == DOME) | (part == MARBLES) | (part == BALL)
    gold = part == GOLD
    mirror = torch.where(gold[:, None], GOLD_MIRROR, torch.where(glossy, 0.05, 0.0)[:, None])
    return Material(albedo, mirror, torch.where(gold, 40.0, 90.0))
