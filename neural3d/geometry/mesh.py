"""Triangle meshes: extraction from fields by marching cubes, cleaning, colouring and moving.

Positions are in the frame of the field that the mesh was extracted from (the scene frame) until `Mesh.transformed`
takes them elsewhere. Faces wind counter-clockwise seen from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.offset import offset_of
from neural3d.progress import Progress, silent

Field = Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n"]]
Colors = Callable[[Float[Tensor, "n 3"], Float[Tensor, "n 3"]], Float[Tensor, "n 3"]]  # (positions, normals) → sRGB

BATCH = 1 << 18  # points per field evaluation
SLAB = 32  # layers of cells that are held in memory at a time


@dataclass(frozen=True)
class Mesh:
    """V vertices, F triangles. colors: sRGB in [0, 1]. normals: unit length, pointing outward.

    uv: places in `texture`, an sRGB picture, u to the right and v down, see `geometry.unwrap`.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "V 3"] | None = None
    normals: Float[np.ndarray, "V 3"] | None = None
    uv: Float[np.ndarray, "V 2"] | None = None
    texture: UInt8[np.ndarray, "H W 3"] | None = None

    def face_vectors(self) -> Float[np.ndarray, "F 3"]:
        """Per face, the outward normal whose length is the face's area."""
        a, b, c = (self.vertices[self.faces[:, k]].astype(np.float64) for k in range(3))
        return 0.5 * np.cross(b - a, c - a)

    @property
    def area(self) -> float:
        return float(np.linalg.norm(self.face_vectors(), axis=1).sum())

    @property
    def volume(self) -> float:
        """Enclosed volume by the divergence theorem; of a mesh with holes it depends on the origin."""
        centres = self.vertices[self.faces].astype(np.float64).mean(axis=1)
        return float((centres * self.face_vectors()).sum() / 3)

    def vertex_normals(self) -> Float[np.ndarray, "V 3"]:
        """Unit sums of the adjacent faces' area vectors; 0 for vertices without faces."""
        vectors = self.face_vectors()
        total = np.stack([self._per_vertex(vectors[:, k]) for k in range(3)], axis=1)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return (total / np.where(length > 0, length, 1)).astype(np.float32)

    def _per_vertex(self, per_face: Float[np.ndarray, "F"]) -> Float[np.ndarray, "V"]:
        return np.bincount(self.faces.ravel(), np.repeat(per_face, 3), len(self.vertices))

    def transformed(self, matrix: Float[np.ndarray | Tensor, "4 4"]) -> Mesh:
        """The mesh moved by a similarity (rotation or reflection, uniform scale, translation); outside stays outside.

        Vertices are float32, or float64 where that takes the mesh far from the origin (see `geometry.offset`).
        Raises ValueError if the matrix stretches directions differently.
        """
        m = np.asarray(matrix, np.float64)
        scale = np.cbrt(abs(np.linalg.det(m[:3, :3])))
        rotation = m[:3, :3] / scale
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5):
            raise ValueError("expected a similarity: rotation, uniform scale and translation")
        vertices = self.vertices.astype(np.float64) @ m[:3, :3].T + m[:3, 3]
        return replace(
            self,
            vertices=vertices if offset_of(vertices).any() else vertices.astype(np.float32),
            faces=self.faces if np.linalg.det(rotation) > 0 else self.faces[:, ::-1].copy(),
            normals=None if self.normals is None else (self.normals @ rotation.T).astype(np.float32),
        )

    def colored(self, color: Colors, progress: Progress = silent) -> Mesh:
        """With `color(position, outward normal)`, sRGB, at vertices; for radiance fields see `seen_from_outside`."""
        normals = self.vertex_normals() if self.normals is None else self.normals
        batches = []
        with torch.no_grad():
            for i in range(0, len(self.vertices), BATCH // 8):
                part = slice(i, i + BATCH // 8)
                batches.append(color(torch.from_numpy(self.vertices[part]), torch.from_numpy(normals[part])).cpu())
                progress("colouring", min(part.stop, len(self.vertices)), len(self.vertices))
        colors = torch.cat(batches).clamp(0, 1).numpy() if batches else np.zeros((0, 3), np.float32)
        return replace(self, colors=colors, normals=normals)

    def kept(self, faces: np.ndarray) -> Mesh:
        """Only the chosen faces (mask or indices) and the vertices they use, in the same order."""
        chosen = self.faces[faces]
        used = np.zeros(len(self.vertices), bool)
        used[chosen] = True
        number = np.cumsum(used, dtype=np.int32) - 1
        return Mesh(
            self.vertices[used],
            number[chosen],
            None if self.colors is None else self.colors[used],
            None if self.normals is None else self.normals[used],
            None if self.uv is None else self.uv[used],
            self.texture,
        )


def seen_from_outside(color: Colors, tilt: float = 0.5) -> Colors:
    """Turn a radiance field's color(position, viewing direction) into a colour per (position, normal).

    The mean over an eye above the surface and four eyes tilted away from the normal by `tilt` (radians), so that one
    highlight does not become paint.
    """

    def from_normal(x: Tensor, normal: Tensor) -> Tensor:
        helper = torch.where(normal[:, 2:].abs() < 0.7, normal.new_tensor([0, 0, 1.0]), normal.new_tensor([1.0, 0, 0]))
        u = torch.nn.functional.normalize(torch.linalg.cross(helper, normal), dim=1)
        v = torch.linalg.cross(normal, u)
        c, s = np.cos(tilt), np.sin(tilt)
        eyes = [normal, *(c * normal + s * side for side in (u, -u, v, -v))]
        return torch.stack([color(x, -eye) for eye in eyes]).mean(dim=0)

    return from_normal


def remove_floaters(mesh: Mesh, fraction: float = 0.01) -> Mesh:
    """Drop every connected piece whose surface area is under `fraction` of the largest piece's."""
    if len(mesh.faces) == 0:
        return mesh
    a, b, c = mesh.faces.T
    edges = scipy.sparse.coo_matrix(
        (np.ones(2 * len(a), bool), (np.concatenate([a, b]), np.concatenate([b, c]))), shape=(len(mesh.vertices),) * 2
    )
    _, piece = scipy.sparse.csgraph.connected_components(edges, directed=False)
    area = np.bincount(piece[a], np.linalg.norm(mesh.face_vectors(), axis=1))
    return mesh.kept((area >= fraction * area.max())[piece[a]])


def merge_vertices(mesh: Mesh, tolerance: float = 0.0) -> Mesh:
    """Join vertices at the same position (rounded to multiples of `tolerance` if it is positive), drop collapsed faces.

    The first of the joined vertices gives position, colour and normal.
    """
    position = np.round(mesh.vertices / tolerance) if tolerance > 0 else mesh.vertices
    first, number = _first_of_equals(position)
    faces = number[mesh.faces].astype(np.int32)
    full = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    joined = Mesh(
        mesh.vertices[first],
        faces[full],
        None if mesh.colors is None else mesh.colors[first],
        None if mesh.normals is None else mesh.normals[first],
    )
    return joined.kept(np.arange(len(joined.faces)))


def _first_of_equals(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index of the first of each distinct row, in order of appearance; number of each row among these)"""
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def extract(
    field: Field,
    aabb: Float[Tensor, "2 3"],
    resolution: int,
    *,
    level: float | None = None,
    hidden: Callable[[Float[Tensor, "n 3"]], Bool[Tensor, "n"]] | None = None,
    fill_open: bool = False,
    progress: Progress = silent,
) -> Mesh:
    """The surface of a field inside a box as a closed mesh, by marching cubes (Lewiner et al. 2003).

    level None: the field is a signed distance, negative inside; its gradient may be up to twice the true one.
    level given: the field is a density (1 / unit length), the inside is where it exceeds the level.
    resolution: cells along the box's longest side; cells are as close to cubes as the box allows.
    The field is asked for float32 points on the box's device, in batches, only near the surface: first at the points of
    a coarse grid, then in the cells that may hold surface. For densities the coarse grid has every second point, so
    parts thinner than two cells may be missed; for distances nothing is. Where matter leaves the box, a flat cap closes
    it. hidden: says which points no camera could see, so that a density there is anything at all; pockets of such
    points, closed but for openings of a few cells, count as inside: objects come out solid instead of porous.
    fill_open: all other hidden points too, such as those below an object that was seen from above: a visual hull.

    Memory: a byte per coarse point and SLAB layers of values, plus the mesh. Raises UserError if there is no surface.
    """
    grid = _Grid(aabb, resolution, 4 if level is None else 2)
    from skimage.measure import marching_cubes  # only here: it takes long to import

    value = _outwardness(field, grid, level)
    inside, active, solid = _coarse_pass(
        value, grid, conservative=level is None, hidden=hidden, fill_open=fill_open, progress=progress
    )
    vertices, faces, count = [], [], 0
    last_layer = None
    for x0 in range(0, grid.cells[0], SLAB):
        x1 = min(x0 + SLAB, grid.cells[0])
        layers = _fine_pass(value, grid, inside, active, solid, x0, x1, last_layer)
        last_layer = layers[-1]
        padded = np.pad(layers, ((int(x0 == 0), int(x1 == grid.cells[0])), (1, 1), (1, 1)), constant_values=1)
        if padded.min() < 0 < padded.max():
            v, f, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
            vertices.append(v - 1 + [x0 + (x0 > 0), 0, 0])
            faces.append(f + count)
            count += len(v)
        progress("extracting the surface", int(x1), int(grid.cells[0]))
    if not vertices:
        what = "signed distance is nowhere negative" if level is None else f"density nowhere exceeds {level:g}"
        raise UserError(f"The {what} inside the box: no surface. Train longer, or choose another level or box.")

    index = np.concatenate(vertices)
    index = np.clip(index, 0, grid.cells)  # flat caps: the padding lies on the box
    seam = (index[:, 0] % SLAB == 0) | np.any((index == 0) | (index == grid.cells), axis=1)
    index, merged = _weld(index, np.concatenate(faces), seam)
    return Mesh(grid.position(index).astype(np.float32), merged)


def _weld(index: np.ndarray, faces: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join candidates at equal positions. Slabs share a layer of values, so their shared vertices agree to the bit."""
    where = np.flatnonzero(candidates)
    first, number = _first_of_equals(index[where])
    target = np.arange(len(index))
    target[where] = where[first][number]
    joined = Mesh(index, target[faces])
    f = joined.faces
    full = (f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])
    kept = joined.kept(full)
    return kept.vertices, kept.faces


class _Grid:
    """Cells of a box; point (i, j, k) lies at low + spacing * (i, j, k). Coarse cells are `stride` cells wide."""

    def __init__(self, aabb: Tensor, resolution: int, stride: int):
        self.device = aabb.device
        self.low, high = aabb.detach().cpu().double().numpy()
        extent = high - self.low
        if resolution < 1 or not np.all(extent > 0):
            raise UserError(f"Expected a box with positive sides and resolution, got sides {extent} and {resolution}.")
        self.cells = np.maximum(1, np.round(extent / extent.max() * resolution)).astype(int)
        self.spacing = extent / self.cells
        self.stride = stride
        self.coarse = -(-self.cells // stride)  # coarse cells per axis; the last may be cut by the box

    def position(self, index: np.ndarray) -> np.ndarray:
        return self.low + self.spacing * index


def _outwardness(field: Field, grid: _Grid, level: float | None) -> Callable[[np.ndarray], np.ndarray]:
    """A function of grid indices (n, 3) that is negative inside, about 1 a cell away, and never near 0.

    Distances are in cells. A density s becomes v / √(1 + v²) with v = 1 − s / level, so that the surface lies between
    an empty and a dense point and not at the empty one. |value| ≥ 1e-3 keeps vertices off the grid points, by about a
    thousandth of a cell, so that each lies on one edge and no face collapses.
    """
    cell = float(grid.spacing.max())

    @torch.no_grad()
    def value(index: np.ndarray) -> np.ndarray:
        out = np.empty(len(index), np.float32)
        for i in range(0, len(index), BATCH):
            points = torch.from_numpy(grid.position(index[i : i + BATCH]).astype(np.float32)).to(grid.device)
            raw = field(points).reshape(-1).float().cpu().numpy()
            v = raw / cell if level is None else 1 - raw / level
            v = np.nan_to_num(v, nan=1.0, posinf=1e6, neginf=-1e6)  # not a number: outside
            out[i : i + BATCH] = v if level is None else v / np.sqrt(1 + v * v)
        return np.where(np.abs(out) < 1e-3, np.where(out < 0, np.float32(-1e-3), np.float32(1e-3)), out)

    return value


def _coarse_pass(
    value: Callable, grid: _Grid, conservative: bool, hidden: Callable | None, fill_open: bool, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(is each coarse grid point inside?, may each coarse cell hold surface?, is it solid whatever the field says?)

    Of distances, a cell can hold surface only if the distance at a corner is within half the cell's diagonal. A density
    may change at any rate, as may distances that are cut off: cells whose corners differ in sign hold surface, and of a
    density their neighbours are looked at too.
    """
    axes = [np.minimum(np.arange(n + 1) * grid.stride, cells) for n, cells in zip(grid.coarse, grid.cells)]
    reach = 2 * 0.5 * grid.stride * np.linalg.norm(grid.spacing) / grid.spacing.max()  # 2: the gradient's bound
    shape = tuple(len(a) for a in axes)
    inside, near = np.empty(shape, bool), np.zeros(shape, bool)
    for i, x in enumerate(axes[0]):
        layer = np.stack(np.meshgrid([x], axes[1], axes[2], indexing="ij"), axis=-1)
        v = value(layer.reshape(-1, 3)).reshape(shape[1:])
        inside[i] = v < 0
        near[i] = np.abs(v) <= reach
        progress("looking for the surface", i + 1, len(axes[0]))

    def over_corners(a: np.ndarray, combine: np.ufunc) -> np.ndarray:
        for axis in range(3):
            a = combine(np.delete(a, -1, axis), np.delete(a, 0, axis))
        return a

    filled = np.zeros(shape, bool)
    if hidden is not None:
        filled = ~inside if fill_open else _pockets(inside)
        index = np.stack([axis[i] for axis, i in zip(axes, np.nonzero(filled))], axis=1)
        points = torch.from_numpy(grid.position(index).astype(np.float32)).to(grid.device)
        filled[filled] = torch.cat([hidden(part) for part in points.split(BATCH)]).cpu().numpy()
    inside |= filled
    solid = over_corners(inside, np.logical_and) & over_corners(filled, np.logical_or)
    active = over_corners(inside, np.logical_or) & ~over_corners(inside, np.logical_and)
    if conservative:
        active |= over_corners(near, np.logical_or)
    else:
        active = scipy.ndimage.binary_dilation(active, np.ones((3, 3, 3)))
    return inside, active, solid


def _pockets(inside: np.ndarray) -> np.ndarray:
    """The empty points that a cube of 3³ points cannot reach from the grid's faces."""
    cube = np.ones((3, 3, 3), bool)
    roomy = scipy.ndimage.binary_erosion(~inside, cube, border_value=1)
    seed = roomy.copy()
    seed[1:-1, 1:-1, 1:-1] = False
    return ~inside & ~scipy.ndimage.binary_dilation(scipy.ndimage.binary_propagation(seed, cube, roomy), cube)


def _fine_pass(
    value: Callable,
    grid: _Grid,
    inside: np.ndarray,
    active: np.ndarray,
    solid: np.ndarray,
    x0: int,
    x1: int,
    first: np.ndarray | None,
) -> Float[np.ndarray, "layers y z"]:
    """Values at the points of layers x0 ... x1; ±1 away from active cells. first: layer x0 if it is known already."""
    points = [np.arange(x0, x1 + 1), np.arange(grid.cells[1] + 1), np.arange(grid.cells[2] + 1)]
    sign, needed = inside, active
    for axis, p in enumerate(points):
        above = np.minimum(p // grid.stride, grid.coarse[axis] - 1)
        below = np.maximum(p - 1, 0) // grid.stride
        sign = sign.take(above, axis)  # all corners of a cell that is not active agree
        needed = needed.take(below, axis) | needed.take(above, axis)
    layers = np.where(sign, np.float32(-1), np.float32(1))
    if first is not None:
        layers[0] = first
        needed[0] = False
    i, j, k = np.nonzero(needed)
    index = np.stack([i + x0, j, k], axis=1)
    filled = solid[tuple(np.minimum(index // grid.stride, grid.coarse - 1).T)]
    layers[i[filled], j[filled], k[filled]] = -1
    rest = ~filled
    layers[i[rest], j[rest], k[rest]] = value(index[rest])
    return layers
