"""The occupancy fields of a category, each conditioned on a noisy point cloud: `--method occupancy` on a folder.

Mescheder, Oechsle, Niemeyer, Nowozin, Geiger: "Occupancy Networks", CVPR 2019: the cross-entropy between
sigmoid(logit(x, cloud)) and whether x is inside, over all shapes of a category. The published network sees the cloud
through one vector; ours through features at its points, see `neural3d.fields.local`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from neural3d.config import Count, Layers, Width
from neural3d.fields.local import LocalOccupancy
from neural3d.methods.category import CategoryMethod
from neural3d.scene.category import CategoryBatch, CategorySource, ShapeSet

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Field


@dataclass(frozen=True)
class OccupancyCategoryConfig:
    """Settings of `occupancy` for a folder of shapes. The set's box has a longest side of 1.8 scene units."""

    horizon: Count = 4000  # step at which the learning rate reaches its final value
    shapes: Count = 8  # per step
    points: Count = 512  # per shape and step at which the field is learnt
    cloud: Count = 300  # points of a surface that the field is conditioned on
    noise: float = 0.5  # standard deviation of these, in % of the diagonal of the shape's box

    width: Width = 64  # of all layers; a multiple of 4
    neighbours: Count = 10  # points of the cloud that a query asks
    layers: Layers = 3  # of self-attention

    lr: float = 2e-3
    lr_final: float = 5e-5


class OccupancyCategory(CategoryMethod):
    """See the module's docstring. A code holds the points of a cloud and, in further columns, their features."""

    Config = OccupancyCategoryConfig
    level = 0.5

    def __init__(self, config: OccupancyCategoryConfig, scene: ShapeSet):
        super().__init__(config, scene)
        self.net = LocalOccupancy(config.width, config.neighbours, config.layers)

    def source(self, scene: ShapeSet, device: torch.device) -> CategorySource:
        c = self.config
        return CategorySource(scene, device, points=c.points, cloud=c.cloud, noise=c.noise / 100)

    @property
    def batch_size(self) -> int:
        return self.config.shapes * self.config.points

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        return [dict(params=list(self.parameters()), lr=c.lr, lr_final=c.lr_final, warmup=c.horizon // 20)]

    def loss(
        self, batch: CategoryBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        logits, inside = self.net(batch.points, batch.cloud, self.net.encode(batch.cloud)), batch.distance < 0
        error = binary_cross_entropy_with_logits(logits, inside.float())
        return {"occupancy": error}, {"accuracy": lambda: ((logits > 0) == inside).float().mean()}

    @torch.no_grad()
    def code_of(self, cloud: Float[Tensor, "M 3"], generator: torch.Generator) -> Float[Tensor, "M C"]:
        """Of a cloud that is larger than those of training, a random choice counts."""
        some = torch.randperm(len(cloud), generator=generator, device=cloud.device)[: self.config.cloud]
        cloud = cloud[some]
        return torch.cat([cloud, self.net.encode(cloud[None])[0]], dim=1)

    def field(self, code: Float[Tensor, "M C"]) -> Field:
        cloud, features = code[None, :, :3], code[None, :, 3:]

        def occupancy(x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
            parts = [self.net(part[None], cloud, features)[0] for part in x.split(BLOCK)]
            return torch.sigmoid(torch.cat(parts))

        return occupancy


BLOCK = 1 << 13  # queries whose distances to all points are held at a time
