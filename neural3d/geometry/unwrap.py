"""A mesh made ready for a texture: fewer faces, and a place in the picture for each of them.

uv: u to the right, v down, (0, 0) and (1, 1) the picture's outer corners, as in glTF; the centre of texel (row i,
column j) of a picture of n × n is ((j + 0.5) / n, (i + 0.5) / n).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh, remove_floaters
from neural3d.geometry.solid import Solid, load_open3d

PADDING = 4  # texels between charts: two levels of mip-maps do not mix them


def simplified(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with at most so many faces, by quadric error (Garland & Heckbert 1997); itself if it has no more.

    Colours are those of the nearest points of the original, normals are computed anew. Raises UserError where `faces`
    is under 4.
    """
    if faces < 4:
        raise UserError(f"A surface of {faces} faces is none; ask for at least 4 faces.")
    if len(mesh.faces) <= faces:
        return mesh
    geometry, utility = load_open3d().geometry, load_open3d().utility
    full = geometry.TriangleMesh(
        utility.Vector3dVector(mesh.vertices.astype(np.float64)), utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    fewer = full.simplify_quadric_decimation(faces)
    # Splinters that the budget left of thin parts would each become a chart of a few texels.
    small = remove_floaters(
        Mesh(np.asarray(fewer.vertices, np.float32), np.asarray(fewer.triangles, np.int32)), fraction=1e-4
    )
    small = replace(small, normals=small.vertex_normals())
    if mesh.colors is None:
        return small
    return small.colored(Paint(mesh))


class Paint:
    """The vertex colours of a mesh, anywhere near it, for `Mesh.colored`: those of the nearest point of its surface."""

    def __init__(self, mesh: Mesh):
        assert mesh.colors is not None
        self.mesh, self.colors, self.solid = mesh, mesh.colors, Solid(mesh)

    def __call__(self, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        _, face = self.solid.closest(points.numpy())
        corners = self.mesh.faces[face]
        share = barycentric(points.numpy(), self.mesh.vertices[corners])
        return torch.from_numpy(np.einsum("nk,nkc->nc", share, self.colors[corners]).astype(np.float32))


def barycentric(
    points: Float[np.ndarray, "N 3"], triangles: Float[np.ndarray, "N corner 3"]
) -> Float[np.ndarray, "N corner"]:
    """Shares of the corners in each point's projection onto its triangle's plane, kept from leaving the triangle."""
    a, b, c = triangles.astype(np.float64).swapaxes(0, 1)
    e, f, d = b - a, c - a, points - a
    ee, ef, ff, de, df = ((x * y).sum(1) for x, y in ((e, e), (e, f), (f, f), (d, e), (d, f)))
    double_area = np.maximum(ee * ff - ef**2, 1e-30)  # 1e-30: triangles without area give their first corner
    second, third = (ff * de - ef * df) / double_area, (ee * df - ef * de) / double_area
    share = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    return share / np.maximum(share.sum(1, keepdims=True), 1e-30)


def unwrapped(mesh: Mesh, size: int) -> Mesh:
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
