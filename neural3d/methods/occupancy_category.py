"""The occupancy fields of a category, each conditioned on what is seen of a shape: `--method occupancy` on a folder.

Mescheder, Oechsle, Niemeyer, Nowozin, Geiger: "Occupancy Networks", CVPR 2019: the cross-entropy between
sigmoid(logit(x, seen)) and whether x is inside, over all shapes of a category. Seen is, by `condition`,
    points  a noisy cloud. The published network sees it through one vector; ours through features at its points, see
            `neural3d.fields.local`.
    image   one picture, by a random one of 24 cameras (`neural3d.shapes.shots`), as published: a residual network makes
            a vector of it (`neural3d.fields.encoder`), conditional normalisation lets that shape the field
            (`neural3d.fields.conditional`). The field stands in the category's frame, wherever the camera stood.
    class   the shape's class alone, through a vector of its own: what is likely of any member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from neural3d.config import Count, Layers, Width
from neural3d.fields.conditional import ConditionalField
from neural3d.fields.encoder import PictureEncoder
from neural3d.fields.local import LocalOccupancy
from neural3d.methods.category import CategoryMethod
from neural3d.methods.players import Player
from neural3d.scene.objects import shots_of
from neural3d.shapes.category import CategoryBatch, CategorySource, ShapeSet, kind_of

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Field


@dataclass(frozen=True)
class OccupancyCategoryConfig:
    """Settings of `occupancy` for a folder of shapes. The set's box has a longest side of 1.8 scene units."""

    condition: Literal["points", "image", "class"] = "points"  # what is seen of a shape

    horizon: Count = 8000  # step at which the learning rate reaches its final value
    shapes: int = 0  # per step; 0: 8 by points, else 32
    points: int = 0  # per shape and step at which the field is learnt; 0: 512 by points, else 128
    lr: float = 0.0  # 0: 2e-3 by points, else 3e-3
    lr_final: float = 0.0  # 0: 5e-5 by points, else 1e-4

    cloud: Count = 300  # points: of a surface that the field is conditioned on
    noise: float = 0.5  # points: standard deviation of these, in % of the diagonal of the shape's box
    width: Width = 64  # points: of all layers; a multiple of 4
    neighbours: Count = 10  # points: of the cloud that a query asks
    layers: Layers = 3  # points: of self-attention

    side: Count = 64  # image: pixels along the pictures' sides; a multiple of 16
    channels: Width = 32  # image: of the encoder's first layer, a multiple of 8; the last has four times as many
    code: Width = 256  # image, class: length of the vector
    field_width: Width = 96  # image, class: of the field's layers
    blocks: Layers = 5  # image, class: of two layers each


class _Conditional(nn.Module):
    """The counterpart of LocalOccupancy for what is seen in one vector."""

    encode: nn.Module

    def __init__(self, encode: nn.Module, field: ConditionalField):
        super().__init__()
        self.encode, self.field = encode, field

    def forward(self, x: Float[Tensor, "S Q 3"], code: Float[Tensor, "S C"]) -> Float[Tensor, "S Q"]:
        return self.field(x, code)[..., 0]


class OccupancyCategory(CategoryMethod):
    """See the module's docstring."""

    Config = OccupancyCategoryConfig
    level = 0.5
    kinds: Int[Tensor, "shapes"]  # classes of the training shapes

    def __init__(self, config: OccupancyCategoryConfig, scene: ShapeSet):
        super().__init__(config, scene)
        c = config
        self.sees = c.condition
        of_each = [scene.kinds.index(kind_of(name)) for name in scene.members["train"]]
        self.register_buffer("kinds", torch.tensor(of_each), persistent=False)
        if c.condition == "points":
            self.net: LocalOccupancy | _Conditional = LocalOccupancy(c.width, c.neighbours, c.layers)
            return
        kinds = len(scene.kinds)
        encode = PictureEncoder(c.side, c.code, c.channels) if self.sees == "image" else nn.Embedding(kinds, c.code)
        self.net = _Conditional(encode, ConditionalField(c.code, 1, c.field_width, c.blocks))

    def source(self, scene: ShapeSet, device: torch.device) -> CategorySource:
        c = self.config
        shots = shots_of(scene, "train", c.side) if c.condition == "image" else None
        cloud = c.cloud if c.condition == "points" else 0
        return CategorySource(scene, device, points=self._points, cloud=cloud, noise=c.noise / 100, shots=shots)

    @property
    def _points(self) -> int:
        return self.config.points or (512 if self.sees == "points" else 128)

    @property
    def batch_size(self) -> int:
        return (self.config.shapes or (8 if self.sees == "points" else 32)) * self._points

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        lr, lr_final = (2e-3, 5e-5) if self.sees == "points" else (3e-3, 1e-4)
        rates = dict(lr=c.lr or lr, lr_final=c.lr_final or lr_final)
        return [dict(params=list(self.parameters()), warmup=c.horizon // 20, **rates)]

    def loss(
        self, batch: CategoryBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen = {"points": batch.cloud, "image": batch.picture, "class": self.kinds[batch.shape]}[self.sees]
        assert seen is not None  # the source brings what is asked of it
        logits, inside = self.net(batch.points, self.net.encode(seen)), batch.distance < 0
        error = binary_cross_entropy_with_logits(logits, inside.float())
        return {"occupancy": error}, {"accuracy": lambda: ((logits > 0) == inside).float().mean()}

    @torch.no_grad()
    def code_of(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """Of a cloud that is larger than those of training, a random choice counts."""
        if self.sees == "points":
            seen = seen[torch.randperm(len(seen), generator=generator, device=seen.device)[: self.config.cloud]]
        return self.net.encode(seen[None])[0]

    def field(self, code: Tensor) -> Field:
        def occupancy(x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
            return torch.sigmoid(torch.cat([self.net(part[None], code[None])[0] for part in x.split(BLOCK)]))

        return occupancy


BLOCK = 1 << 13  # queries whose distances to all points are held at a time
