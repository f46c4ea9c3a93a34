"""What a run that has learnt a category is for: shapes from clouds or pictures, shapes between two, new shapes.

Files come in and meshes go out in the frame and units that the files of the category share.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from neural3d.config import nearest
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.images.formats import is_photo
from neural3d.methods.category import CategoryMethod
from neural3d.run import Run
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import read_shape
from neural3d.shapes.shots import read_shot

LEAST = 16  # points without which there is nothing to go by
STRAY = 0.1  # share of the points that may lie outside the category's box


def reconstruct(run: Run, file: Path, *, resolution: int = 128, seed: int = 0) -> Mesh:
    """The surface of an unseen shape, from what the run's condition says: a cloud, which may be noisy and partial, or a
    mesh; a picture; or, in place of a file, the name of a class.

    Raises UserError where the run is of one scene or shape, learnt from something else than this, or the file holds too
    little or lies elsewhere.
    """
    method = category_method(run)
    return _finished(run, method.shape(_code(run, method, file, seed), resolution))


def between(run: Run, a: Path, b: Path, count: int, *, resolution: int = 128, seed: int = 0) -> list[Mesh]:
    """`count` shapes on the straight line between the latents of two, ends included. Raises as `reconstruct` does."""
    method = _linear_method(run)
    if count < 2:
        raise UserError(f"--count must be at least 2 (the two ends), not {count}.")
    first, last = (_code(run, method, file, seed) for file in (a, b))
    shares = torch.linspace(0, 1, count, device=first.device)
    return [_finished(run, method.shape(torch.lerp(first, last, share), resolution)) for share in shares]


def new_shapes(run: Run, count: int, *, resolution: int = 128, seed: int = 0) -> list[Mesh]:
    """Shapes drawn from what the category's latents are like. Raises UserError where the method has none."""
    method = _linear_method(run)
    codes = method.sample(count, _generator(method, seed))
    return [_finished(run, method.shape(code, resolution)) for code in codes]


def category_method(run: Run) -> CategoryMethod:
    if not isinstance(run.method, CategoryMethod):
        raise UserError(
            f"{run.directory}: {run.config.method} was fitted to one thing and knows no other; reconstruct needs a run "
            "on a folder of shapes (--method occupancy or deepsdf). For its own mesh: neural3d export."
        )
    return run.method


def _linear_method(run: Run) -> CategoryMethod:
    method = category_method(run)
    if not method.linear:
        raise UserError(
            f"{run.directory}: {run.config.method} keeps no latent per shape, so it has no shapes between two and no "
            "new ones; train the folder with --method deepsdf for these."
        )
    return method


def _generator(method: CategoryMethod, seed: int) -> torch.Generator:
    return torch.Generator(next(method.parameters()).device).manual_seed(seed)


def _code(run: Run, method: CategoryMethod, file: Path, seed: int) -> Tensor:
    generator = _generator(method, seed)
    if method.sees == "class":
        kinds = cast(ShapeSet, run.scene).kinds
        if str(file) not in kinds:
            raise nearest(str(file), kinds, "class", str(run.directory))
        return method.code_of(torch.tensor(kinds.index(str(file)), device=generator.device), generator)
    wanted = "a picture" if method.sees == "image" else "a point cloud or a mesh"
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected {wanted}.")
    if (method.sees == "image") != is_photo(file):
        raise UserError(
            f"{file}: {run.directory} learnt shapes from {method.sees}: give {wanted}, or train anew with "
            "another --set condition."
        )
    if method.sees == "image":
        return method.code_of(read_shot(file, method.config.side).to(generator.device), generator)
    seen = read_shape(file).mesh
    matrix = run.scene.scene_from_capture.numpy()
    points = seen.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    if len(points) < LEAST:
        raise UserError(f"{file}: holds {len(points)} points; a shape is told from {LEAST} at least, better hundreds.")
    low, high = run.scene.aabb.numpy()
    stray = float(np.mean(((points < low) | (points > high)).any(1)))
    if stray > STRAY:
        own, known = (_box_text(p, matrix) for p in (points, np.stack([low, high])))
        raise UserError(
            f"{file}: {stray:.0%} of its points lie outside the category: they fill {own}, the shapes of "
            f"{run.scene.path} {known}; bring the file into that frame and its units."
        )
    if len(seen.faces):
        return method.code_of_mesh(Mesh(points, seen.faces), generator)
    return method.code_of(torch.from_numpy(points.astype(np.float32)).to(generator.device), generator)


def _box_text(points: np.ndarray, matrix: np.ndarray) -> str:
    """The box of points of the scene frame, as text in the files' own frame."""
    corners = (points - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    low, high = corners.min(0), corners.max(0)
    return " to ".join("(" + ", ".join(f"{x:.4g}" for x in corner) + ")" for corner in (low, high))


def _finished(run: Run, mesh: Mesh) -> Mesh:
    return mesh.transformed(run.capture_from_scene)
