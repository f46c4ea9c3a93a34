"""The occupancy field of one closed mesh.

Mescheder, Oechsle, Niemeyer, Nowozin, Geiger: "Occupancy Networks", CVPR 2019, of a single shape: the cross-entropy
between o(x) = sigmoid(logit(x)) and whether x is inside, at points near the surface and around it; with a hash grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from neural3d.config import Count, Layers, Width
from neural3d.fields.sdf import HashSDF
from neural3d.geometry.cameras import Camera
from neural3d.methods.base import Method
from neural3d.ops.hash_grid import HashGridSpec
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.surface import render_surface
from neural3d.shapes.samples import DistanceBatch, SolidSource
from neural3d.shapes.shape import Shape

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Colors, Mesh

REACH = 0.1  # scene units around the surface in which most points are
SHARPNESS = 40.0  # logits per scene unit at the start, when the field is the distance to a ball


@dataclass(frozen=True)
class OccupancyConfig:
    """Settings of `occupancy`. Lengths are in scene units, in which the shape's longest side is 1.8."""

    horizon: Count = 4000  # step at which the learning rate reaches its final value
    batch: Count = 1 << 15  # points per step

    levels: Layers = 12  # of the hash grid
    log2_table: int = 17  # entries per level at most
    base_resolution: Count = 8  # of the coarsest level
    max_resolution: Count = 256  # of the finest
    width: Width = 64  # of the network's hidden layers
    hidden_layers: Layers = 2

    lr: float = 5e-3
    lr_final: float = 5e-5


class Occupancy(Method):
    """See the module's docstring."""

    Config = OccupancyConfig
    takes = Shape

    def __init__(self, config: OccupancyConfig, scene: Shape):
        super().__init__(config, scene)
        c = config
        self.field = HashSDF(
            HashGridSpec(
                levels=c.levels, log2_table=c.log2_table,
                base_resolution=c.base_resolution, max_resolution=c.max_resolution,
            ),
            width=c.width, hidden_layers=c.hidden_layers,
        )  # fmt: skip

    def source(self, scene: Shape, device: torch.device) -> SolidSource:
        return SolidSource(scene, device, REACH)

    @property
    def batch_size(self) -> int:
        return self.config.batch

    def param_groups(self) -> list[dict[str, Any]]:
        return self.field.param_groups(self.config.lr, self.config.lr_final)

    def logits(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Positive inside."""
        return -SHARPNESS * self.field(positions)[0]

    def loss(
        self, batch: DistanceBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        logits, inside = self.logits(batch.points), batch.distance < 0
        error = binary_cross_entropy_with_logits(logits, inside.float())
        return {"occupancy": error}, {"accuracy": lambda: ((logits > 0) == inside).float().mean()}

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        box = self.scene.aabb.to(self.field.table.device)
        return render_surface(self.logits, camera, box, level=0.0, background=background)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        inside = self._extract(lambda x: torch.sigmoid(self.logits(x)), resolution, crop, level=0.5, progress=progress)
        return inside, None
