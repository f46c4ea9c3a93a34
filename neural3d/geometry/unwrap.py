"""A mesh made ready for a texture: a place in the picture for each of its faces.

uv: u to the right, v down, (0, 0) and (1, 1) the picture's outer corners, as in glTF; the centre of texel (row i,
column j) of a picture of n × n is ((j + 0.5) / n, (i + 0.5) / n).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from neural3d.errors import UserError
from neural3d.geometry.clean import simplified, smoothed
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.progress import Progress, silent

PADDING = 4  # texels between charts: two levels of mip-maps do not mix them
BLOCK = 5_000  # faces that xatlas cuts into charts at a time, a few seconds of a rough surface
SMOOTHING = 5  # rounds before that: noise of normals, and thereby charts, falls by a third
MOST_CHARTS = 20_000  # packed in a few seconds; in a texture of 2048² each has 200 texels


def unwrapped(mesh: Mesh, size: int, progress: Progress = silent) -> Mesh:
    """The mesh with `uv` for a texture of size × size: charts by xatlas, packed without overlap.

    xatlas cuts charts block by block, because its time grows with more than the square of their number, and of a
    smoothed copy, where fewer do: 50,000 rough faces take 5 s of one core; whole, 20,000 of them take 21 s. A mesh that
    still makes more than MOST_CHARTS is simplified until it does not.
    Vertices on the charts' borders are doubled. Raises UserError where xatlas is missing, or where the faces need more
    room than the texture has.
    """
    xatlas = load_xatlas()
    while (charts := _cut(xatlas, mesh, progress)) is None:
        mesh = simplified(Mesh(mesh.vertices, mesh.faces), len(mesh.faces) // 2)
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, PADDING, True
    for block in charts:
        atlas.add_uv_mesh(block.uv, block.corners.astype(np.uint32))
    progress("packing", 0, 1)
    atlas.generate(xatlas.ChartOptions(), packing)
    progress("packing", 1, 1)

    origins, uvs, count = [], [], 0
    faces = np.empty_like(mesh.faces)
    for k, block in enumerate(charts):
        vertex, corners, uv = atlas[k]
        faces[block.faces] = count + corners
        origins.append(block.vertices[vertex])
        uvs.append(uv)
        count += len(vertex)
    origin, uv = np.concatenate(origins), np.concatenate(uvs)
    if not np.isfinite(uv).all() or min(atlas.width, atlas.height) == 0:
        raise UserError(f"xatlas found no texture coordinates for {len(mesh.faces):,} faces; ask for fewer.")
    pixels = uv * [atlas.width, atlas.height]
    return replace(
        mesh,
        vertices=mesh.vertices[origin],
        faces=faces,
        colors=None if mesh.colors is None else mesh.colors[origin],
        normals=None if mesh.normals is None else mesh.normals[origin],
        uv=(pixels / max(atlas.width, atlas.height)).astype(np.float32),
    )


def load_xatlas() -> Any:
    try:
        import xatlas
    except ImportError as error:
        raise UserError(f"xatlas cannot be loaded ({error}); install it: pip install xatlas.") from None
    return xatlas


@dataclass(frozen=True)
class _Block:
    """Faces of a mesh that were cut into charts together. corners: of them, rows of `vertices` (the mesh's) and `uv`
    (flat, as large as the surface).
    """

    faces: Int[np.ndarray, "F"]
    vertices: Int[np.ndarray, "V"]
    corners: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "V 2"]


def _cut(xatlas: Any, mesh: Mesh, progress: Progress) -> list[_Block] | None:
    """Charts for all faces; None where they are more than MOST_CHARTS."""
    smooth = smoothed(mesh, SMOOTHING)
    result, done, charts = [], 0, 0
    for faces in _blocks(mesh):
        progress("unwrapping", done, len(mesh.faces))
        atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
        packing.resolution = 256  # any will do: only the charts are wanted, and small pictures pack quickly
        part = smooth.kept(faces)
        atlas.add_mesh(part.vertices.astype(np.float32), part.faces.astype(np.uint32))
        atlas.generate(xatlas.ChartOptions(), packing)
        vertex, corners, uv = atlas[0]
        if len(corners) != len(faces) or not atlas.texels_per_unit > 0:
            raise UserError(f"xatlas found no texture coordinates for {len(mesh.faces):,} faces; ask for fewer.")
        flat = (uv * [atlas.width, atlas.height] / atlas.texels_per_unit).astype(np.float32)
        result.append(_Block(faces, np.unique(mesh.faces[faces])[vertex], corners, flat))
        done, charts = done + len(faces), charts + atlas.chart_count
        if charts > MOST_CHARTS:
            return None
    progress("unwrapping", done, len(mesh.faces))
    return result


def _blocks(mesh: Mesh) -> list[Int[np.ndarray, "F"]]:
    """All faces in parts of at most BLOCK, by halving at the median along the longest side, again and again."""
    middle = mesh.vertices[mesh.faces].mean(1)
    waiting, parts = [np.arange(len(mesh.faces))], []
    while waiting:
        part = waiting.pop()
        if len(part) <= BLOCK:
            parts.append(part)
            continue
        along = middle[part][:, np.ptp(middle[part], axis=0).argmax()]
        waiting += np.array_split(part[np.argsort(along, kind="stable")], 2)
    return parts


@dataclass(frozen=True)
class Texels:
    """The N texels of a size × size texture whose centres a mesh covers, and where on the surface each lies.

    index: row · size + column. face, share: of the mesh, and of its corners. points, normals (unit length): in the
    mesh's frame.
    """

    size: int
    index: Int[np.ndarray, "N"]
    face: Int[np.ndarray, "N"]
    share: Float[np.ndarray, "N corner"]
    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]

    def __len__(self) -> int:
        return len(self.index)


def texels_of(mesh: Mesh, size: int, rows: int = 256) -> Texels:
    """Where the surface lies in its texture: rays are cast down onto the flat unwrapped mesh, `rows` at a time."""
    assert mesh.uv is not None
    flat = np.concatenate([mesh.uv * size, np.zeros((len(mesh.uv), 1))], axis=1)
    sheet = Solid(Mesh(flat.astype(np.float32), mesh.faces))
    normals = mesh.vertex_normals() if mesh.normals is None else mesh.normals
    found = []
    for top in range(0, size, rows):
        row, column = np.mgrid[top : min(top + rows, size), :size].reshape(2, -1)
        eye = np.stack([column + 0.5, row + 0.5, np.ones(len(row))], axis=1)
        face, share = sheet.hit_place(eye, np.array([[0.0, 0, -1]]))
        on = face >= 0
        face, share = face[on].astype(np.int32), share[on]
        point = np.einsum("nk,nkc->nc", share, mesh.vertices[mesh.faces[face]])
        normal = np.einsum("nk,nkc->nc", share, normals[mesh.faces[face]])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)  # opposite corners may cancel
        index = (row * size + column)[on].astype(np.int32)
        found.append((index, face, *(x.astype(np.float32) for x in (share, point, normal))))
    return Texels(size, *(np.concatenate(part) for part in zip(*found)))
