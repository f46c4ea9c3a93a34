"""A radiance field on a multiresolution hash grid, skipping empty space.

Müller, Evans, Schied, Keller: "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", SIGGRAPH 2022.
The field is `fields.radiance.HashRadiance`; colours are integrated by emission and absorption along packed rays
(`render.packed`). Here: what it learns from, photos whose exposures and poses may be corrected meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count
from neural3d.fields.mlp import require_precision
from neural3d.fields.radiance import HashRadiance, RadianceConfig
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rays import unseen_patches
from neural3d.methods.abilities import Exposed, Guided, Meshable, Renderable
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.methods.poses import PoseCorrections
from neural3d.ops.ray_march import ray_points
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import surface_of_density
from neural3d.render.packed import RayBudget, composite_radiance, photo_scale, render_packed, shade_radiance

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.geometry.mesh import Colors, Mesh
    from neural3d.scene import Scene


@dataclass(frozen=True)
class NgpConfig(RadianceConfig):
    """Settings of `ngp`; lengths are in scene units, in which the region of interest spans [-1, 1]."""

    horizon: Count = 5000  # step at which learning rates reach their final value
    samples_per_batch: Count = 1 << 16  # samples along rays that a step aims at; rays follow from it
    distortion: float = 0.01  # weight of mip-NeRF 360's distortion loss, against floaters
    random_background: bool = True  # alpha images: a fresh background colour per ray, so that empty means transparent
    exposure: bool = False  # a colour gain per training photo
    refine_poses: bool = False  # camera poses move with the scene: for such as are off by a pixel or more

    prior: str = ""  # a run that patches of unseen views follow: train PHOTOS --method realnvp --set patch=8
    prior_weight: float = 1e-3  # of its −log p per value, in nats
    patches: Count = 4  # per step
    patch_size: Count = 8  # rays along a side
    patch_stride: Count = 1  # pixels between them


class Ngp(Method, Renderable, Meshable, Exposed, Guided):
    """See the module's docstring."""

    Config = NgpConfig
    together = "divided"
    renamed: ClassVar = {
        "pose_delta": "poses.delta",
        **{part: f"field.{part}" for part in ("table", "density_net.", "color_net.", "grid.")},
    }
    background: Tensor  # what alpha images are composited on when nothing else is asked for

    def __init__(self, config: NgpConfig, scene: Scene):
        super().__init__(config, scene)
        self.field = HashRadiance(config, **photo_scale(config, scene))
        self.register_buffer("background", torch.zeros(3) if scene.background == "black" else torch.ones(3))
        if config.exposure:
            self.log_gain = nn.Parameter(torch.zeros(len(scene.split["train"]), 3))
        if config.refine_poses:
            self.poses = PoseCorrections(scene.cameras("train"))
        self.budget = RayBudget(config.samples_per_batch, most=1 << 16)
        self._spent: Tensor  # the last batch's cost, and its rays, of all processes

    @property
    def batch_size(self) -> int:
        return self.budget.rays

    def players(self) -> list[Player]:
        require_precision(self.config.precision, self.background.device)
        groups = self.field.param_groups()
        if self.config.exposure:
            groups.append(dict(params=[self.log_gain], lr=1e-3, lr_final=1e-4))
        if self.config.refine_poses:
            groups.append(self.poses.group())
        return [Player(groups, self.loss)]

    def extra_state(self) -> dict[str, Any]:
        return {"rays": self.budget.rays, "stride": self.field.stride}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.budget.rays = state["rays"]
        self.field.set_stride(state["stride"])

    # --- training ---

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        origins, directions = self._refined(batch) if c.refine_poses else (batch.origins, batch.directions)
        device = origins.device
        jitter = torch.rand(len(batch), generator=generator, device=device)
        samples, marched = self.field.samples(origins.detach(), directions.detach(), jitter)
        if c.random_background and (self.scene.has_alpha or self.scene.background is None):
            background = torch.rand(len(batch), 3, generator=generator, device=device)
        else:
            background = self.background.expand(len(batch), 3)
        positions = ray_points(origins, directions, samples) if c.refine_poses else None
        out = composite_radiance(self.field, samples, directions, background, positions)
        color = out.rgb
        if (gains := self.gains()) is not None:
            color = color * gains[batch.view]
        target = batch.rgb if batch.alpha is None else batch.rgb * batch.alpha + background * (1 - batch.alpha)
        error = ((color - target) ** 2).mean()
        losses = {"color": error}
        if c.distortion:
            losses["distortion"] = c.distortion * out.distortion.mean()

        if self.guide is not None:
            losses["prior"] = self._follow(generator)

        spent = len(samples) + 0.2 * marched  # a fifth of what differentiated ones cost
        self._spent = torch.tensor([spent, len(batch)], dtype=torch.float64)
        self.processes.total_later(self._spent)
        metrics = {"psnr": -10 * torch.log10(error.detach()), "samples_per_ray": len(samples) / len(batch)}
        metrics["marched_per_ray"] = marched / len(batch)
        return losses, metrics

    def _follow(self, generator: torch.Generator) -> Float[Tensor, ""]:
        """How unlikely patches are that nobody took a photo of."""
        c = self.config
        origins, directions = unseen_patches(
            self.scene.cameras("train"), self.scene.aabb, c.patches, c.patch_size, c.patch_stride, generator
        )
        jitter = torch.rand(len(origins), generator=generator, device=origins.device)
        samples, _ = self.field.samples(origins, directions, jitter)
        out = composite_radiance(self.field, samples, directions, self.background.expand(len(origins), 3), None)
        return self.unlikely(out.rgb, generator)

    def gains(self) -> Float[Tensor, "V 3"] | None:
        """Relative: their geometric mean, which is what a viewer sees, is 1."""
        return torch.exp(self.log_gain - self.log_gain.mean(0)) if self.config.exposure else None

    def _refined(self, batch: RayBatch) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """The batch's rays after each view's correction."""
        rotation, shift = self.poses(batch.view)
        return batch.origins + shift, (rotation @ batch.directions[..., None])[..., 0]

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        spent, drawn = self._spent.tolist()
        self.budget.spent(spent, int(drawn))
        if step == 0:
            self.field.grid.mark_visible(self.scene.cameras("train"))
        self.field.refresh(step, generator)
        if self.config.refine_poses:
            self.poses.hold_together()

    # --- pictures and meshes ---

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        device = self.background.device
        color = (self.background if background is None else background).to(device)
        return render_packed(camera, lambda o, d: shade_radiance(self.field, o, d, color), device)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """As `Meshable.surface`; it lies where half the light is lost within eight sampling steps."""
        return surface_of_density(
            self.scene, self.render, self.field.density, self.field.color, resolution, crop,
            level=math.log(2) * self.config.steps_per_unit / 8, device=self.background.device, progress=progress,
        )  # fmt: skip
