"""A category to learn from: procedural furniture of five kinds, each piece made of 2 to 8 closed convex parts.

python -m neural3d.synthetic.furniture OUT --train 1000 --test 100 --seed 0

writes OUT/train/chair_0000.ply … and OUT/test/…, the five kinds in turn. All pieces stand on the floor z = 0, facing
-y, in one frame whose unit is about the longest side of a piece, so that a lamp is as large as a bed. Parts are sunk
into each other a little, as a carpenter's are. A piece follows from (seed, split, number) alone; parameters are
continuous, so the splits have none in common.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from neural3d.disk import replacing
from neural3d.geometry.mesh import Mesh
from neural3d.shapes.category import SPLITS

SUNK = 0.01  # how far parts reach into their neighbours
Vec = tuple[float, float, float]
Parts = list[Mesh]

_SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) / 2
_ANGLES = np.arange(16) * (2 * np.pi / 16)
_ROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1) / 2


def frustum(outline: Float[np.ndarray, "n 2"], low: Vec, low_size: Vec, high: Vec, high_size: Vec) -> Mesh:
    """The hull of a convex outline, counter-clockwise, around `low` and around `high`, scaled in x and y by the sizes.

    Closed; faces wind counter-clockwise seen from outside. low and high are the middles of the two ends, low below.
    """
    n = len(outline)
    ends = [np.c_[outline * size[:2], np.zeros(n)] + middle for middle, size in ((low, low_size), (high, high_size))]
    i = np.arange(n)
    j = (i + 1) % n
    fan = np.stack([np.zeros(n - 2, int), i[1:-1], i[2:]], 1)
    faces = np.concatenate([fan[:, ::-1], fan + n, np.stack([i, j, j + n], 1), np.stack([i, j + n, i + n], 1)])
    return Mesh(np.concatenate(ends), faces.astype(np.int32))


def box(low: Vec, high: Vec) -> Mesh:
    x, y = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    size = (high[0] - low[0], high[1] - low[1], 0.0)
    return frustum(_SQUARE, (x, y, low[2]), size, (x, y, high[2]), size)


def disc(x: float, y: float, radius: float, low: float, high: float) -> Mesh:
    size = (2 * radius, 2 * radius, 0.0)
    return frustum(_ROUND, (x, y, low), size, (x, y, high), size)


class _Dice:
    """Named draws, so that the kinds below read as descriptions."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, *options: str) -> str:
        return options[self.rng.integers(len(options))]


def _support(dice: _Dice, style: str, width: float, depth: float, height: float) -> Parts:
    """What carries a board of width × depth whose underside is at `height`: legs, a pedestal or two panels."""
    top = height + SUNK
    if style == "legs":
        outline = _ROUND if dice.chance(0.5) else _SQUARE
        thick = dice.between(0.07, 0.11)
        foot, inset = thick * dice.between(0.6, 1.0), dice.between(0.0, 0.05)
        splay = inset * dice.between(0.0, 1.0)
        x, y = (side / 2 - thick / 2 - inset for side in (width, depth))
        return [
            frustum(
                outline, (sx * (x + splay), sy * (y + splay), 0.0), (foot, foot, 0), (sx * x, sy * y, top),
                (thick, thick, 0),
            )
            for sx in (-1, 1) for sy in (-1, 1)
        ]  # fmt: skip
    if style == "pedestal":
        thick = dice.between(0.05, 0.09)
        reach = dice.between(0.3, 0.45) * min(width, depth)
        return [disc(0, 0, reach, 0, thick), disc(0, 0, dice.between(0.05, 0.09), thick - SUNK, top)]
    thick, inset = dice.between(0.07, 0.11), dice.between(0.0, 0.1)
    x, y = width / 2 - inset, depth / 2 - dice.between(0.0, 0.08)
    return [box((x - thick, -y, 0), (x, y, top)), box((-x, -y, 0), (-x + thick, y, top))]


def chair(dice: _Dice) -> Parts:
    width, depth, seat = dice.between(0.5, 0.75), dice.between(0.5, 0.75), dice.between(0.35, 0.5)
    thick, high = dice.between(0.07, 0.12), dice.between(0.85, 1.0)
    back, lean = dice.between(0.07, 0.11), dice.between(0.0, 0.12)
    x, y, top = width / 2, depth / 2, seat + thick
    size, upper = (width, back, 0.0), (width * dice.between(0.75, 1.0), back * 0.8, 0.0)
    parts = _support(dice, dice.one_of("legs", "legs", "pedestal", "panels"), width, depth, seat)
    parts.append(box((-x, -y, seat), (x, y, top)))
    parts.append(frustum(_SQUARE, (0, y - back / 2, top - SUNK), size, (0, y - back / 2 + lean, high), upper))
    if dice.chance(0.4):
        arm, rise, front = dice.between(0.07, 0.1), dice.between(0.12, 0.25), dice.between(0.0, 0.15)
        for low in (-x, x - arm):
            parts.append(box((low, -y + front, top - SUNK), (low + arm, y - back + SUNK, top + rise)))
    return parts


def table(dice: _Dice) -> Parts:
    width, height, thick = dice.between(0.7, 1.0), dice.between(0.4, 0.75), dice.between(0.07, 0.12)
    under = height - thick
    if dice.chance(0.35):
        inner = width / np.sqrt(2)
        parts = _support(dice, dice.one_of("legs", "pedestal"), inner, inner, under)
        return [*parts, disc(0, 0, width / 2, under, height)]
    depth = dice.between(0.5, 1.0)
    style = dice.one_of("legs", "legs", "pedestal", "panels")
    parts = [
        *_support(dice, style, width, depth, under),
        box((-width / 2, -depth / 2, under), (width / 2, depth / 2, height)),
    ]
    if style != "pedestal" and dice.chance(0.4):  # a board below
        low, inset = dice.between(0.12, 0.4) * under, dice.between(0.06, 0.1)
        x, y = width / 2 - inset, depth / 2 - inset
        parts.append(box((-x, -y, low), (x, y, low + dice.between(0.06, 0.09))))
    return parts


