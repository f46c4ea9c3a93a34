"""A scene, shape, set of shapes or of examples as JSON (RUN/scene.json): enough to render without the photos."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.plain import from_plain, read_json, to_plain
from neural3d.scene.scene import Fitted, Scene
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import Shape

# What stays in files of its own.
LEFT_OUT = ("points", "vertices", "faces", "normals", "meshes", "values", "labels", "measures")
LARGEST = 2**20  # pixels along a picture's side


def write_scene(path: Path, scene: Fitted) -> None:
    """Everything of a scene but its pixels and points, of a shape but its surface, of examples but their values."""
    write_whole(path, (json.dumps(to_plain(scene, LEFT_OUT), indent=1) + "\n").encode())


def read_scene(path: Path) -> Fitted:
    """What `write_scene` wrote; its photos are read only where asked for.

    Raises UserError where it is missing or damaged, or says what cannot be.
    """
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the run is incomplete.") from None
    keys = value if isinstance(value, dict) else {}
    if "counts" in keys:
        examples: Examples = from_plain(Examples, value, str(path))
        if not (1 <= len(examples.shape) <= 3 and all(1 <= n <= LARGEST for n in examples.shape)):
            raise UserError(f"{path}: shape must be that of one example, of up to three sizes.")
        return examples
    kind = Scene if "views" in keys else ShapeSet if "members" in keys else Shape
    scene = from_plain(kind, value, str(path))
    scene = dataclasses.replace(scene, aabb=scene.aabb.float())
    if not (scene.aabb[0] < scene.aabb[1]).all():
        raise UserError(f"{path}: aabb must be a box of two corners, the lower one first.")
    if torch.linalg.matrix_rank(scene.scene_from_capture) < 4:
        raise UserError(f"{path}: scene_from_capture must be a matrix that can be inverted.")
    if isinstance(scene, Scene):
        _check_views(scene, path)
    return scene


def _check_views(scene: Scene, path: Path) -> None:
    for view in scene.views:
        for camera in filter(None, (view.camera, view.lens)):
            if not (1 <= camera.width <= LARGEST and 1 <= camera.height <= LARGEST):
                raise UserError(f"{path}: view '{view.name}' has {camera.width} × {camera.height} pixels.")
            if torch.linalg.matrix_rank(camera.world_from_camera) < 4:
                raise UserError(f"{path}: the pose of view '{view.name}' cannot be inverted.")
    for split, indices in scene.split.items():
        if not all(0 <= i < len(scene.views) for i in indices):
            raise UserError(f"{path}: split '{split}' names views that are not there.")
    if not scene.split.get("train"):
        raise UserError(f"{path}: no training views.")
    if not 0 <= scene.near < scene.far:
        raise UserError(f"{path}: near and far must be distances, the nearer one first.")
