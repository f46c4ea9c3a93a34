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
from neural3d.errors import UserError, command_line
from neural3d.examples.examples import Examples
from neural3d.geometry.mesh import Mesh
from neural3d.images.formats import is_photo
from neural3d.methods.abilities import Conditional, Generative, Guiding, Reconstructive, Sampling
from neural3d.run import Run
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import read_shape
from neural3d.shapes.shots import read_shot

LEAST = 16  # points without which there is nothing to go by
STRAY = 0.1  # share of the points that may lie outside the category's box


def reconstruct(run: Run, file: Path, *, resolution: int = 128, seed: int = 0, prior: Run | None = None) -> Mesh:
    """The surface of an unseen shape, from what the run's condition says: a cloud, which may be noisy and partial, or a
    mesh; a picture; or, in place of a file, the name of a class.

    prior: a run that has learnt how likely the latents of this run are; what is seen of a shape says the rest.
    Raises UserError where the run cannot, learnt from something else than this, or the file holds too little or lies
    elsewhere.
    """
    method = run.able(Reconstructive)
    if prior is not None:
        energy, generator = _of_latents(run, prior).able(Guiding).energy, _generator(run, seed)
        run.able(Generative).energy = lambda z: energy(z, generator)
    return _mesh(run, method, _code(run, method, file, seed), resolution)


def between(run: Run, a: Path, b: Path, count: int, *, resolution: int = 128, seed: int = 0) -> list[Mesh]:
    """`count` shapes on the straight line between the latents of two, ends included. Raises as `reconstruct` does."""
    method = run.able(Generative)
    if count < 2:
        raise UserError(f"--count must be at least 2 (the two ends), not {count}.")
    first, last = (_code(run, run.able(Reconstructive), file, seed) for file in (a, b))
    shares = torch.linspace(0, 1, count, device=first.device)
    return [_mesh(run, method, torch.lerp(first, last, share), resolution) for share in shares]


def new_shapes(
    run: Run, count: int, *, resolution: int = 128, seed: int = 0, prior: Run | None = None, temperature: float = 1.0
) -> list[Mesh]:
    """Shapes drawn from what the category's latents are like, by a normal distribution or a prior that has learnt them.

    Raises UserError where the run cannot, or the prior has learnt something else.
    """
    method, generator = run.able(Generative), _generator(run, seed)
    if prior is None:
        codes = method.sample(count, generator)
    else:
        with torch.no_grad():
            codes = _of_latents(run, prior).able(Sampling).draw(count, generator, temperature)
    return [_mesh(run, method, code, resolution) for code in codes]


def _of_latents(run: Run, prior: Run) -> Run:
    """The prior, if it is one of this run's latents."""
    if not isinstance(prior.data, Examples) or prior.data.path.resolve() != run.directory.resolve():
        raise UserError(
            f"{prior.directory}: has learnt from {prior.data.path}, not from the latents of {run.directory}; train one "
            f"of these: {command_line('train', run.directory, '--method', 'realnvp')}."
        )
    return prior


def _generator(run: Run, seed: int) -> torch.Generator:
    return torch.Generator(next(run.method.parameters()).device).manual_seed(seed)


def _code(run: Run, method: Reconstructive, file: Path, seed: int) -> Tensor:
    generator = _generator(run, seed)
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
        return method.code_of(read_shot(file, run.method.config.side).to(generator.device), generator)
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


def _mesh(run: Run, method: Conditional, code: Tensor, resolution: int) -> Mesh:
    """What a code means, in the files' own frame."""
    return method.subject(code).mesh(resolution).transformed(run.capture_from_scene)
