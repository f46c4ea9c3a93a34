"""Occupancy and colour of many objects, conditioned on one picture, from pictures alone: `--method dvr` on a folder.

Niemeyer, Mescheder, Oechsle, Geiger: "Differentiable Volumetric Rendering: Learning Implicit 3D Representations without
3D Supervision", CVPR 2020, section 4.1 (single-view reconstruction). One picture of an object becomes a code, as in
`occupancy_category`; the code shapes a field with occupancy and colour. Rays of the object's other pictures are marched
to its surface p̂, whose colour is compared with theirs; p̂ is differentiated implicitly, so that colours move surfaces
(`neural3d.render.surface.implicit_point`). Rays through the object that miss ask for matter where they come nearest.

What differs: the paper asks for free space along single rays past the object; here points are asked about all
silhouettes at once: free space outside of the visual hull and, at first, matter within, from which colours carve. Rays
are marched only where the hull leaves room. As in `dvr`, `losses.carving_force` helps colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from neural3d.config import Count, Layers, Width
from neural3d.data.object_rays import ObjectBatch, ObjectSource
from neural3d.fields.conditional import ConditionalField
from neural3d.fields.encoder import PictureEncoder
from neural3d.losses import carving_force
from neural3d.methods.category import CategoryMethod, Member
from neural3d.methods.players import Player
from neural3d.render.surface import first_crossing, implicit_point
from neural3d.scene.objects import shots_of
from neural3d.shapes.category import ShapeSet

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Field

BLOCK = 1 << 13  # positions that the field is asked for at a time
APART = 4.0  # scene units between objects that are marched together


@dataclass(frozen=True)
class DvrCategoryConfig:
    """Settings of `dvr` for a folder of many objects. The set's box has a longest side of 1.8 scene units."""

    horizon: Count = 8000  # step at which learning rates reach their final value
    objects: Count = 32  # per step
    rays: Count = 32  # per object and step, through it
    points: Count = 128  # per object and step, asked about its silhouettes

    side: Count = 64  # pixels along the pictures' sides; a multiple of 16
    channels: Width = 32  # of the encoder's first layer, a multiple of 8; the last has four times as many
    code: Width = 256  # length of the vector
    field_width: Width = 96  # of the field's layers
    blocks: Layers = 5  # of two layers each

    steps: Count = 12  # of the march through the place that silhouettes leave
    secant_steps: int = 4

    color: float = 3.0  # weight of the pictures, L1
    occupancy: float = 1.0  # weight of rays through the object that miss its surface
    freespace: float = 1.0  # weight of points outside of the silhouettes
    hull: float = 0.2  # weight of points within them, in the end; at first 1
    hull_until: float = 0.5  # share of the horizon in which it falls
    carve: float = 0.3  # weight of the force that moves surfaces away from cameras where pictures disagree; 0: none

    lr: float = 3e-3
    lr_final: float = 1e-4


