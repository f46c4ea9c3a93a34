"""Whatever can be looked at — a run, a capture, a mesh, a cloud, splats — opened into one frame.

The subject's frame is a scene frame: +z is up, what matters lies in [-1, 1]³ or about it. `capture_from_scene` leads to
the frame of the capture or of the file, where exports and crop boxes live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files.clouds import is_cloud_file, read_cloud
from neural3d.files.splats import is_splat_file
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import cloud_outline, outline_of
from neural3d.images.srgb import linear_to_srgb
from neural3d.loading import load_data, resolve
from neural3d.methods.abilities import Renderable, Splatted
from neural3d.render import RenderOut
from neural3d.render.splat_view import open_splats
from neural3d.run import Run, load, resolve_device
from neural3d.scene import Scene
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import HALF_SIDE, STRAYS, is_shape_file, load_parts, scene_rotation

if TYPE_CHECKING:
    from neural3d.viewer.live import Live
    from trimesh import Trimesh

Render = Callable[[Camera, Tensor | None], RenderOut]


@dataclass
class Subject:
    """What is looked at. All geometry is in the subject's frame (see the module's docstring).

    scene: cameras and photos, of runs on photos, captures and splat files. render: our own picture of it, from a camera
    in the subject's frame on a background (3,) sRGB, None: the subject's own. splats: of splat runs and files.
    meshes: the parts of a mesh file, each with its vertex colours or texture. points: positions and colours (or None)
    of a cloud, or of a capture's sparse points. aabb: what matters. outline: what first views frame. facts: (label,
    text) pairs worth showing.
    """

    kind: Literal["field", "splats", "mesh", "points", "scene"]
    name: str
    path: Path
    aabb: Float[Tensor, "2 3"]
    outline: Float[Tensor, "K 3"]
    capture_from_scene: Float[Tensor, "4 4"]
    scene: Scene | None = None
    render: Render | None = None
    splats: Gaussians | None = None
    meshes: list[Trimesh] | None = None
    points: tuple[Float[np.ndarray, "N 3"], UInt8[np.ndarray, "N 3"] | None] | None = None
    antialiased: bool = False  # of splats: made for the 2D filter of Mip-Splatting
    live: Live | None = None  # of a run that changes while it is looked at
    up: Float[Tensor, "3"] = field(default_factory=lambda: torch.tensor([0.0, 0.0, 1.0]))
    notes: list[str] = field(default_factory=list)  # what had to be assumed
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def middle(self) -> Float[Tensor, "3"]:
        """Of the outline."""
        return (self.outline.amin(0) + self.outline.amax(0)) / 2


def open_subject(path: str | Path, device: str = "auto", up: str | None = None) -> Subject:
    """A run folder, a file of a mesh, a point cloud or splats, a capture, or a ready scene's name.

    up: "x", "-x" … "-z", what is up in a file of splats; None: what it says.
    Raises UserError where it is none of these, damaged or empty, or a run on a whole category.
    """
    target = Path(path)
    if (target / "config.json").is_file():
        return run_subject(load(target, device))
    target = resolve(path)
    if is_splat_file(target):
        return _open_splat_file(target, device, up)
    if is_shape_file(target):
        return _open_cloud(target) if is_cloud_file(target) else _open_mesh(target)
    loaded = load_data(path)
    if isinstance(loaded, ShapeSet):
        raise UserError(f"{path} holds many meshes; view one of its files.")
    if isinstance(loaded, Scene):
        return _open_scene(loaded)
    return open_subject(loaded.path)  # a ready scene's TOML that names a mesh


def run_subject(run: Run) -> Subject:
    """A run as a subject. Raises UserError where it cannot be rendered."""
    render = run.able(Renderable).render
    splats, antialiased = run.method.gaussians() if isinstance(run.method, Splatted) else (None, False)
    facts = [("method", run.config.method), ("step", f"{run.step:,}")]
    if splats is not None:
        facts.append(("splats", f"{len(splats):,}"))
    return Subject(
        kind="field" if splats is None else "splats",
        name=run.directory.resolve().name,
        path=run.directory,
        aabb=run.scene.aabb,
        outline=outline_of(run.scene),
        capture_from_scene=run.capture_from_scene,
        scene=run.scene if isinstance(run.scene, Scene) else None,
        render=render,
        splats=splats,
        antialiased=antialiased,
        facts=facts + (_photos(run.scene) if isinstance(run.scene, Scene) else []),
    )


def _open_scene(scene: Scene) -> Subject:
    count = 0 if scene.points is None else len(scene.points[0])
    return Subject(
        kind="scene",
        name=scene.name,
        path=scene.path,
        aabb=scene.aabb,
        outline=outline_of(scene),
        capture_from_scene=torch.linalg.inv(scene.scene_from_capture),
        scene=scene,
        points=scene.points if count else None,
        facts=[("reader", scene.reader), *_photos(scene), *([("points", f"{count:,}")] if count else [])],
    )


def _photos(scene: Scene) -> list[tuple[str, str]]:
    camera = scene.views[0].camera
    return [("photos", f"{len(scene.views)}, {camera.width} × {camera.height}")]


def _open_splat_file(path: Path, device: str, up: str | None) -> Subject:
    view = open_splats(path, resolve_device(device), up)
    return Subject(
        kind="splats",
        name=path.name,
        path=path,
        aabb=view.scene.aabb,
        outline=outline_of(view.scene),
        capture_from_scene=torch.linalg.inv(view.scene.scene_from_capture),
        render=view.render,
        splats=view.gaussians,
        antialiased=view.antialiased,
        facts=[("splats", f"{len(view.gaussians):,}"), ("harmonics", f"degree {view.gaussians.sh_degree}")],
        notes=view.scene.notes,
    )


def _open_mesh(path: Path) -> Subject:
    """All meshes of a file, moved; of a file without faces, its points."""
    import trimesh

    meshes = [part for part in load_parts(path) if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    corners = [np.asarray(mesh.vertices, np.float64)[mesh.faces].reshape(-1, 3) for mesh in meshes]
    if not meshes:
        if path.suffix.lower() == ".ply":
            return _open_cloud(path)
        raise UserError(f"{path}: holds no faces; is it the right file?")
    scene_from_file, aabb = _fitted(path, np.concatenate(corners))
    for mesh in meshes:
        mesh.apply_transform(scene_from_file)
        look: Any = mesh.visual
        if path.suffix.lower() in (".glb", ".gltf") and look.kind == "vertex":
            look.vertex_colors = _srgb_from_linear(look.vertex_colors)  # glTF's are linear
    faces = sum(len(m.faces) for m in meshes)
    textures = sum(isinstance(m.visual, trimesh.visual.TextureVisuals) for m in meshes)
    facts = [("vertices", f"{sum(len(m.vertices) for m in meshes):,}"), ("faces", f"{faces:,}")]
    return Subject(
        kind="mesh",
        name=path.name,
        path=path,
        aabb=aabb,
        capture_from_scene=torch.from_numpy(np.linalg.inv(scene_from_file)),
        outline=cloud_outline(torch.from_numpy(np.concatenate([mesh.vertices for mesh in meshes]))),
        meshes=meshes,
        facts=facts + ([("textures", str(textures))] if textures else []),
    )


def _srgb_from_linear(colors: UInt8[np.ndarray, "V 4"]) -> UInt8[np.ndarray, "V 4"]:
    """The first three channels; alpha is linear everywhere."""
    table = linear_to_srgb(np.arange(256) / 255)
    rgb = np.round(255 * table).astype(np.uint8)[np.asarray(colors)[:, :3]]
    return np.concatenate([rgb, np.asarray(colors)[:, 3:]], 1)


def _open_cloud(path: Path) -> Subject:
    cloud = read_cloud(path)
    points, colors = cloud.points, cloud.colors
    scene_from_file, aabb = _fitted(path, points)
    points = (points @ scene_from_file[:3, :3].T + scene_from_file[:3, 3]).astype(np.float32)
    return Subject(
        kind="points",
        name=path.name,
        path=path,
        aabb=aabb,
        capture_from_scene=torch.from_numpy(np.linalg.inv(scene_from_file)),
        outline=cloud_outline(torch.from_numpy(points), trim=STRAYS),
        points=(points, None if colors is None else np.round(colors * 255).astype(np.uint8)),
        facts=[("points", f"{len(points):,}")],
        notes=cloud.notes,
    )


def _fitted(path: Path, points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "4 4"], Float[Tensor, "2 3"]]:
    """scene_from_file that turns the file's up to +z and fits the points into [-0.9, 0.9]³, and their box there."""
    if not len(points) or not np.isfinite(points).all():
        raise UserError(f"{path}: holds {'no points' if not len(points) else 'NaN or Inf'}; export it again.")
    low, high = points.min(0), points.max(0)
    scale = 2 * HALF_SIDE / (float((high - low).max()) or 1.0)  # all at one place: any scale will do
    matrix = np.eye(4)
    matrix[:3, :3] = scale * scene_rotation(path)
    matrix[:3, 3] = -matrix[:3, :3] @ ((low + high) / 2)
    half = np.abs(matrix[:3, :3] @ (high - low)) / 2
    return matrix, torch.from_numpy(np.stack([-half, half])).float()
