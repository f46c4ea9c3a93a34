"""Where a surface may be, before there is one: a radiance field's depths, fused. `neus` starts from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import BATCH
from neural3d.methods.ngp import Ngp
from neural3d.ops.ray_march import ray_aabb
from neural3d.render.fusion import Fused, truncation

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch

LOOKS, LOOK_PIXELS = 24, 200  # pictures from which the surface is fused, and their longer side, at most
LOOK_SHARE = 0.1  # of the rays that all of training would draw at this field's pace: what these pictures may have
START_CELLS = 128  # along each side of the box, at which that surface is looked up


class Scout(Ngp):
    """A radiance field of what is in the box and beyond it, not before it."""

    _drawn = 0  # rays it has trained on

    def _nearest(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
        return crossing(origins, directions, self.scene.aabb.to(origins))[0].clamp_min(self.near)

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._drawn += len(batch)
        return super().loss(batch, progress, generator)

    def extra_state(self) -> dict[str, Any]:
        return super().extra_state() | {"drawn": self._drawn}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        super().load_extra_state(state)
        self._drawn = state["drawn"]

    def _looks(self, progress: float) -> list[Camera]:
        """Training cameras, evenly chosen and small enough for their depths to take LOOK_SHARE of the training.

        Counted in rays, not in seconds, so that resumed runs see the same. A ray for depth alone costs less than one
        that trains.
        """
        cameras = self.scene.cameras("train")
        cameras = cameras[:: math.ceil(len(cameras) / LOOKS)]
        pixels = LOOK_SHARE * self._drawn / max(progress, 1e-6) / len(cameras)
        looks = []
        for camera in cameras:
            affordable = math.sqrt(pixels / (camera.width * camera.height))
            scale = min(1.0, LOOK_PIXELS / max(camera.width, camera.height), affordable)
            looks.append(camera.resized(*(max(8, round(scale * n)) for n in (camera.width, camera.height))))
        return looks

    def signed_distance(self, progress: float) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """(points of the box, their distances to the surface in the fused depths that training cameras see).

        Far from the surface, where depths are truncated, by cells of a grid.
        """
        looks = self._looks(progress)
        longest = max(max(camera.width, camera.height) for camera in looks)
        fused = Fused(lambda camera, _: self.depths(camera), looks, truncation(self.scene.aabb, longest))
        box, steps = self.scene.aabb, (torch.arange(START_CELLS) + 0.5) / START_CELLS
        x = torch.cartesian_prod(*(low + (high - low) * steps for low, high in box.T)).to(self.table.device)
        near = torch.cat([4 * fused.distance(part) for part in x.split(BATCH)])
        solid = (near < 0).view(START_CELLS, START_CELLS, START_CELLS).cpu().numpy()
        cell = ((box[1] - box[0]) / START_CELLS).tolist()
        by_cells = [ndimage.distance_transform_edt(part, sampling=cell) for part in (~solid, solid)]
        far = torch.from_numpy((by_cells[0] - by_cells[1]).astype(np.float32)).view(-1).to(near)
        return x, torch.where(near.abs() < fused.truncation / 2, near, far)


def crossing(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Distances at which rays enter and leave a box; those that miss it do both nearest to the middle."""
    enter, leave = ray_aabb(origins, directions, box)
    nearest = (-(origins * directions).sum(-1)).clamp(min=0)
    hit = leave > enter
    return torch.where(hit, enter, nearest), torch.where(hit, leave, nearest)
