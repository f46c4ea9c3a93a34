"""The subject as Open3D's own geometry, for its renderer: meshes, points, splats, and what is drawn about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import open3d as o3d
from neural3d.viewer.items import Lines
from neural3d.viewer.open import Subject
from neural3d.viewer.solids import POINT_COLOR, Solid, tensor
from open3d.visualization import rendering

MAX_DEGREE = 2  # of the harmonics that Open3D's splat shader evaluates
MAX_TILES = 4096  # tiles that a splat may cover before Open3D leaves it out


def can_draw(subject: Subject) -> bool:
    """Whether Open3D's renderer has anything for this subject; splats it knows since version 0.20."""
    if subject.splats is not None:
        return hasattr(rendering.MaterialRecord, "gaussian_splat_sh_degree")
    return subject.meshes is not None or subject.points is not None


def add_subject(scene: rendering.Open3DScene, subject: Subject) -> None:
    """Adds what Open3D can draw of a subject; fields are nothing it could."""
    if subject.splats is not None:
        material = _material("gaussianSplat")
        material.gaussian_splat_sh_degree = min(MAX_DEGREE, subject.splats.sh_degree)
        material.gaussian_splat_max_tiles_per_splat = MAX_TILES
        material.gaussian_splat_antialias = subject.antialiased
        scene.add_geometry("splats", splat_cloud(subject), material)
    if subject.meshes is not None:
        add_solid(scene, "mesh", Solid.of_meshes(subject.meshes))
    if subject.points is not None:
        points, colors = subject.points
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.astype(np.float64)))
        cloud.colors = o3d.utility.Vector3dVector(
            np.tile(POINT_COLOR, (len(points), 1)) if colors is None else colors / 255
        )
        material = _material("defaultUnlit")
        material.point_size = 3.0
        scene.add_geometry("points", cloud, material)


def splat_cloud(subject: Subject) -> Any:
    """Splats as Open3D keeps them: linear scales, opacity as logits, raw harmonics (N, K − 1, 3), rotations wxyz."""
    splats = subject.splats
    assert splats is not None
    values = {
        "positions": splats.means,
        "scale": splats.log_scales.exp(),
        "rot": splats.quats / splats.quats.norm(dim=1, keepdim=True),
        "opacity": splats.opacity_logits[:, None],
        "f_dc": splats.sh_dc,
        "f_rest": splats.sh_rest,
    }
    cloud = o3d.t.geometry.PointCloud()
    for name, value in values.items():
        if value.numel():
            cloud.point[name] = tensor(np.ascontiguousarray(value.detach().cpu().numpy()))
    return cloud


def add_solid(scene: rendering.Open3DScene, name: str, solid: Solid) -> None:
    """One geometry for each texture, and one for all faces without."""
    for texture in np.unique(solid.texture):
        faces = solid.faces[solid.texture == texture]
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(solid.vertices.astype(np.float64)), o3d.utility.Vector3iVector(faces)
        )
        mesh.vertex_colors = o3d.utility.Vector3dVector(solid.color.astype(np.float64))
        material = _material("defaultUnlit")
        if texture >= 0:
            mesh.triangle_uvs = o3d.utility.Vector2dVector(solid.uv[faces.reshape(-1)].astype(np.float64))
            material.albedo_img = image(solid.picture(texture))
        elif solid.lit.max() > 0.5:
            mesh.vertex_normals = o3d.utility.Vector3dVector(solid.normals.astype(np.float64))
            material.shader = "defaultLit"
        scene.add_geometry(f"{name} {texture}", mesh, material)


def add_lines(scene: rendering.Open3DScene, name: str, lines: Lines, width: float) -> None:
    """Replaces the lines of that name."""
    if scene.has_geometry(name):
        scene.remove_geometry(name)
    if not len(lines.ends):
        return
    pairs = np.arange(2 * len(lines.ends)).reshape(-1, 2)
    shown = o3d.geometry.LineSet(
        o3d.utility.Vector3dVector(lines.ends.reshape(-1, 3)), o3d.utility.Vector2iVector(pairs)
    )
    shown.colors = o3d.utility.Vector3dVector(lines.colors / 255)
    material = _material("unlitLine")
    material.line_width = width
    scene.add_geometry(name, shown, material)


def image(pixels: Any) -> o3d.geometry.Image:
    """Open3D's; its type stubs do not know that arrays will do."""
    array: Any = np.ascontiguousarray(pixels)
    return o3d.geometry.Image(array)


def _material(shader: str) -> rendering.MaterialRecord:
    material = rendering.MaterialRecord()
    material.shader = shader
    return material
