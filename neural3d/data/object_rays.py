"""Batches for methods that learn many objects from pictures alone: rays that show one, and what its silhouettes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool3d, normalize

from neural3d.errors import UserError
from neural3d.geometry.rays import box_span
from neural3d.shapes.category import EVERYWHERE, SURFACE
from neural3d.shapes.shots import Shots

CELLS = 24  # along the box's sides, with a random point in each: of these, those within the silhouettes are found
LOOKS, MARGIN = 48, 2  # along a ray, at these cells; so many before the first are added, to come from outside
NEAR = (0.05, 0.15)  # standard deviations, in scene units, of offsets from these at which the field is learnt


def within_silhouettes(shots: Shots, shape: int, points: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
    """Which points all pictures that frame them, of which there are some, show on the subject: the visual hull of
    Laurentini ("The visual hull concept for silhouette-based image understanding", TPAMI 1994).
    """
    pose, lens = shots.world_from_camera[shape], shots.lens[shape]
    local = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]  # (V, N, 3)
    column, row = (local[..., :2] / local[..., 2:] * lens[:, None, :2] + lens[:, None, 2:]).floor().long().unbind(-1)
    alpha = shots.pixels[shape, ..., 3]
    views, height, width = alpha.shape
    framed = (local[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    view = torch.arange(views, device=alpha.device)[:, None]
    subject = alpha[view, row.clamp(0, height - 1), column.clamp(0, width - 1)] > 127
    return (subject | ~framed).all(0) & framed.any(0)


@dataclass
class ObjectBatch:
    """S objects: one picture of each, R rays through it in others, and Q points with what all silhouettes say.

    The object's surface is on each ray between near and far, as far as the silhouettes tell.
    """

    shape: Int[Tensor, "S"]  # index into the training shapes
    picture: Float[Tensor, "S 3 H W"]  # sRGB, on white
    origins: Float[Tensor, "S R 3"]
    directions: Float[Tensor, "S R 3"]  # unit length
    near: Float[Tensor, "S R"]
    far: Float[Tensor, "S R"]
    rgb: Float[Tensor, "S R 3"]
    points: Float[Tensor, "S Q 3"]
    within: Bool[Tensor, "S Q"]  # the visual hull

    def __len__(self) -> int:
        return self.rgb[..., 0].numel()


class ObjectSource:
    """Draws objects without repetition within a batch. rays, points: of each.

    What is drawn from is made once from the pictures alone, so that a resumed run sees the same.
    names: of the objects, for errors. aabb: holds them all, in the scene frame.
    """

    unit = "rays"

    def __init__(
        self, shots: Shots, names: list[str], aabb: Float[Tensor, "2 3"], device: torch.device, rays: int, points: int
    ):
        self.shots, self.rays, self.per_object, self.aabb = shots.to(device), rays, points, aabb.to(device)
        subject = self.shots.pixels[..., 3].flatten(1) > 127
        counts = subject.sum(1)
        self.subject = subject.nonzero()[:, 1].int()  # pixels that show the object, those of the first object first
        self.first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        sets = [self._survey(i, name) for i, name in enumerate(names)]
        self.points, self.within, self.room = (torch.stack(a) for a in zip(*sets))

    def _survey(self, i: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Points in the box, two thirds of them in and around the visual hull; whether they are within; (CELLS³,) the
        cells in or beside which there is some of it.
        """
        aabb = self.aabb
        random = torch.Generator(aabb.device).manual_seed(i)
        ticks = torch.arange(CELLS, device=aabb.device)
        cells = torch.cartesian_prod(ticks, ticks, ticks)
        u = (cells + torch.rand(cells.shape, generator=random, device=aabb.device)) / CELLS
        candidates = aabb[0] + (aabb[1] - aabb[0]) * u
        within = within_silhouettes(self.shots, i, candidates)
        inside = candidates[within]
        if len(inside) == 0:
            raise UserError(
                f"{name}: no place in the box is on the subject in all of its pictures; are its cameras in one frame "
                "with the other objects' and with the box, and does alpha cut it out?"
            )
        some = torch.randint(len(inside), (SURFACE,), generator=random, device=aabb.device)
        offset = torch.randn(SURFACE, 3, generator=random, device=aabb.device)
        spread = torch.from_numpy(np.resize(NEAR, (SURFACE, 1)).astype(np.float32)).to(aabb.device)
        near = (inside[some] + spread * offset).clamp(-1, 1)
        spread_out = torch.randperm(len(candidates), generator=random, device=aabb.device)[:EVERYWHERE]
        points = torch.cat([near, candidates[spread_out]])
        room = max_pool3d(within.float().view(1, CELLS, CELLS, CELLS), 3, stride=1, padding=1).view(-1) > 0
        return points, within_silhouettes(self.shots, i, points), room

    def draw(self, count: int, generator: torch.Generator) -> ObjectBatch:
        """As many whole objects as `count` rays amount to, or all there are."""
        device = self.points.device
        shape = torch.randperm(len(self.points), generator=generator, device=device)[: max(1, count // self.rays)]
        row = shape[:, None]
        picture, _ = self.shots.draw(shape, generator)
        u = torch.rand(len(shape), self.rays, generator=generator, device=device, dtype=torch.float64)
        first, last = self.first[row], self.first[row + 1]
        pixel = self.subject[first + (u * (last - first)).long()].long()
        _, _, height, width, _ = self.shots.pixels.shape
        view, within = pixel // (height * width), pixel % (height * width)
        y, x = within // width, within % width
        lens, pose = self.shots.lens[row, view], self.shots.world_from_camera[row, view]
        local = torch.cat(
            [(torch.stack([x, y], -1) + 0.5 - lens[..., 2:]) / lens[..., :2], torch.ones_like(u)[..., None]], -1
        )
        directions = normalize((pose[..., :3, :3] @ local.float()[..., None])[..., 0], dim=-1)
        origins, rgb = pose[..., :3, 3], self.shots.pixels[row, view, y, x, :3] * (1 / 255)
        near, far = self._span(shape, origins, directions)
        k = torch.randint(self.points.shape[1], (len(shape), self.per_object), generator=generator, device=device)
        points, within = self.points[row, k], self.within[row, k]
        return ObjectBatch(shape, picture, origins, directions, near, far, rgb, points, within)

    def _span(
        self, shape: Int[Tensor, "S"], origins: Float[Tensor, "S R 3"], directions: Float[Tensor, "S R 3"]
    ) -> tuple[Float[Tensor, "S R"], Float[Tensor, "S R"]]:
        """From MARGIN before the first cell with room for the object to the end of the last; the box where none has."""
        low, high = self.aabb
        box = box_span(origins.reshape(-1, 3), directions.reshape(-1, 3), self.aabb)
        near, far = (t.view(directions.shape[:2]) for t in box)
        step = (far - near) / LOOKS
        k = torch.arange(LOOKS, device=step.device)
        t = near[..., None] + step[..., None] * (k + 0.5)
        x = origins[..., None, :] + t[..., None] * directions[..., None, :]
        i, j, k = ((x - low) / (high - low) * CELLS).long().clamp_(0, CELLS - 1).unbind(-1)
        room = self.room[shape[:, None, None], (i * CELLS + j) * CELLS + k]
        first, last = room.int().argmax(-1), LOOKS - 1 - room.flip(-1).int().argmax(-1)  # all, where there is none
        return near + step * (first - MARGIN).clamp_min(0), near + step * (last + 1)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass
