"""A mesh made ready for a texture: a place in the picture for each of its faces.

uv: u to the right, v down, (0, 0) and (1, 1) the picture's outer corners, as in glTF; the centre of texel (row i,
column j) of a picture of n × n is ((j + 0.5) / n, (i + 0.5) / n).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.progress import Progress, silent

PADDING = 4  # texels between charts: two levels of mip-maps do not mix them


def unwrapped(mesh: Mesh, size: int, progress: Progress = silent) -> Mesh:
    """The mesh with `uv` for a texture of size × size: charts by xatlas, packed without overlap.

    Vertices on the charts' borders are doubled. Raises UserError where xatlas is missing, or where the faces need more
    room than the texture has.
    """
    try:
        import xatlas
    except ImportError as error:
        raise UserError(f"xatlas cannot be loaded ({error}); install it: pip install xatlas.") from None
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, PADDING, True
    atlas.generate(xatlas.ChartOptions(), packing)
    origin, faces, uv = atlas[0]
    if not np.isfinite(uv).all() or len(faces) != len(mesh.faces) or min(atlas.width, atlas.height) == 0:
        raise UserError(f"xatlas found no texture coordinates for {len(mesh.faces):,} faces; ask for fewer.")
    pixels = uv * [atlas.width, atlas.height]
    return replace(
        mesh,
        vertices=mesh.vertices[origin],
        faces=faces.astype(np.int32),
        colors=None if mesh.colors is None else mesh.colors[origin],
        normals=None if mesh.normals is None else mesh.normals[origin],
        uv=(pixels / max(atlas.width, atlas.height)).astype(np.float32),
    )


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
