"""Other programs' reconstructions of a cloud, by name; none of them smooths or trims what it is not told to.

Normals, where none are given, are those of the planes through 30 neighbours, and which way they point is guessed along
a spanning tree over 30 neighbours, as a user of these programs must.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from neural3d.geometry.mesh import Mesh

NEIGHBOURS = 30


def oriented(points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"] | None) -> Any:
    """The cloud with normals, as Open3D wants it."""
    import open3d

    made = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    if normals is None:
        made.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
        made.orient_normals_consistent_tangent_plane(NEIGHBOURS)
    else:
        made.normals = open3d.utility.Vector3dVector(normals)
    return made


def poisson(depth: int) -> Callable[[Any], Mesh]:
    """Open3D's screened Poisson reconstruction (Kazhdan and Hoppe 2013)."""

    def reconstruct(cloud: Any) -> Mesh:
        import open3d

        return _own(open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=depth, n_threads=1)[0])

    return reconstruct


def ball_pivoting(cloud: Any) -> Mesh:
    """Open3D's (Bernardini et al. 1999), radii of 1, 2 and 4 mean distances between neighbours."""
    import open3d

    step = float(np.mean(cloud.compute_nearest_neighbor_distance()))
    radii = open3d.utility.DoubleVector([step, 2 * step, 4 * step])
    return _own(open3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(cloud, radii))


def alpha_shape(cloud: Any) -> Mesh:
    """Open3D's, α of 4 mean distances between neighbours."""
    import open3d

    step = float(np.mean(cloud.compute_nearest_neighbor_distance()))
    return _own(open3d.geometry.TriangleMesh.create_from_point_cloud_alpha_shape(cloud, 4 * step))


def meshlab(filter_name: str, **settings: Any) -> Callable[[Any], Mesh]:
    """One of PyMeshLab's."""

    def reconstruct(cloud: Any) -> Mesh:
        import pymeshlab

        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(np.asarray(cloud.points), v_normals_matrix=np.asarray(cloud.normals)))
        meshes.apply_filter(filter_name, **settings)
        made = meshes.current_mesh()
        return Mesh(made.vertex_matrix(), made.face_matrix())

    return reconstruct


PEERS: dict[str, Callable[[Any], Mesh]] = {
    **{f"poisson {depth}": poisson(depth) for depth in (6, 8, 10)},
    "ball pivoting": ball_pivoting,
    "alpha shape": alpha_shape,
    "meshlab apss": meshlab("generate_marching_cubes_apss", resolution=200),
    "meshlab rimls": meshlab("generate_marching_cubes_rimls", resolution=200),
    "meshlab vcg": meshlab("generate_surface_reconstruction_vcg"),
}


def _own(made: Any) -> Mesh:
    return Mesh(np.asarray(made.vertices), np.asarray(made.triangles))
