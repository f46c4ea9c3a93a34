"""The signed distance field of one closed mesh.

As in DeepSDF (Park, Florence, Straub, Newcombe, Lovegrove, CVPR 2019) without its latent code: the clamped distance at
points near the surface and around it, L = |clamp(f(x), δ) − clamp(s(x), δ)|, here with a hash grid (see `HashSDF`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

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


@dataclass(frozen=True)
class SdfConfig:
    """Settings of `sdf`. Lengths are in scene units, in which the shape's longest side is 1.8."""

    horizon: Count = 4000  # step at which the learning rate reaches its final value
    batch: Count = 1 << 15  # points per step
    clamp: float = 0.1  # δ: distances beyond count as δ

    levels: Layers = 12  # of the hash grid
    log2_table: int = 17  # entries per level at most
    base_resolution: Count = 8  # of the coarsest level
    max_resolution: Count = 256  # of the finest
    width: Width = 64  # of the network's hidden layers
    hidden_layers: Layers = 2

    lr: float = 5e-3
    lr_final: float = 5e-5


class Sdf(Method):
    """See the module's docstring."""

    Config = SdfConfig
    takes = Shape

    def __init__(self, config: SdfConfig, scene: Shape):
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
        return SolidSource(scene, device, self.config.clamp)

    @property
    def batch_size(self) -> int:
        return self.config.batch

    def param_groups(self) -> list[dict[str, Any]]:
        return self.field.param_groups(self.config.lr, self.config.lr_final)

    def loss(
        self, batch: DistanceBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        value, _ = self.field(batch.points)
        error = (value.clamp(-c.clamp, c.clamp) - batch.distance.clamp(-c.clamp, c.clamp)).abs().mean()
        return {"distance": error}, {"error": error.detach()}

    def signed_distance(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """In scene units, negative inside; beyond the clamp only its sign is learned."""
        return self.field(positions)[0]

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        box = self.scene.aabb.to(self.field.table.device)
        return render_surface(self.signed_distance, camera, box, background=background)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        return self._extract(self.signed_distance, resolution, crop, progress=progress), None
