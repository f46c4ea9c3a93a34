"""A ball as a subject of each kind, and what its silhouette must be."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from neural3d.viewer.open import Subject
from neural3d.viewer.solids import Solid
from toy import ball_capture

from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import cloud_outline
from neural3d.loading import load_scene

RADIUS = 0.6


def ball_mesh() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=RADIUS)


def ball_field(folder: Path, seconds: float = 0.0, size: int = 48) -> Subject:
    """A field run's twin on the toy capture: an exact ball, `seconds` slow for each picture."""
    scene = load_scene(ball_capture(folder, train=4, test=2, size=size))
    solid = Solid.of_meshes([ball_mesh()])

    def render(camera, background):
        time.sleep(seconds)
        return solid.render(camera, torch.ones(3) if background is None else background)

    return Subject(
        kind="field",
        name="ball",
        path=folder,
        aabb=torch.tensor([[-RADIUS] * 3, [RADIUS] * 3]),
        outline=cloud_outline(torch.from_numpy(ball_mesh().vertices)),
        capture_from_scene=torch.linalg.inv(scene.scene_from_capture),
        scene=scene,
        render=render,
        facts=[("method", "exact")],
    )


def silhouette(camera: Camera, radius: float = RADIUS, above: float = -np.inf) -> np.ndarray:
    """Pixels whose rays meet the ball about the origin first at a height of `above` or more."""
    origins, directions = camera.rays()
    along = (origins * directions).sum(-1)
    square = along**2 - (origins**2).sum(-1) + radius**2
    height = (origins + (-along - square.clamp(min=0).sqrt())[..., None] * directions)[..., 2]
    return ((square > 0) & (along < 0) & (height >= above)).numpy()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))