def shelf(dice: _Dice) -> Parts:
    width, depth, height = dice.between(0.45, 1.0), dice.between(0.25, 0.45), dice.between(0.7, 1.0)
    side, thick, count = dice.between(0.06, 0.1), dice.between(0.06, 0.1), 2 + int(dice.rng.integers(4))
    x, y = width / 2, depth / 2
    parts = [box((-x, -y, 0), (-x + side, y, height)), box((x - side, -y, 0), (x, y, height))]
    first, last = dice.between(0.0, 0.12), height - thick - dice.between(0.0, 0.06)
    for low in np.linspace(first, last, count):
        parts.append(box((-x + side - SUNK, -y, low), (x - side + SUNK, y, low + thick)))
    if dice.chance(0.5):
        parts.append(box((-x + side - SUNK, y - dice.between(0.06, 0.08), 0), (x - side + SUNK, y, height)))
    return parts


def bed(dice: _Dice) -> Parts:
    length, width = dice.between(0.85, 1.0), dice.between(0.4, 0.75)
    rise, thick = dice.between(0.1, 0.2), dice.between(0.12, 0.22)
    x, y, top = width / 2, length / 2, rise + thick
    end = dice.between(0.06, 0.1)
    parts = [box((-x, -y, rise), (x, y, top))]
    parts += _support(dice, dice.one_of("legs", "legs", "panels"), width, length, rise)
    head = frustum(
        _SQUARE, (0, y - end / 2, top - SUNK), (width, end, 0.0), (0, y - end / 2, top + dice.between(0.12, 0.35)),
        (width * dice.between(0.7, 1.0), end, 0.0),
    )  # fmt: skip
    parts.append(head)
    if dice.chance(0.5):
        parts.append(box((-x, -y, top - SUNK), (x, -y + end, top + dice.between(0.06, 0.15))))
    if dice.chance(0.5):
        half, deep = width * dice.between(0.25, 0.4), dice.between(0.15, 0.22)
        back = y - end - dice.between(0.02, 0.06)
        parts.append(box((-half, back - deep, top - SUNK), (half, back, top + dice.between(0.06, 0.1))))
    return parts


def lamp(dice: _Dice) -> Parts:
    foot, flat, pole = dice.between(0.15, 0.28), dice.between(0.05, 0.09), dice.between(0.04, 0.065)
    x, y = dice.between(-0.15, 0.15), 0.0
    if not dice.chance(0.4):
        x = 0.0
    tall, high = dice.between(0.2, 0.35), dice.between(0.8, 1.0)
    wide, narrow = dice.between(0.2, 0.38), dice.between(0.1, 0.2)
    outline = _ROUND if dice.chance(0.7) else _SQUARE
    parts = [frustum(outline, (0, 0, 0), (2 * foot, 2 * foot, 0), (0, 0, flat), (2 * foot, 2 * foot, 0))]
    size = (2 * pole, 2 * pole, 0.0)
    bend = dice.between(0.3, 0.5) if x else high - tall + SUNK
    parts.append(frustum(_ROUND, (0, 0, flat - SUNK), size, (0, 0, bend), size))
    if x:
        parts.append(frustum(_ROUND, (0, 0, bend - SUNK), size, (x, y, high - tall + SUNK), size))
    if dice.chance(0.3) and not x:  # a tray halfway
        middle = dice.between(0.3, 0.45)
        parts.append(disc(0, 0, dice.between(0.14, 0.24), middle, middle + dice.between(0.05, 0.08)))
    parts.append(
        frustum(outline, (x, y, high - tall), (2 * wide, 2 * wide, 0), (x, y, high), (2 * narrow, 2 * narrow, 0))
    )
    return parts


KINDS: dict[str, Callable[[_Dice], Parts]] = {"chair": chair, "table": table, "shelf": shelf, "bed": bed, "lamp": lamp}


def make_parts(kind: str, *seed: int) -> Parts:
    """The parts of a piece; equal seeds give equal pieces."""
    return KINDS[kind](_Dice(np.random.default_rng(seed)))


def joined(parts: Parts) -> Mesh:
    """One mesh of all parts as they are, which may overlap."""
    first = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, first)]).astype(np.int32),
    )


def write_furniture(out: Path, *, train: int = 1000, test: int = 100, seed: int = 0) -> Path:
    """Writes OUT/train and OUT/test as binary PLY and returns OUT. The same arguments give the same bytes."""
    import trimesh

    kinds = [*KINDS]
    for number, (split, count) in enumerate(zip(SPLITS, (train, test))):
        for i in range(count):
            kind = kinds[i % len(kinds)]
            piece = joined(make_parts(kind, seed, number, i))
            mesh = trimesh.Trimesh(piece.vertices, piece.faces, process=False)
            with replacing(out / split / f"{kind}_{i:04d}.ply") as part:
                mesh.export(part)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a category of procedural furniture as PLY meshes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_furniture(given.out, train=given.train, test=given.test, seed=given.seed)
    print(f"{given.train} + {given.test} pieces written to {given.out}")


if __name__ == "__main__":
    main()
