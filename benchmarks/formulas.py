"""Shapes by formula, for clouds.py: solids with thin walls, and open surfaces. Lengths of order 1, z up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from neural3d.geometry.mesh import Mesh

FINE = 200  # cells along each side of a sheet, and around a solid of revolution


def goblet(wall: float) -> Mesh:
    """A cup on a stem. wall: thickness, share of the diagonal, which it does not change."""
    wall *= np.linalg.norm([1.0, 1.0, 1.2])
    down = np.linspace(np.pi / 2, 0, 60)
    bowl = np.stack([0.5 * np.sin(down), 1.2 - 0.7 * np.cos(down)], 1)
    out = np.stack([0.7 * np.sin(down), -0.5 * np.cos(down)], 1)
    inner = bowl - wall * out / np.linalg.norm(out, axis=1, keepdims=True)
    inner[0, 1] = 1.2
    stem = bowl[:-1][bowl[:-1, 0] > 0.06]
    foot = np.array([[0.06, 0.5], [0.06, 0.06], [0.36, 0.04], [0.36, 0.0], [0, 0]])
    return _revolved(np.concatenate([inner[::-1], stem, foot]))


def crate(wall: float) -> Mesh:
    """A box without a lid."""
    size = np.array([1.0, 0.7, 0.6])
    wall *= np.linalg.norm(size)
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    outer, inner = square * size[:2], square * (size[:2] - 2 * wall)
    heights = ((outer, 0), (outer, size[2]), (inner, size[2]), (inner, wall))
    rings = [np.column_stack([at, np.full(4, height)]) for at, height in heights]
    quads = [
        [4 * r + k, 4 * r + (k + 1) % 4, 4 * r + 4 + (k + 1) % 4, 4 * r + 4 + k] for r in range(3) for k in range(4)
    ]
    return _of_quads(np.concatenate(rings), np.array([*quads, [3, 2, 1, 0], [12, 13, 14, 15]]))


def crisp(wall: float) -> Mesh:
    """A curved, waved sheet of the given thickness along z."""
    x, y, z = _waves()
    wall *= np.linalg.norm([np.ptp(x), np.ptp(y), np.ptp(z)])
    n = len(x)
    corner = np.arange(n * n).reshape(n, n)
    top, bottom = corner, corner + n * n
    sides = [_between(a[::-1], b[::-1]) for a, b in zip(_rim(top), _rim(bottom))]
    quads = [_cells(top), _cells(bottom)[:, ::-1], *sides]
    points = [np.stack([x, y, z + s * wall / 2], -1).reshape(-1, 3) for s in (1, -1)]
    return _of_quads(np.concatenate(points), np.concatenate(quads))


def terrain() -> Mesh:
    """Hills, seen from above."""
    x, y = _square()
    z = 0.1 * np.sin(5 * x + 1) * np.cos(4 * y) + 0.05 * np.sin(11 * x * y + 3 * y) + 0.25 * np.exp(-8 * (x**2 + y**2))
    return _sheet(x, y, z)


def cloth() -> Mesh:
    """Hanging folds."""
    return _sheet(*_waves(0.15, 0.2))


def facade() -> Mesh:
    """A wall with rows of windows set back, and a cornice."""
    x, y = _square()
    steps = np.stack([np.abs((3 * x) % 1 - 0.5) < 0.25, np.abs((4 * y) % 1 - 0.5) < 0.3, y < 0.4]).all(0)
    depth = np.where(steps, -0.06, 0) + np.where(y > 0.42, 0.05, 0)
    return _sheet(x, -depth, y)


THIN_SHAPES: dict[str, Callable[[float], Mesh]] = {"goblet": goblet, "crate": crate, "crisp": crisp}
OPEN_SHAPES: dict[str, Callable[[], Mesh]] = {"terrain": terrain, "cloth": cloth, "facade": facade}


def _square() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(*[np.linspace(-0.5, 0.5, FINE + 1)] * 2, indexing="ij")
    return x, y


def _waves(fold: float = 0.05, sag: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = _square()
    return x, y, fold * np.sin(14 * x + 2 * y) * (1 - y) + sag * (x**2 - y**2)


def _sheet(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Mesh:
    corner = np.arange(x.size).reshape(x.shape)
    return _of_quads(np.stack([x, y, z], -1).reshape(-1, 3), _cells(corner))


def _cells(corner: np.ndarray) -> np.ndarray:
    around = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    return np.stack(around, -1).reshape(-1, 4)


def _rim(corner: np.ndarray) -> list[np.ndarray]:
    return [corner[:, 0], corner[-1], corner[::-1, -1], corner[0, ::-1]]


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a[:-1], a[1:], b[1:], b[:-1]], 1)


def _revolved(profile: Float[np.ndarray, "K 2"]) -> Mesh:
    """The solid of revolution of (radius, z), the outside to the right of the way along the profile."""
    angle = 2 * np.pi * np.arange(FINE) / FINE
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.concatenate([np.column_stack([r * ring, np.full(FINE, z)]) for r, z in profile])
    k, j = np.divmod(np.arange((len(profile) - 1) * FINE), FINE)
    a, b = k * FINE + j, k * FINE + (j + 1) % FINE
    return _of_quads(points, np.stack([a, a + FINE, b + FINE, b], 1))


def _of_quads(points: Float[np.ndarray, "V 3"], quads: np.ndarray) -> Mesh:
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    mesh = Mesh(points, faces.astype(np.int32))
    return mesh.kept(np.linalg.norm(mesh.face_vectors(), axis=1) > 1e-12)  # at the axis quads are triangles
