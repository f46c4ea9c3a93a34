"""Batches for methods that learn many objects from pictures alone: rays that show one, and what its silhouettes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from neural3d.errors import UserError
from neural3d.shapes.category import EVERYWHERE, SURFACE
from neural3d.shapes.shots import Shots

CANDIDATES = 1 << 14  # points of the box of which those within the silhouettes are found
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
    """S objects: one picture of each, R rays through it in others, and Q points with what all silhouettes say."""

    shape: Int[Tensor, "S"]  # index into the training shapes
    picture: Float[Tensor, "S 3 H W"]  # sRGB, on white
    origins: Float[Tensor, "S R 3"]
    directions: Float[Tensor, "S R 3"]  # unit length
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
        self.shots, self.rays, self.per_object = shots.to(device), rays, points
        subject = self.shots.pixels[..., 3].flatten(1) > 127
        counts = subject.sum(1)
        self.subject = subject.nonzero()[:, 1].int()  # pixels that show the object, those of the first object first
        self.first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        sets = [self._survey(i, name, aabb.to(device)) for i, name in enumerate(names)]
        self.points, self.within = (torch.stack(a) for a in zip(*sets))

    def _survey(self, i: int, name: str, aabb: Float[Tensor, "2 3"]) -> tuple[Tensor, Tensor]:
        """Points in the box, half of them in and around the visual hull."""
        random = torch.Generator(aabb.device).manual_seed(i)
        u = torch.rand(CANDIDATES, 3, generator=random, device=aabb.device)
        candidates = aabb[0] + (aabb[1] - aabb[0]) * u
        inside = candidates[within_silhouettes(self.shots, i, candidates)]
        if len(inside) == 0:
            raise UserError(
                f"{name}: no place in the box is on the subject in all of its pictures; are its cameras in one frame "
                "with the other objects' and with the box, and does alpha cut it out?"
            )
        some = torch.randint(len(inside), (SURFACE,), generator=random, device=aabb.device)
        offset = torch.randn(SURFACE, 3, generator=random, device=aabb.device)
        spread = torch.from_numpy(np.resize(NEAR, (SURFACE, 1)).astype(np.float32)).to(aabb.device)
        near = (inside[some] + spread * offset).clamp(-1, 1)
        points = torch.cat([near, candidates[:EVERYWHERE]])
        return points, within_silhouettes(self.shots, i, points)

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
        rgb = self.shots.pixels[row, view, y, x, :3] * (1 / 255)
        k = torch.randint(self.points.shape[1], (len(shape), self.per_object), generator=generator, device=device)
        return ObjectBatch(shape, picture, pose[..., :3, 3], directions, rgb, self.points[row, k], self.within[row, k])

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass
