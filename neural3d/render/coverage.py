"""How much of what the photos show a mesh covers, at about the right depth: is there a surface, or was it fog?

A few training views are drawn by the method itself. Its depth D says where the pixel's point x lies, and other views
whether that is so: those whose own depth at x is x's agree, those that look through x contradict. A pixel counts where

    it shows the subject: the photo's alpha says so if there is any, else the picture's; and
    x lies in the box, or D is fog before which or in which the ray crosses the box:
    transparent, contradicted by more views than agree, or before the box and confirmed by none.

It is covered where D is no fog and the mesh, within a pixel, lies as deep as D within NEAR of the box's diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.rays import box_span
from neural3d.geometry.solid import Solid
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut

if TYPE_CHECKING:
    from neural3d.scene import View

VIEWS, SIDE = 12, 160  # views that are compared at most, and their longer side in pixels
NEAR = 0.03  # of the box's diagonal
GOOD = 0.75  # covered; below, something is wrong with the surface


@dataclass(frozen=True)
class Coverage:
    """Shares of the pixels that count in `views` views; they add up to 1, or are all 0 where no pixel counts.

    covered: mesh at the right depth. missing: no mesh at all. misplaced: at another depth, or in fog.
    """

    covered: float
    missing: float
    misplaced: float
    views: int

    @property
    def good(self) -> bool:
        return self.covered >= GOOD

    def __str__(self) -> str:
        said = f"covers {self.covered:.0%} of what the photos show"
        return said if self.good else f"{said} ({self.missing:.0%} missing, {self.misplaced:.0%} fog or misplaced)"


@dataclass
class _Drawn:
    """A view as the method draws it. t: distances to its points along its rays; shown: of the subject."""

    camera: Camera
    origins: Float[Tensor, "P 3"]
    directions: Float[Tensor, "P 3"]
    depth: Float[Tensor, "H W"]  # infinite where nothing is seen
    shown: Bool[Tensor, "P"]

    @property
    def t(self) -> Float[Tensor, "P"]:
        return self.depth.flatten() / (self.directions @ self.camera.forward.float())


def coverage(
    mesh: Mesh,
    render: Callable[[Camera], RenderOut],
    views: Sequence[View],
    box: Float[Tensor, "2 3"],
    progress: Progress = silent,
) -> Coverage:
    """mesh, views, box: in the frame of `render`'s cameras; the box is what the mesh was extracted from."""
    chosen = views[:: math.ceil(len(views) / VIEWS)]
    drawn = []
    for view in chosen:
        drawn.append(_drawn(view, render))
        progress("comparing with the photos", len(drawn), len(chosen))
    solid, near = Solid(mesh), NEAR * float((box[1] - box[0]).norm())
    counts = np.zeros(3)  # covered, missing, misplaced
    for one in drawn:
        counts += _compared(one, [other for other in drawn if other is not one], solid, box, near)
    covered, missing, misplaced = (counts / max(1, counts.sum())).tolist()
    return Coverage(covered, missing, misplaced, len(drawn))


def _drawn(view: View, render: Callable[[Camera], RenderOut]) -> _Drawn:
    shrink = max(1.0, max(view.camera.width, view.camera.height) / SIDE)
    view = view.resized(round(view.camera.width / shrink), round(view.camera.height / shrink))
    out = render(view.camera)
    seen = out.alpha[..., 0].cpu() > 0.5
    shown = seen.flatten()
    if view.image_path.is_file():
        image, mask = view.image(), view.mask()
        if image.shape[2] == 4:
            shown = torch.from_numpy(image[..., 3] > 127).flatten()
        if mask is not None:
            shown = shown & torch.from_numpy(mask == 255).flatten()
    origins, directions = (x.reshape(-1, 3) for x in view.camera.rays())
    return _Drawn(view.camera, origins, directions, torch.where(seen, out.depth[..., 0].cpu(), math.inf), shown)


def _compared(
    view: _Drawn, others: list[_Drawn], solid: Solid, box: Float[Tensor, "2 3"], near: float
) -> Float[np.ndarray, "3"]:
    """How many pixels are covered, missing and misplaced."""
    solid_seen = view.t.isfinite()
    x = view.origins + torch.where(solid_seen, view.t, 0)[:, None] * view.directions
    agree, through = torch.zeros(2, len(x))
    for other in others:
        xy, z = other.camera.project(x)
        column, row = xy.nan_to_num(-1).clamp(-1, 1e6).floor().long().unbind(-1)
        height, width = other.depth.shape
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        behind = other.depth[row.clamp(0, height - 1), column.clamp(0, width - 1)] - z
        agree += inside & (behind.abs() <= near)
        through += inside & (behind > near)
    enter, leave = box_span(view.origins, view.directions, box)
    fog = ~solid_seen | (through > agree) | ((view.t < enter) & (agree == 0))
    in_box = solid_seen & (view.t >= enter - near) & (view.t <= leave + near) & (leave > enter)
    counts = view.shown & (in_box | (fog & (leave > enter) & ((view.t < leave) | ~solid_seen)))

    t, _ = solid.first_hit(view.origins.numpy(), view.directions.numpy())
    mesh = torch.from_numpy(t).view(view.depth.shape)
    padded = torch.nn.functional.pad(mesh, (1, 1, 1, 1), value=math.inf)
    around = padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2).flatten(0, 1)  # a pixel and its eight neighbours
    deep = ((around - view.t[:, None]).abs() <= near).any(1)
    covered = counts & ~fog & deep
    missing = counts & ~covered & ~around.isfinite().any(1)
    misplaced = counts & ~covered & ~missing
    return np.array([int(part.sum()) for part in (covered, missing, misplaced)])
