"""Exact distances to a triangle mesh, and what is inside it, by Open3D's ray casting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh

LIBRARIES = "libegl1 libgl1 libx11-6 libusb-1.0-0 libidn2-0"  # that Open3D links and bare containers lack
# Directions without symmetry, so that rays seldom meet an edge or a plane of the mesh; three, so that one may.
DIRECTIONS = np.array([[0.577, 0.211, 0.789], [-0.723, 0.613, 0.318], [0.137, -0.871, -0.472]])


def load_open3d() -> Any:
    """The module. Raises UserError where it is missing or lacks libraries of the system."""
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise UserError(f"Open3D is missing ({error}); install it: pip install open3d.") from None
    except (ImportError, OSError) as error:
        raise UserError(
            f"Open3D cannot be loaded ({error}); on Debian and Ubuntu, as root: apt-get install -y {LIBRARIES}."
        ) from None
    return open3d


class Solid:
    """A mesh to be measured against. Points are float32 inside Open3D: give coordinates of order 1."""

    def __init__(self, mesh: Mesh):
        self._open3d = open3d = load_open3d()
        self._scene: Any = open3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
        arrays = mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32)
        self._scene.add_triangles(*(self._open3d.core.Tensor(a) for a in arrays))
        vectors = mesh.face_vectors()
        area = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.normals: Float[np.ndarray, "F 3"] = vectors / np.where(area > 0, area, 1)  # 0 for faces without area
        corners = mesh.vertices[np.unique(mesh.faces)]
        self.box: Float[np.ndarray, "2 3"] = np.stack([corners.min(0), corners.max(0)])

    def distance(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """To the surface, without sign."""
        return self._scene.compute_distance(points.astype(np.float32), nthreads=torch.get_num_threads()).numpy()

    def closest(self, points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
        """(distance to the surface, the face nearest to each point)

        In float32: on faces two hundred times as long as wide, distances are off by up to 2e-4 of the mesh's size.
        """
        places, face = self.nearest(points)
        return np.linalg.norm(places - points.astype(np.float32), axis=1), face

    def nearest(self, points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "N"]]:
        """(the place of the surface nearest to each point, its face), as precise as `closest`."""
        found = self._scene.compute_closest_points(points.astype(np.float32), nthreads=torch.get_num_threads())
        return found["points"].numpy(), found["primitive_ids"].numpy().astype(np.int64)

    def first_hit(
        self, origins: Float[np.ndarray, "#N 3"], directions: Float[np.ndarray, "N 3"]
    ) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
        """(distance in lengths of the direction, Inf where nothing is hit; the face that is hit, else -1)"""
        found = self._scene.cast_rays(_rays(origins, directions), nthreads=torch.get_num_threads())
        t = found["t_hit"].numpy()
        return t, np.where(np.isfinite(t), found["primitive_ids"].numpy().astype(np.int64), -1)

    def hit_place(
        self, origins: Float[np.ndarray, "#N 3"], directions: Float[np.ndarray, "#N 3"]
    ) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N corner"]]:
        """(the face that is hit, else -1; the shares of its corners in the point that is hit)"""
        found = self._scene.cast_rays(_rays(origins, directions), nthreads=torch.get_num_threads())
        second, third = found["primitive_uvs"].numpy().T
        face = found["primitive_ids"].numpy()
        none = face == self._scene.INVALID_ID
        return np.where(none, -1, face.astype(np.int64)), np.stack([1 - second - third, second, third], axis=1)

    def blocked(
        self, origins: Float[np.ndarray, "#N 3"], directions: Float[np.ndarray, "N 3"], far: float
    ) -> Bool[np.ndarray, "N"]:
        """Does a ray meet the surface before `far`, in lengths of its direction?"""
        rays = _rays(origins, directions)
        return self._scene.test_occlusions(rays, 0.0, far, nthreads=torch.get_num_threads()).numpy()

    def winding(
        self, points: Float[np.ndarray, "N 3"], toward: Float[np.ndarray, "N 3"] | None = None
    ) -> Int[np.ndarray, "N"]:
        """How many times the surface goes around each point: 1 inside, 0 outside, 2 where two parts overlap.

        For closed surfaces, the faces that a ray leaves through minus those it enters by; the median of three rays.
        Unlike the parity of crossings this is right for solids made of overlapping parts; where faces of two parts lie
        in one place, rays may count one of them only, and so 1 where it is 2.
        toward: which half of all directions the rays of each point may take; None: any. For points just before a face,
        its normal keeps them from coming back through the part whose face it is.
        """
        counts = []
        for direction in DIRECTIONS:
            if toward is not None:
                direction = np.where(toward @ direction < 0, -1, 1)[:, None] * direction
            rays = _rays(points, direction)
            hits = self._scene.list_intersections(self._open3d.core.Tensor(rays), nthreads=torch.get_num_threads())
            ray = hits["ray_ids"].numpy()
            outward = np.sign((self.normals[hits["primitive_ids"].numpy()] * rays[ray, 3:]).sum(1))
            counts.append(np.bincount(ray, outward, len(points)))
        return np.median(counts, axis=0).round().astype(np.int32)

    def signed_distance(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
        """Negative inside."""
        return np.where(self.winding(points) > 0, -1, 1) * self.distance(points)


def _rays(origins: np.ndarray, directions: np.ndarray) -> Float[np.ndarray, "N 6"]:
    return np.concatenate(np.broadcast_arrays(origins, directions), axis=1, dtype=np.float32, casting="same_kind")


def open_edges(mesh: Mesh) -> int:
    """How many edges keep the surface from being closed: its faces do not pass each in both directions equally often.

    0 for every union of closed, consistently oriented parts, however they touch or cross.
    """
    start, end = mesh.faces.ravel().astype(np.int64), np.roll(mesh.faces, -1, axis=1).ravel().astype(np.int64)
    edge = np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end)
    _, number = np.unique(edge, return_inverse=True)
    return int(np.count_nonzero(np.bincount(number, np.sign(end - start))))