class DvrCategory(CategoryMethod):
    """See the module's docstring. A code is a vector (C,)."""

    Config = DvrCategoryConfig
    level = 0.5
    sees = "image"
    from_photos = True

    def __init__(self, config: DvrCategoryConfig, scene: ShapeSet):
        super().__init__(config, scene)
        c = config
        self.encode = PictureEncoder(c.side, c.code, c.channels)
        self.net = ConditionalField(c.code, 4, c.field_width, c.blocks)  # the logit of occupancy; rgb before a sigmoid

    def source(self, scene: ShapeSet, device: torch.device) -> ObjectSource:
        c = self.config
        shots = shots_of(scene, "train", c.side)
        return ObjectSource(shots, scene.members["train"], scene.aabb, device, c.rays, c.points)

    @property
    def batch_size(self) -> int:
        return self.config.objects * self.config.rays

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        return [dict(params=list(self.parameters()), lr=c.lr, lr_final=c.lr_final, warmup=c.horizon // 20)]

    def loss(
        self, batch: ObjectBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        code = self.encode(batch.picture)
        objects, rays = batch.origins.shape[:2]
        hit, t = self._march(batch, code.detach(), generator)
        o, d = batch.origins, batch.directions

        def logit(x: Float[Tensor, "S*R 3"]) -> Float[Tensor, "S*R"]:
            return self.net(x.view(objects, rays, 3), code)[..., 0].reshape(-1)

        surface = implicit_point(logit, o.reshape(-1, 3), d.reshape(-1, 3), t.view(-1)).view_as(o)
        place = torch.where(hit[..., None], surface, o + t[..., None] * d)
        told = self.net(torch.cat([place, batch.points], 1), code)
        difference = torch.sigmoid(told[:, :rays, 1:]) - batch.rgb
        error, value = difference.abs().mean(-1), told[..., 0]
        at_points, within = value[:, rays:], batch.within
        matter = c.hull + (1 - c.hull) * (1 - min(1.0, progress / c.hull_until))
        losses = {
            "color": c.color * (hit * error).mean(),
            "occupancy": c.occupancy * (~hit * softplus(-value[:, :rays])).mean(),
            "freespace": c.freespace * (~within * softplus(at_points)).mean(),
            "hull": matter * (within * softplus(-at_points)).mean(),
        }
        if c.carve:
            force = carving_force(error.detach().view(-1), hit.view(-1).float())
            losses["carve"] = c.carve * (1 - progress) * (force * (surface * d).sum(-1).view(-1)).mean()
        metrics = {
            "psnr": lambda: -10 * torch.log10((difference.detach()[hit].square()).mean()),
            "accuracy": lambda: ((at_points > 0) == within).float().mean(),  # of being within the silhouettes
        }
        return losses, metrics

    @torch.no_grad()
    def _march(
        self, batch: ObjectBatch, code: Float[Tensor, "S C"], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """(S, R): whether rays meet the surface from outside, and where, or else where they come nearest to it."""
        # One march serves all objects: each stands in a place of its own along x, which tells whose a position is.
        place = batch.origins.new_zeros(len(code), 3)
        place[:, 0] = APART * torch.arange(len(code), device=code.device)

        def logit(x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
            owner = (x[:, 0] / APART).round().long()
            return self._logits(x - place[owner], owner, code)

        jitter = torch.rand(batch.near.shape, generator=generator, device=code.device)
        hits = first_crossing(
            logit, (batch.origins + place[:, None]).view(-1, 3), batch.directions.view(-1, 3), batch.near.view(-1),
            batch.far.view(-1), steps=self.config.steps, level=0.0, secant_steps=self.config.secant_steps,
            jitter=jitter.view(-1),
        )  # fmt: skip
        return hits.hit.view_as(jitter), torch.where(hits.hit, hits.t, hits.closest).view_as(jitter)

    def _logits(self, x: Float[Tensor, "N 3"], owner: Int[Tensor, "N"], code: Float[Tensor, "S C"]) -> Tensor:
        """(N,) of each position by its owner's code; owners in ascending order, as rays are."""
        count = torch.bincount(owner, minlength=len(code))
        slot = torch.arange(len(x), device=x.device) - (count.cumsum(0) - count)[owner]
        rows = x.new_zeros(len(code), int(count.max()), 3)
        rows[owner, slot] = x
        return self.net(rows, code)[owner, slot, 0]

    @torch.no_grad()
    def code_of(self, seen: Float[Tensor, "3 H W"], generator: torch.Generator) -> Float[Tensor, "C"]:
        return self.encode(seen[None])[0]

    def field(self, code: Float[Tensor, "C"]) -> Field:
        return lambda x: torch.sigmoid(self._told(x, code)[:, 0])

    def subject(self, code: Float[Tensor, "C"]) -> Member:
        def color(x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
            return torch.sigmoid(self._told(x.to(code.device), code)[:, 1:])

        return replace(super().subject(code), color=color)

    def _told(self, x: Float[Tensor, "N 3"], code: Float[Tensor, "C"]) -> Float[Tensor, "N 4"]:
        return torch.cat([self.net(part[None], code[None])[0] for part in x.float().split(BLOCK)])
