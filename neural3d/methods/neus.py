"""Surfaces from photos: a signed distance field on a hash grid, rendered as a volume.

Wang, Liu, Liu, Theobalt, Komura, Wang: "NeuS: Learning Neural Implicit Surfaces by Volume Rendering for Multi-view
Reconstruction", NeurIPS 2021: `render.signed` says where along rays light is lost; the sharpness is learned.

The field is that of Müller et al. (SIGGRAPH 2022) with levels shown from coarse to fine as in Neuralangelo (Li et al.,
CVPR 2023) and a ReLU network as in NeuS2 (Wang et al., ICCV 2023), which makes the eikonal loss cheap: see
`MLP.with_gradient`. Samples are taken only in a band about the surface, as wide as 1/s asks for.

Light is lost at the surface alone, so that one in a wrong place learns nothing of what lies behind it or before it; and
while colours are still wrong, moving the surface is the quickest way to make them less so. Hence:

- It starts near the truth. Photos with alpha give their visual hull, which is right but for hollows. Others first train
  a radiance field for a while, whose depths, fused, tell where the surface is. In unbounded scenes that field goes
  on as what lies beyond the box that holds the subject, as in NeRF++. The network itself is fitted to the start: as an
  offset from stored distances, which is there at once, it opens hollows less far in the same time.
- Colours have a hash grid of their own, all of it from the start, and learn first, and three times as fast. With one
  grid for both, texture is pressed into the surface: rows of windows become ledges.
- Colours see the normal, as in NeuS, but do not turn it: to make a wall's window as white as the ground, the quickest
  way would be to tilt it like the ground.
- Hollows of the hull are carved: where photos disagree about a surface's colour it is pushed away from the cameras
  (`losses.carving`). Meanwhile colours are the same from all sides, so that no false surface shows each camera
  its own picture, and overexposed channels do not count: they may be highlights, which move with the camera, and would
  be carved until they stand still, as mirrored by what lies deeper. Later such channels move colours, not the surface,
  which would bulge towards its highlights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, normalize

from neural3d.config import Count, Layers, Width
from neural3d.data.silhouettes import visual_hull
from neural3d.errors import UserError
from neural3d.fields.colored_sdf import ColoredSDF
from neural3d.fields.mlp import Precision, require_precision
from neural3d.fields.occupancy import OccupancyGrid
from neural3d.fields.radiance import RadianceConfig
from neural3d.geometry.cameras import Camera
from neural3d.losses import carving
from neural3d.methods.abilities import Meshable, Renderable
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.methods.warm_start import WarmStart, fit_distance
from neural3d.ops.composite import composite
from neural3d.ops.hash_grid import HashGridSpec
from neural3d.ops.ray_march import Samples
from neural3d.ops.spherical_harmonics import spherical_harmonics
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import hidden_from, surface_within
from neural3d.render.packed import RayBudget, Shaded, mean_distance, render_packed
from neural3d.render.signed import in_band, surface_samples, thickness_along
from neural3d.scene.footprint import photo_resolution

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.geometry.mesh import Colors, Mesh
    from neural3d.scene import Scene

RADIUS = 0.6  # of the sphere where nothing tells the start, over half the shortest side of the region of interest
LEAST_STEPS = 24.0  # samples per unit of length at least
GRID_EVERY = 16  # steps between refreshes of the occupancy grid
MORE_POINTS = 0.1  # per sample along rays: random points for the eikonal loss, and as many beside samples for bends
VIEWS_FROM = 0.5  # photos with alpha: share of the horizon until which colours are the same from all sides


@dataclass(frozen=True)
class NeusConfig:
    """Settings of `neus`; lengths are in scene units, in which the region of interest spans [-1, 1]."""

    horizon: Count = 10000  # step at which learning rates reach their final value
    samples_per_batch: Count = 1 << 15  # samples along rays that a step aims at; rays follow from it

    levels: Layers = 12  # of the hash grid
    log2_table: int = 17  # entries per level at most
    max_resolution: int = 0  # of the finest; 0: as fine as the photos, 1.5 cells to a pixel
    first_levels: Layers = 6  # shown at the start
    all_levels_at: float = 0.3  # share of the horizon at which all are shown
    width: Width = 64  # of the hidden layers
    color_log2_table: int = 18  # entries per level of the colours' grid at most; its levels are as many and as fine
    precision: Precision = "float32"  # of products in networks but f's; bfloat16: on tensor cores (compute cap. 8.0)

    warm_start_until: float = 0.08  # photos without alpha: share of the horizon for the field to start from; 0: none

    sharpness: float = 100.0  # s at the start, in 1 / unit
    sharpness_limit: float = 2000.0  # s at most, at the end; on the way there, the limit grows exponentially
    steps_per_width: float = 0.67  # samples per length 1/s
    max_steps_per_unit: float = 512.0  # samples per unit of length at most
    grid_resolution: Count = 96  # cells along each axis of the occupancy grid
    grid_budget: Count = 1 << 17  # distances evaluated per refresh

    eikonal: float = 0.1  # weight of (‖∇f‖ − 1)²
    smooth: float = 0.005  # weight of ‖∇f(x) − ∇f(x′)‖ for points x′ one cell of the finest level from samples x
    mask: float = 0.1  # weight of the cross-entropy between opacity and alpha, for photos that have it
    carve: float = 0.2  # photos with alpha: weight of the force against surfaces about whose colour they disagree
    carve_until: float = 0.6  # share of the horizon over which it fades to 0; 0: no such force

    lr: float = 1e-2  # of the colours
    lr_final: float = 3e-4
    lr_distance: float = 3e-3  # of f
    lr_distance_final: float = 1e-4
    colors_first: float = 0.05  # share of the horizon for which, from the start, f waits for the colours
    warmup: int = 100  # steps during which the rates of colours rise from 0
    lr_sharpness: float = 1e-2  # of log s


class Neus(Method, Renderable, Meshable):
    """See the module's docstring."""

    Config = NeusConfig
    together = "divided"
    renamed: ClassVar = {"scout": "warm_start", **{k: f"field.{k}" for k in ("color_table", "color_net.", "log_s")}}
    background: Tensor  # what alpha images are composited on when nothing else is asked for
    box: Tensor

    def __init__(self, config: NeusConfig, scene: Scene):
        super().__init__(config, scene)
        c = config
        spec = HashGridSpec(
            levels=c.levels, log2_table=c.log2_table, base_resolution=16,
            max_resolution=c.max_resolution or photo_resolution(scene, side=2),
        )  # fmt: skip
        radius = RADIUS * float((scene.aabb[1] - scene.aabb[0]).min()) / 2
        self.field = ColoredSDF(
            spec, color_log2_table=c.color_log2_table, width=c.width, radius=radius, sharpness=c.sharpness,
            precision=c.precision,
        )  # fmt: skip
        self.grid = OccupancyGrid(resolution=c.grid_resolution, threshold=0.5, decay=0.0, budget=c.grid_budget)
        self.warm_start: WarmStart | None = None
        if scene.unbounded or not scene.has_alpha:
            self.warm_start = WarmStart(RadianceConfig(log2_table=c.log2_table, precision=c.precision), scene)
        self.register_buffer("box", scene.aabb.clone(), persistent=False)
        self.register_buffer("background", torch.zeros(3) if scene.background == "black" else torch.ones(3))
        self.budget = RayBudget(c.samples_per_batch, most=1 << 14)
        self._warm_until = 0.0 if scene.has_alpha else c.warm_start_until
        self._started = False  # is there a surface yet?
        self._shown = float(c.first_levels)
        self._views = 1.0  # how much colours depend on the direction; 0: they are the same from all sides
        self.field.show_levels(self._shown)

    @property
    def batch_size(self) -> int:
        return (self.warm_start.budget if self.warm_start and self._warming else self.budget).rays

    @property
    def _warming(self) -> bool:
        """Is it the radiance field alone that trains and is seen?"""
        return self._warm_until > 0 and not self._started

    def players(self) -> list[Player]:
        require_precision(self.config.precision, self.box.device)
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        distance = self.field.param_groups(c.lr_distance, c.lr_distance_final)
        for group in distance:
            group["waits_until"] = self._warm_until + c.colors_first
        return [
            *distance,
            *self.field.color_groups(c.lr, c.lr_final, c.warmup),
            dict(params=[self.field.log_s], lr=c.lr_sharpness, lr_final=c.lr_sharpness / 5, warmup=c.warmup),
            *(self.warm_start.param_groups() if self.warm_start else []),
        ]

    def extra_state(self) -> dict[str, Any]:
        state = {"rays": self.budget.rays, "shown": self._shown, "views": self._views, "started": self._started}
        return state | ({"warm_start": self.warm_start.extra_state()} if self.warm_start else {})

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.budget.rays, self._shown, self._views = state["rays"], state["shown"], state["views"]
        self._started = state["started"]
        if self.warm_start:
            self.warm_start.load_extra_state(state["warm_start"])
        self.field.show_levels(self._shown)

    # --- samples along rays ---

    def _samples(
        self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], jitter: Float[Tensor, "R"] | None = None
    ) -> tuple[Samples, int, Float[Tensor, "R"]]:
        c, s = self.config, float(self.field.sharpness.detach())
        return surface_samples(
            self.field.signed_distance, s, origins, directions, box=self.box, bits=self.grid.bits,
            step=1 / min(max(c.steps_per_width * s, LEAST_STEPS), c.max_steps_per_unit), jitter=jitter,
        )  # fmt: skip

    def _background(
        self, origins: Tensor, directions: Tensor, leave: Tensor, color: Tensor, jitter: Tensor | None = None
    ) -> tuple[Float[Tensor, "R 3"], int]:  # fmt: skip
        """What rays see beyond the box, from where they leave it: `color` if the scene ends there; samples it took."""
        if not self.warm_start or not self.scene.unbounded:
            return color.expand(len(origins), 3), 0
        samples, marched = self.warm_start.samples(origins, directions, jitter, start=leave)
        sigma, rgb = self.warm_start.emission(samples, directions)
        out = composite(sigma, rgb, samples.t, samples.dt, samples.offsets, background=color)
        return out.rgb, len(samples) + marched // 5

    def _emission(
        self, samples: Samples, ray_directions: Float[Tensor, "R 3"], value: Float[Tensor, "S"],
        gradient: Float[Tensor, "S 3"],
    ) -> tuple[Float[Tensor, "S"], Float[Tensor, "S 3"]]:  # fmt: skip
        """−log(1 − α) of each sample's interval, and its colour."""
        thickness = thickness_along(samples, ray_directions, value, gradient, self.field.sharpness)
        view_basis = spherical_harmonics(ray_directions).index_select(0, samples.ray)
        return thickness, self.field.radiance(samples.positions, gradient, view_basis * self._views)

    def _more_points(
        self, samples: Samples, generator: torch.Generator
    ) -> tuple[Float[Tensor, "E 3"], Float[Tensor, "B 3"], Int[Tensor, "B"]]:
        """Random points of the box, where f is to be a distance too; points beside samples, and which samples."""
        n, device = len(samples), samples.t.device
        anywhere = torch.rand(64 + int(MORE_POINTS * n), 3, generator=generator, device=device)
        chosen = torch.randint(max(n, 1), (int(MORE_POINTS * n),), generator=generator, device=device)
        shift = torch.randn(len(chosen), 3, generator=generator, device=device) / self.field.finest_resolution
        return self.box[0] + (self.box[1] - self.box[0]) * anywhere, samples.positions[chosen] + shift, chosen

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        if self.warm_start and self._warming and progress < self._warm_until:
            return self.warm_start.loss(batch, progress, generator)
        if not self._started:
            self._start(progress, self.processes.common(generator))
        self._anneal(progress)
        rays, device = len(batch), batch.origins.device
        jitter = torch.rand(rays, generator=generator, device=device)
        samples, marched, leave = self._samples(batch.origins, batch.directions, jitter)
        n = len(samples)
        anywhere, beside, chosen = self._more_points(samples, generator)
        value, _, gradient = self.field.with_gradient(torch.cat([samples.positions, anywhere, beside]))
        eikonal = (gradient.norm(dim=-1) - 1).square().mean()
        bend = (gradient[chosen] - gradient[n + len(anywhere) :]).norm(dim=-1).sum() / max(len(chosen), 1)

        thickness, rgb = self._emission(samples, batch.directions, value[:n], gradient[:n])
        # Of what lies beyond the box, some light is always left; random colours behind it would make any opaque thing
        # before it the better one.
        random = torch.rand(rays, 3, generator=generator, device=device)
        behind = random if self.scene.has_alpha else self.background
        background, cost_behind = self._background(batch.origins, batch.directions, leave, behind, jitter)
        out = composite(
            thickness, rgb, samples.t, torch.ones_like(thickness), samples.offsets,
            background=background, early_stop=0.0,
        )  # fmt: skip
        target = batch.rgb if batch.alpha is None else batch.rgb * batch.alpha + background * (1 - batch.alpha)
        telling = 1 - (1 - self._views) * batch.overexposed.float()
        seen = out.rgb
        if self.scene.has_alpha:  # overexposed channels move colours alone
            still = composite(
                thickness.detach(), rgb, samples.t, torch.ones_like(thickness), samples.offsets,
                background=background, early_stop=0.0,
            )  # fmt: skip
            seen = torch.where(batch.overexposed, still.rgb, seen)
        off = telling * (seen - target).abs()
        losses = {"color": off.mean(), "eikonal": c.eikonal * eikonal, "smooth": c.smooth * bend}
        if batch.alpha is not None:
            opacity = out.opacity.clamp(1e-3, 1 - 1e-3)  # the logarithm's gradient stays within a thousand
            losses["mask"] = c.mask * binary_cross_entropy(opacity, batch.alpha[:, 0])
        if batch.alpha is not None and progress < c.carve_until:
            losses["carve"] = (
                c.carve * (1 - progress / c.carve_until) * carving(out.opacity, out.depth, off.detach(), telling)
            )

        # A marched sample costs about a tenth of one that is also differentiated.
        spent, drawn = self.processes.sums(n + 0.1 * marched + 0.5 * cost_behind, rays)
        self.budget.spent(spent, int(drawn))
        error = (out.rgb.detach() - target).square().mean()
        metrics: dict[str, Any] = {"psnr": -10 * torch.log10(error), "sharpness": self.field.sharpness.detach()}
        metrics |= {"eikonal": eikonal.detach(), "samples_per_ray": n / rays, "marched_per_ray": marched / rays}
        return losses, metrics

    def _anneal(self, progress: float) -> None:
        c = self.config
        grown = min(1.0, progress / c.all_levels_at) if c.all_levels_at else 1.0
        self._shown = c.first_levels + (c.levels - c.first_levels) * grown
        self.field.show_levels(self._shown)
        self._views = min(1.0, max(0.0, 5 * (progress - VIEWS_FROM))) if self.scene.has_alpha else 1.0

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        if self.warm_start and (self._warming or self.scene.unbounded):
            self.warm_start.after_step(step, generator)
        if self._warming:
            return
        with torch.no_grad():
            c = self.config
            limit = c.sharpness * (c.sharpness_limit / c.sharpness) ** progress
            self.field.log_s.clamp_(max=math.log(limit))
        if step % GRID_EVERY == 0:
            self.grid.update(self._occupied, step, generator)

    def _occupied(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """1 where rays are sampled, else 0."""
        s, cell = float(self.field.sharpness.detach()), 2 / self.config.grid_resolution
        return in_band(x, self.field.signed_distance(x), s, self.box, cell)

    def _start(self, progress: float, generator: torch.Generator) -> None:
        """Puts the surface where the photos' alpha or the radiance field's depths say it is."""
        self._started = True
        self.grid.keep(self.box)
        self.grid.mark_visible(self.scene.cameras("train"))
        if self.warm_start and not self.scene.unbounded:  # it has done its part; gradients of 0 would still move it
            self.warm_start.zero_grad(set_to_none=True)
        if self.scene.has_alpha:
            x = torch.rand(1 << 20, 3, generator=generator, device=self.box.device)
            x = self.box[0] + (self.box[1] - self.box[0]) * x
            distance = visual_hull([self.scene.views[i] for i in self.scene.split["train"]], x)
        elif self.warm_start and self._warm_until:
            x, distance = self.warm_start.signed_distance(progress)
        else:
            return
        if distance.min() < 0:  # else masks contradict each other, or nothing was found: the sphere is better
            fit_distance(self.field, x, distance, generator, lr=self.config.lr, eikonal=self.config.eikonal)

    # --- pictures and meshes ---

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        if self.warm_start and self._warming:
            return self.warm_start.render(camera, background)
        device = self.box.device
        color = (self.background if background is None else background).to(device)
        return render_packed(camera, lambda o, d: self._shade(o, d, color), device)

    def _shade(self, origins: Tensor, directions: Tensor, background: Tensor) -> Shaded:
        samples, _, leave = self._samples(origins, directions)
        value, _, gradient = self.field.with_gradient(samples.positions)
        thickness, rgb = self._emission(samples, directions, value, gradient)
        out = composite(
            thickness, torch.cat([rgb, gradient], -1), samples.t, torch.ones_like(thickness), samples.offsets,
            early_stop=0.0,
        )  # fmt: skip
        opacity = out.opacity[:, None]
        normal = torch.where(opacity > 0.5, normalize(out.rgb[:, 3:], dim=-1), 0)
        background, _ = self._background(origins, directions, leave, background)
        return Shaded(out.rgb[:, :3] + (1 - opacity) * background, out.opacity, mean_distance(out), normal)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        if self._warming:
            raise UserError(f"There is no surface before {self._warm_until:.0%} of the training; go on with it.")
        device = self.box.device
        hidden = hidden_from(self.scene, self.render, resolution, crop, device, progress)
        mesh = surface_within(
            self.scene, self.field.signed_distance, resolution, crop, device=device, hidden=hidden, progress=progress
        )
        return mesh, self.surface_color

    def surface_color(self, x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        from neural3d.geometry.mesh import seen_from_outside

        def color(x: Tensor, directions: Tensor) -> Tensor:
            return self.field.color(x, directions, self._views)

        return seen_from_outside(color)(x.to(self.box.device), normal.to(self.box.device))
