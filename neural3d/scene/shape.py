"""Shape: a mesh or a point cloud that a surface is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh, merge_vertices
from neural3d.scene.outline import cloud_outline
from neural3d.scene.upright import Y_UP

SUFFIXES = (".glb", ".gltf", ".obj", ".off", ".pcd", ".ply", ".pts", ".stl", ".xyz", ".xyzn")
CLOUD_SUFFIXES = (".pcd", ".pts", ".xyz", ".xyzn")
HALF_SIDE = 0.9  # of the shape's box along its longest axis, in scene units: leaves room around it in [-1, 1]³
MARGIN = 0.1  # of the region of interest around the shape's box
STRAYS = 0.002  # of a cloud's points, that may lie beyond its outline in each direction


@dataclass
class Shape:
    """A triangle mesh or a point cloud, moved and scaled to fit [-1, 1]³.

    vertices: (V, 3) in the scene frame. faces: (F, 3), counter-clockwise from outside; None: a point cloud.
    normals: (V, 3) unit, of a cloud that has them. All three are None in a run that was opened without its file.
    aabb, scene_from_capture, outline: as in Scene; the capture's frame is the file's. notes: what is worth saying.
    """

    name: str
    path: Path
    aabb: Float[Tensor, "2 3"]
    scene_from_capture: Float[Tensor, "4 4"]
    vertices: Float[np.ndarray, "V 3"] | None = None
    faces: Int[np.ndarray, "F 3"] | None = None
    normals: Float[np.ndarray, "V 3"] | None = None
    outline: Float[Tensor, "K 3"] | None = None
    background: str = "white"
    notes: list[str] = field(default_factory=list)
    method_settings: dict[str, dict] = field(default_factory=dict)

    @property
    def mesh(self) -> Mesh:
        """The surface in the scene frame; only of shapes with faces."""
        assert self.vertices is not None and self.faces is not None
        return Mesh(self.vertices, self.faces)


def load_shape(path: Path) -> Shape:
    """A mesh or a point cloud from a file; vertices at equal places are joined.

    Raises UserError where the file is damaged, empty or flat in all directions, or holds NaN.
    """
    mesh, normals = read_shape(path)
    points = mesh.vertices
    low, high = points.min(0), points.max(0)
    side = float((high - low).max())
    if side == 0:
        raise UserError(f"{path}: all {len(points)} points lie at one place; a surface needs points that spread.")
    scale = 2 * HALF_SIDE / side
    middle = (low + high) / 2
    turn = scene_turn(path)
    scene_from_capture = torch.eye(4, dtype=torch.float64)
    scene_from_capture[:3, :3] = torch.from_numpy(scale * turn)
    scene_from_capture[:3, 3] = torch.from_numpy(-scale * turn @ middle)
    half = torch.from_numpy(np.abs(turn @ (high - low)) / 2 * scale).float() + MARGIN
    vertices = ((points - middle) @ turn.T * scale).astype(np.float32)
    return Shape(
        name=path.stem,
        path=path,
        aabb=torch.stack([-half, half]),
        scene_from_capture=scene_from_capture,
        vertices=vertices,
        faces=mesh.faces if len(mesh.faces) else None,
        normals=None if normals is None else (normals @ turn.T).astype(np.float32),
        outline=cloud_outline(torch.from_numpy(vertices), trim=0 if len(mesh.faces) else STRAYS),
    )


def scene_turn(path: Path) -> Float[np.ndarray, "3 3"]:
    """The rotation that makes the file's up, as far as its format tells, the scene frame's +z."""
    return np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) if path.suffix.lower() in Y_UP else np.eye(3)


def read_shape(path: Path) -> tuple[Mesh, np.ndarray | None]:
    """What `load_shape` reads, still in the file's own frame, float64; and the normals of a cloud that has them."""
    mesh, normals = _read(path)
    if len(mesh.vertices) == 0:
        raise UserError(f"{path}: holds no points; export it again.")
    bad = ~np.isfinite(mesh.vertices).all(1)
    if bad.any():
        raise UserError(f"{path}: {bad.sum()} of {len(bad)} points are not finite (NaN or Inf); remove them.")
    return mesh, normals


def _read(path: Path) -> tuple[Mesh, np.ndarray | None]:
    """Positions in float64, faces (none for a cloud), and normals of a cloud."""
    if path.suffix.lower() in CLOUD_SUFFIXES:
        return _read_cloud(path)
    import trimesh

    try:
        loaded = trimesh.load(path, process=False)
        geometry: Any = loaded.to_geometry() if isinstance(loaded, trimesh.Scene) else loaded
        vertices = np.asarray(geometry.vertices, np.float64).reshape(-1, 3)
        faces = np.asarray(getattr(geometry, "faces", np.empty((0, 3)))).reshape(-1, 3)
    except Exception as error:  # trimesh raises what its many readers raise
        raise UserError(f"{path}: cannot be read as a mesh or point cloud ({error}); is it complete?") from None
    if len(faces) == 0 and path.suffix.lower() == ".ply":
        return _read_cloud(path)
    if len(faces) and faces.max() >= len(vertices):
        raise UserError(f"{path}: a face names vertex {faces.max()} of {len(vertices)}; the file is damaged.")
    mesh = Mesh(vertices, faces.astype(np.int32))
    return (merge_vertices(mesh) if len(faces) else mesh), None


def read_cloud(path: Path) -> Any:
    """The file as Open3D's PointCloud, NaN and Inf included. Raises UserError where Open3D is missing."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise UserError(f"{path}: point clouds are read by Open3D ({error}); pip install open3d.") from None
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        return open3d.io.read_point_cloud(path, remove_nan_points=False, remove_infinite_points=False)


def _read_cloud(path: Path) -> tuple[Mesh, np.ndarray | None]:
    cloud = read_cloud(path)
    points = np.asarray(cloud.points, np.float64)
    normals = None
    if cloud.has_normals():
        normals = np.asarray(cloud.normals)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = (normals / length).astype(np.float32) if (length > 0).all() else None
    return Mesh(points, np.empty((0, 3), np.int32)), normals
