"""Where a surface may be, before there is one: a radiance field's depths, fused; and how `neus` is brought there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from neural3d.fields.radiance import HashRadiance, RadianceConfig
from neural3d.fields.sdf import HashSDF
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import BATCH
from neural3d.geometry.rays import crossing
from neural3d.ops.adam import Adam
from neural3d.render import RenderOut
from neural3d.render.fusion import Fused, truncation
from neural3d.render.packed import (
    RayBudget,
    composite_radiance,
    photo_scale,
    render_packed,
    shade_depth,
    shade_radiance,
)

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.scene import Scene

SAMPLES = 1 << 16  # along rays, that a step aims at
DISTORTION = 0.1  # weight of mip-NeRF 360's loss: ten times what `ngp` asks for; haze would put depths anywhere
VIEWS, VIEW_PIXELS = 24, 200  # pictures from which the surface is fused, and their longer side, at most
VIEW_SHARE = 0.1  # of the rays that all of training would draw at this field's pace: what these pictures may have
START_CELLS = 128  # along each side of the box, at which that surface is looked up
FIT_STEPS, FIT_SMOOTH = 300, 0.01  # of fitting f to the start; weight of ‖∇f(x) − ∇f(x′)‖ meanwhile


class WarmStart(HashRadiance):
    """A radiance field of what is in the box and beyond it, not before it, learnt from photos without alpha."""

    background: Tensor

    def __init__(self, config: RadianceConfig, scene: Scene):
        super().__init__(config, **photo_scale(config, scene))
        self.scene = scene
        self.register_buffer("background", torch.zeros(3) if scene.background == "black" else torch.ones(3))
        self.budget = RayBudget(SAMPLES, most=1 << 16)
        self._drawn = 0  # rays it has trained on

    def nearest(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
        return crossing(origins, directions, self.scene.aabb.to(origins))[0].clamp_min(self.near)

    def extra_state(self) -> dict[str, Any]:
        return {"rays": self.budget.rays, "stride": self.stride, "drawn": self._drawn}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.budget.rays, self._drawn = state["rays"], state["drawn"]
        self.set_stride(state["stride"])

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As a player's (`methods.players.Loss`)."""
        rays, device = len(batch), batch.origins.device
        samples, marched = self.samples(
            batch.origins, batch.directions, torch.rand(rays, generator=generator, device=device)
        )
        background = self.background.expand(rays, 3)
        if self.scene.background is None:
            background = torch.rand(rays, 3, generator=generator, device=device)
        out = composite_radiance(self, samples, batch.directions, background)
        error = (out.rgb - batch.rgb).square().mean()
        spent, drawn = self.processes.sums(len(samples) + 0.2 * marched, rays)
        self.budget.spent(spent, int(drawn))
        self._drawn += int(drawn)
        metrics = {"psnr": -10 * torch.log10(error.detach()), "samples_per_ray": len(samples) / rays}
        metrics["marched_per_ray"] = marched / rays
        return {"color": error, "distortion": DISTORTION * out.distortion.mean()}, metrics

    def after_step(self, step: int, generator: torch.Generator) -> None:
        if step == 0:
            self.grid.mark_visible(self.scene.cameras("train"))
        self.refresh(step, generator)

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        color = (self.background if background is None else background).to(self.table.device)
        return render_packed(camera, lambda o, d: shade_radiance(self, o, d, color), self.table.device)

    def depths(self, camera: Camera) -> RenderOut:
        """Opacity and depth alone; colours and normals are 0."""
        return render_packed(camera, lambda o, d: shade_depth(self, o, d), self.table.device)

    def _views(self, progress: float) -> list[Camera]:
        """Training cameras, evenly chosen and small enough for their depths to take VIEW_SHARE of the training.

        Counted in rays, not in seconds, so that resumed runs see the same. A ray for depth alone costs less than one
        that trains.
        """
        cameras = self.scene.cameras("train")
        cameras = cameras[:: math.ceil(len(cameras) / VIEWS)]
        pixels = VIEW_SHARE * self._drawn / max(progress, 1e-6) / len(cameras)
        views = []
        for camera in cameras:
            affordable = math.sqrt(pixels / (camera.width * camera.height))
            scale = min(1.0, VIEW_PIXELS / max(camera.width, camera.height), affordable)
            views.append(camera.resized(*(max(8, round(scale * n)) for n in (camera.width, camera.height))))
        return views

    def signed_distance(self, progress: float) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """(points of the box, their distances to the surface in the fused depths that training cameras see).

        Far from the surface, where depths are truncated, by cells of a grid.
        """
        views = self._views(progress)
        longest = max(max(camera.width, camera.height) for camera in views)
        fused = Fused(lambda camera, _: self.depths(camera), views, truncation(self.scene.aabb, longest))
        box, steps = self.scene.aabb, (torch.arange(START_CELLS) + 0.5) / START_CELLS
        x = torch.cartesian_prod(*(low + (high - low) * steps for low, high in box.T)).to(self.table.device)
        near = torch.cat([4 * fused.distance(part) for part in x.split(BATCH)])
        solid = (near < 0).view(START_CELLS, START_CELLS, START_CELLS).cpu().numpy()
        cell = ((box[1] - box[0]) / START_CELLS).tolist()
        by_cells = [ndimage.distance_transform_edt(part, sampling=cell) for part in (~solid, solid)]
        far = torch.from_numpy((by_cells[0] - by_cells[1]).astype(np.float32)).view(-1).to(near)
        return x, torch.where(near.abs() < fused.truncation / 2, near, far)


def fit_distance(
    field: HashSDF, x: Float[Tensor, "N 3"], distance: Float[Tensor, "N"], generator: torch.Generator,
    *, lr: float, eikonal: float,
) -> None:  # fmt: skip
    """Makes the field this signed distance, but smooth, with an optimiser of its own.

    Half as many points as near the surface are drawn from anywhere: where f were only known to be positive, its slope
    of 1 might as well lead down again, to surfaces in empty space. lr: at the start, a tenth of it at the end.
    """
    n, device = 1 << 13, x.device
    near = distance.abs().argsort(stable=True)[: len(x) // 8]
    optimizer = Adam(field.param_groups(lr, lr))
    for step in range(FIT_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.1 ** (step / FIT_STEPS)
        close = near[torch.randint(len(near), (n,), generator=generator, device=device)]
        anywhere = torch.randint(len(x), (n // 2,), generator=generator, device=device)
        some = torch.cat([close, anywhere])
        shift = torch.randn(n, 3, generator=generator, device=device) / field.finest_resolution
        value, _, gradient = field.with_gradient(torch.cat([x[some], x[close] + shift]))
        error = (value[: len(some)] - distance[some]).abs().mean()
        unit = (gradient.norm(dim=-1) - 1).square().mean()
        bend = (gradient[:n] - gradient[len(some) :]).norm(dim=-1).mean()
        (error + eikonal * unit + FIT_SMOOTH * bend).backward()
        optimizer.step()
