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
from neural3d.files.clouds import CLOUD_SUFFIXES, is_cloud_file, read_cloud
from neural3d.geometry.bounds import every_nth
from neural3d.geometry.mesh import Mesh, merge_vertices
from neural3d.geometry.offset import read_offset
from neural3d.geometry.outline import cloud_outline
from neural3d.geometry.solid import open_edges
from neural3d.geometry.upright import Y_UP

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".off", ".ply", ".stl")
HALF_SIDE = 0.9  # of the shape's box along its longest axis, in scene units: leaves room around it in [-1, 1]³
MARGIN = 0.1  # of the region of interest around the shape's box
OUTLINED = 200_000  # points of a cloud that are looked at for its outline
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

    Raises UserError where the file is damaged, empty or flat in all directions, or a mesh that holds NaN.
    """
    file = read_shape(path)
    mesh, normals = file.mesh, file.normals
    points = mesh.vertices
    low, high = points.min(0), points.max(0)
    side = float((high - low).max())
    if side < 1e-150:  # of which numbers in double make nothing any more
        raise UserError(f"{path}: all {len(points)} points lie at one place; a surface needs points that spread.")
    if not side < 1e150:
        raise UserError(f"{path}: its points reach so far that nothing can be computed; correct them.")
    scale = 2 * HALF_SIDE / side
    middle = (low + high) / 2
    rotation = scene_rotation(path)
    scene_from_capture = torch.eye(4, dtype=torch.float64)
    scene_from_capture[:3, :3] = torch.from_numpy(scale * rotation)
    scene_from_capture[:3, 3] = torch.from_numpy(-scale * rotation @ middle)
    half = torch.from_numpy(np.abs(rotation @ (high - low)) / 2 * scale).float() + MARGIN
    vertices = ((points - middle) @ rotation.T * scale).astype(np.float32)
    return Shape(
        name=path.stem,
        path=path,
        aabb=torch.stack([-half, half]),
        scene_from_capture=scene_from_capture,
        vertices=vertices,
        faces=mesh.faces if len(mesh.faces) else None,
        normals=None if normals is None else (normals @ rotation.T).astype(np.float32),
        outline=cloud_outline(torch.from_numpy(vertices))
        if len(mesh.faces)
        else cloud_outline(every_nth(torch.from_numpy(vertices), OUTLINED), trim=STRAYS),
        notes=file.notes,
    )


def scene_rotation(path: Path) -> Float[np.ndarray, "3 3"]:
    """The rotation that makes the file's up, as far as its format tells, the scene frame's +z."""
    return np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) if path.suffix.lower() in Y_UP else np.eye(3)


def is_shape_file(path: Path) -> bool:
    """By the ending; of tables by their first lines, too."""
    return path.suffix.lower() in MESH_SUFFIXES or is_cloud_file(path)


@dataclass
class ShapeFile:
    """mesh: in the file's own frame, float64; without faces, a cloud. normals: of a cloud that has them."""

    mesh: Mesh
    normals: Float[np.ndarray, "V 3"] | None = None
    notes: list[str] = field(default_factory=list)


def read_shape(path: Path) -> ShapeFile:
    """What `load_shape` reads. A closed mesh that is inside out is turned, which a note says. Raises as it does."""
    if path.suffix.lower() in CLOUD_SUFFIXES:
        return _of_cloud(path)
    parts = load_parts(path)
    if path.suffix.lower() == ".ply" and not any(len(getattr(part, "faces", ())) for part in parts):
        return _of_cloud(path)
    mesh = _joined(path, parts)
    if len(mesh.vertices) == 0:
        raise UserError(f"{path}: holds no points; export it again.")
    bad = ~np.isfinite(mesh.vertices).all(1)
    if bad.any():
        raise UserError(f"{path}: {bad.sum()} of {len(bad)} points are not finite (NaN or Inf); remove them.")
    if is_inside_out(mesh):
        turned = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
        return ShapeFile(turned, notes=[f"{path.name} is inside out (its faces wind clockwise) and was turned."])
    return ShapeFile(mesh)


def load_parts(path: Path) -> list[Any]:
    """The meshes and clouds of a file as trimesh has them, all moved to where the file says they are, float64."""
    import trimesh

    try:
        loaded = trimesh.load(path, process=False)
        parts: list[Any] = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        for part in parts:
            count, faces = len(np.asarray(part.vertices, np.float64).reshape(-1, 3)), getattr(part, "faces", None)
            if faces is not None and len(faces) and not 0 <= faces.min() <= faces.max() < count:
                raise ValueError("its faces name vertices that it lacks")
    except Exception as error:  # trimesh raises what its many readers raise
        why = error if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a mesh or point cloud ({why}); is it complete?") from None
    if (offset := read_offset(path)).any():
        for part in parts:
            part.apply_translation(offset)
    return parts


def is_inside_out(mesh: Mesh) -> bool:
    """Whether a closed surface encloses less than nothing."""
    return len(mesh.faces) > 0 and mesh.volume < 0 and open_edges(mesh) == 0


def _joined(path: Path, parts: list[Any]) -> Mesh:
    """All parts as one, vertices at equal places joined."""
    vertices, faces, count = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0
    for part in parts:
        vertices.append(np.asarray(part.vertices, np.float64).reshape(-1, 3))
        own = np.asarray(getattr(part, "faces", np.empty((0, 3))), np.int64).reshape(-1, 3)
        if len(own) and own.max() >= len(vertices[-1]):
            raise UserError(f"{path}: a face names vertex {own.max()} of {len(vertices[-1])}; the file is damaged.")
        faces.append(own + count)
        count += len(vertices[-1])
    mesh = Mesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int32))
    return merge_vertices(mesh) if len(mesh.faces) else mesh


def _of_cloud(path: Path) -> ShapeFile:
    cloud = read_cloud(path)
    return ShapeFile(Mesh(cloud.points, np.empty((0, 3), np.int32)), cloud.normals, cloud.notes)
