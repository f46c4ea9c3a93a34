"""Measures a run's surface, or any mesh file, against a true one, says by which protocol, and draws the error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import VOLUME_SAMPLES, Visible, compare, require_surface, seen_by
from neural3d.geometry.solid import Solid
from neural3d.run import Run, write_json
from neural3d.scene import Scene
from neural3d.shapes.shape import Shape, load_shape

VIEWS = 2  # training views that must see true surface for it to count
ALIKE = 3.0  # factor between the diagonals of result and truth from which their units are doubted


def evaluate_mesh(
    run: Run, truth: str | Path, *, resolution: int = 256, samples: int = 100_000, seed: int = 0, picture: bool = True
) -> dict[str, Any]:
    """Extracts a run's mesh and compares it with the truth; writes RUN/eval_mesh.json and returns what it wrote.

    truth: a mesh file in the frame and units of the capture, or of the shape that the run was fitted to.
    resolution: cells along the longest side of the extraction. For the rest, and what is measured, see
    `geometry.mesh_metrics.compare`. Of runs on photos, only true surface counts as missing that at least two training
    views see: it is in their pictures and the truth itself hides it from none of the two.
    picture: result and truth coloured by their distances, as RUN/eval/mesh_error.png.
    Raises UserError where the truth is no mesh or lies elsewhere, or where the run holds no surface.
    """
    target = load_truth(truth)
    scene = run.scene
    truth_from_scene = target.scene_from_capture @ torch.linalg.inv(scene.scene_from_capture)
    result = run.method.mesh(resolution).transformed(truth_from_scene)
    visible = _seen_by_training(scene, target, truth_from_scene) if isinstance(scene, Scene) else None
    report = {
        "method": run.config.method,
        "checkpoint": {"step": run.step},
        **_measure(result, target, samples, seed, visible),
    }
    report["protocol"]["resolution"] = resolution
    if picture:
        up = truth_from_scene[:3, 2].tolist()  # +z is up in the scene's frame
        _draw(run.directory / "eval" / "mesh_error.png", result, target, up=up, visible=visible)
    write_json(run.directory / "eval_mesh.json", report)
    return report


def compare_files(
    result: str | Path,
    truth: str | Path,
    *,
    picture: str | Path | None = None,
    samples: int = 100_000,
    seed: int = 0,
) -> dict[str, Any]:
    """The same of two mesh files that lie in one frame. picture: where to write it."""
    own, target = load_truth(result), load_truth(truth)
    truth_from_own = target.scene_from_capture @ torch.linalg.inv(own.scene_from_capture)
    moved = own.mesh.transformed(truth_from_own)
    report = _measure(moved, target, samples, seed, visible=None)
    if picture is not None:
        _draw(Path(picture), moved, target)
    return report


def load_truth(path: str | Path) -> Shape:
    """A mesh to measure against. Raises UserError where the file is missing, damaged, empty or a point cloud."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; expected a mesh.")
    shape = load_shape(Path(path))
    if shape.faces is None:
        raise UserError(f"{path}: has no faces; surfaces are compared, so give a triangle mesh and not a point cloud.")
    return shape


def _measure(result: Mesh, truth: Shape, samples: int, seed: int, visible: Visible | None) -> dict[str, Any]:
    """Protocol and results. The result is in the truth's scene frame, where coordinates are of order 1."""
    notes = _doubts(result, truth)
    results = compare(result, truth.mesh, samples=samples, seed=seed, visible=visible)
    results["diagonal"] /= float(torch.linalg.det(truth.scene_from_capture[:3, :3])) ** (1 / 3)
    counted = "all of the truth" if visible is None else f"true surface that at least {VIEWS} training views see"
    return {
        "protocol": {
            "truth": str(truth.path),
            "unit": "% of the diagonal of the truth's bounding box; normal consistency, F-score and IoU from 0 to 1",
            "distances": "exact, from area-weighted samples of one surface to the other surface",
            "samples": samples,
            "seed": seed,
            "hausdorff": "the largest of all samples' distances",
            "iou": f"by {VOLUME_SAMPLES} points spread evenly over the box around both",
            "completeness": counted,
        },
        "results": results,
        "notes": notes,
    }


def _draw(path: Path, result: Mesh, truth: Shape, **how: Any) -> None:
    from neural3d.render.images import save_png
    from neural3d.render.mesh_error import error_picture

    save_png(path, error_picture(result, truth.mesh, **how))


def _doubts(result: Mesh, truth: Shape) -> list[str]:
    """What a truth in another frame or unit looks like. Raises UserError where the boxes do not even touch."""
    require_surface(result, "result")
    boxes = np.array([[m.vertices.min(0), m.vertices.max(0)] for m in (result, truth.mesh)], np.float64)
    capture_from_truth = torch.linalg.inv(truth.scene_from_capture).numpy()
    in_file = np.sort(boxes @ capture_from_truth[:3, :3].T + capture_from_truth[:3, 3], axis=1)
    own, true = (" to ".join(f"({x:.4g}, {y:.4g}, {z:.4g})" for x, y, z in box) for box in in_file)
    where = f"the result's box is {own}, the truth's {true}"
    if np.any(boxes[:, 0].max(0) > boxes[:, 1].min(0)):
        raise UserError(
            f"{truth.path}: lies elsewhere: {where}; they do not overlap. Give the truth in the frame and units that "
            "`neural3d export` writes."
        )
    sizes = np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=1)
    ratio = sizes[0] / sizes[1]
    if not 1 / ALIKE < ratio < ALIKE:
        return [f"the result is {ratio:.3g} times as large as the truth: are they in the same units? {where}"]
    return []


def _seen_by_training(scene: Scene, truth: Shape, truth_from_scene: torch.Tensor) -> Visible:
    solid = Solid(truth.mesh)
    cameras = [camera.moved(truth_from_scene) for camera in scene.cameras("train")]
    return lambda points: seen_by(solid, cameras, points, VIEWS)
