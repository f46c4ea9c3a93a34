"""Extracted surfaces made fit for use: no islands, no spikes, no small holes, smooth if asked for, of few faces.

Sizes are shares of the diagonal of the mesh's box, so that they mean the same in every frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh, remove_floaters
from neural3d.geometry.solid import load_open3d
from neural3d.progress import Progress, silent

ISLAND = 0.01  # of the largest piece's area: smaller pieces are dropped
HOLE = 0.02  # of the diagonal: narrower holes are filled
SPIKE = 2.0  # radii of the ring of its neighbours by which a vertex may stand out from their middle
ROUNDS = 3  # of cutting spikes, a vertex of height each


@dataclass(frozen=True)
class Cleaned:
    """A mesh, and what was done to it. removed: the share of the area that the dropped pieces had."""

    mesh: Mesh
    islands: int
    removed: float
    spikes: int
    patches: int  # faces that fill holes

    def __str__(self) -> str:
        islands = f"{self.islands:,} islands ({self.removed:.1%} of the area) dropped"
        return f"{islands}, {self.spikes:,} spikes cut, {self.patches:,} faces to fill holes"


def cleaned(
    mesh: Mesh,
    *,
    keep_largest: bool = False,
    fill_holes: float = HOLE,
    smooth: int = 0,
    progress: Progress = silent,
) -> Cleaned:
    """The bare surface without what no subject has.

    keep_largest: only the largest piece; else those of at least ISLAND of its area. fill_holes: the widest hole to
    fill, 0: none. smooth: rounds of Taubin's filter, which keeps the volume; each widens it by about an edge's length.
    Colours and normals are dropped: give those of the result. For dense meshes, before they are simplified: there a
    spike is a few vertices high, and what is true but thin, such as a leg, is wider than one.
    """
    mesh = Mesh(mesh.vertices, mesh.faces)
    progress("cleaning", 0, 4)
    kept = remove_floaters(mesh, 1.0 if keep_largest else ISLAND)
    progress("cleaning", 1, 4)
    blunt, spikes = without_spikes(kept)
    progress("cleaning", 2, 4)
    filled = with_holes_filled(blunt, fill_holes) if fill_holes > 0 else blunt
    progress("cleaning", 3, 4)
    result = smoothed(filled, smooth) if smooth > 0 else filled
    progress("cleaning", 4, 4)
    removed = 1 - kept.area / max(mesh.area, 1e-30)  # 1e-30: a mesh without area
    return Cleaned(result, pieces(mesh) - pieces(kept), removed, spikes, len(filled.faces) - len(blunt.faces))


def pieces(mesh: Mesh) -> int:
    """How many connected pieces the faces make."""
    return int(connected_components(_neighbours(mesh.kept(np.arange(len(mesh.faces)))), directed=False)[0])


def without_spikes(mesh: Mesh) -> tuple[Mesh, int]:
    """(the mesh with each vertex that stands out moved to its neighbours' middle, how many did)

    Of a cone's tip, height over radius: tips of less than 27° to their axis are blunted.
    """
    neighbours = _neighbours(mesh)
    degree = np.maximum(np.asarray(neighbours.sum(1)).ravel(), 1)[:, None]
    x, moved = mesh.vertices.astype(np.float64), np.zeros(len(mesh.vertices), bool)
    for _ in range(ROUNDS):
        middle = neighbours @ x / degree
        variance = neighbours @ (x**2).sum(1) / degree[:, 0] - (middle**2).sum(1)
        out = ((x - middle) ** 2).sum(1) > SPIKE**2 * np.maximum(variance, 0)
        x[out] = middle[out]
        moved |= out
    return Mesh(x.astype(np.float32), mesh.faces), int(moved.sum())


def with_holes_filled(mesh: Mesh, size: float) -> Mesh:
    """With patches over holes whose border's box has a diagonal of at most about `size`, see the module's page.

    The patches have no vertices of their own, and face the side that the faces around do.
    """
    open3d = load_open3d()
    used = mesh.kept(np.arange(len(mesh.faces)))
    diagonal = float(np.linalg.norm(np.ptp(used.vertices, axis=0)))
    arrays = used.vertices.astype(np.float32), used.faces.astype(np.int32)
    filled = open3d.t.geometry.TriangleMesh(*(open3d.core.Tensor(a) for a in arrays)).fill_holes(size * diagonal / 2)
    old, new = np.split(filled.triangle.indices.numpy(), [len(used.faces)])
    if not len(new):
        return used
    # Open3D turns its patches either way: right is the one that runs along shared edges against the old faces.
    count = len(used.vertices)
    edge_of = [(a.ravel().astype(np.int64) * count + np.roll(a, -1, axis=1).ravel()).reshape(-1, 3) for a in (old, new)]
    wrong = np.isin(edge_of[1], edge_of[0]).any(1)
    _, patch = connected_components(_neighbours(Mesh(used.vertices, new)), directed=False)
    flip = np.isin(patch[new[:, 0]], patch[new[wrong, 0]])
    new = np.where(flip[:, None], new[:, ::-1], new)
    return Mesh(used.vertices, np.concatenate([old, new]).astype(np.int32))


def smoothed(mesh: Mesh, rounds: int) -> Mesh:
    """After so many rounds of Taubin's filter ("A signal processing approach to fair surface design", 1995)."""
    open3d = load_open3d()
    vertices = open3d.utility.Vector3dVector(mesh.vertices.astype(np.float64))
    shape = open3d.geometry.TriangleMesh(vertices, open3d.utility.Vector3iVector(mesh.faces.astype(np.int32)))
    return Mesh(np.asarray(shape.filter_smooth_taubin(rounds).vertices, np.float32), mesh.faces)


def simplified(mesh: Mesh, faces: int) -> Mesh:
    """The bare mesh with at most so many faces, by quadric error (Garland & Heckbert 1997), and with normals.

    Itself if it has no more. Raises UserError where `faces` is under 4.
    """
    if faces < 4:
        raise UserError(f"A surface of {faces} faces is none; ask for at least 4 faces.")
    if len(mesh.faces) <= faces:
        return mesh
    import fast_simplification  # only here: few commands need it

    vertices, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces
    )
    # Splinters that the budget left of thin parts would each become a chart of a few texels.
    small = remove_floaters(Mesh(vertices.astype(np.float32), triangles.astype(np.int32)), fraction=1e-4)
    return replace(small, normals=small.vertex_normals())


def _neighbours(mesh: Mesh) -> Float[csr_matrix, "V V"]:
    """1 where an edge joins two vertices."""
    a, b = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    matrix = csr_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(len(mesh.vertices),) * 2)
    matrix.data[:] = 1  # an edge of two faces is one edge
    return matrix
