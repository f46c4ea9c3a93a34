"""A radiance field on a multiresolution hash grid, skipping empty space.

Müller, Evans, Schied, Keller: "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", SIGGRAPH 2022.
    σ(x), g(x) = MLP_σ(hash_grid(x)),   c(x, d) = sigmoid(MLP_c(g(x), SH(d)))
Colours are integrated by emission and absorption along rays; an occupancy grid, refreshed while training, tells where
samples are worth taking. Unbounded scenes are contracted (mip-NeRF 360) before the hash grid.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Layers, Width
from neural3d.fields.encodings import contract_to_unit
from neural3d.fields.mlp import MLP
from neural3d.fields.occupancy import OccupancyGrid
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.methods.base import Method
from neural3d.ops.composite import Composite, compact_visible, composite
from neural3d.ops.hash_grid import HashGridSpec, hash_grid
from neural3d.ops.ray_march import Samples, ray_march, ray_points
from neural3d.ops.spherical_harmonics import spherical_harmonics
from neural3d.render import RenderOut
from neural3d.scene.footprint import photo_resolution, photo_steps

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.ops.adam import Adam
    from neural3d.scene import Scene

EARLY_STOP = 1e-4  # transmittance at which a ray ends


@dataclass(frozen=True)
class NgpConfig:
    """Settings of `ngp`; lengths are in scene units, in which the region of interest spans [-1, 1]."""

    horizon: Count = 5000  # step at which learning rates reach their final value
    samples_per_batch: Count = 1 << 16  # samples along rays that a step aims at; rays follow from it

    levels: Layers = 16  # of the hash grid
    features: Count = 2  # per level
    log2_table: int = 18  # entries per level at most
    base_resolution: Count = 16  # of the coarsest level
    max_resolution: int = 0  # of the finest; 0: as fine as the photos, 1.5 cells to a pixel
    width: Width = 64  # of the hidden layers
    geometry_features: Width = 16  # outputs of the density network; the first is log density
    color_layers: Layers = 2  # hidden layers of the colour network
    backend: Literal["native", "tcnn"] = "native"  # of the networks; tcnn: tiny-cuda-nn in half precision, CUDA only

    grid_resolution: Count = 64  # cells along each axis of an occupancy cascade
    grid_every: Count = 16  # steps between refreshes of the occupancy grid
    grid_budget: Count = 1 << 18  # density evaluations per refresh
    grid_thickness: float = 0.1  # optical thickness of a step at the subject above which a cell counts as occupied
    steps_per_unit: float = 128.0  # samples per unit of length at most: four to a cell of the finest cascade
    footprints: float = 6.0  # unbounded scenes: length of a step in widths of a pixel there, where that is longer
    coarse_samples: Count = 96  # a ray at most while space is still fog: steps are as many times longer as that takes
    max_samples: Count = 512  # per ray
    near: float = 0.0  # nearest distance; 0: the scene's

    lr: float = 1e-2  # of the hash grid and the networks
    lr_final: float = 3e-4
    beta2: float = 0.99
    distortion: float = 0.01  # weight of mip-NeRF 360's distortion loss, against floaters
    random_background: bool = True  # alpha images: a fresh background colour per ray, so that empty means transparent
    exposure: bool = False  # a colour gain per training photo
    refine_poses: bool = False  # camera poses move with the scene


class Ngp(Method):
    """See the module's docstring."""

    Config = NgpConfig
    background: Tensor  # what alpha images are composited on when nothing else is asked for

    def __init__(self, config: NgpConfig, scene: Scene):
        super().__init__(config, scene)
        c = config
        self.spec = HashGridSpec(
            levels=c.levels, features=c.features, log2_table=c.log2_table, base_resolution=c.base_resolution,
            max_resolution=c.max_resolution or photo_resolution(scene, side=4 if scene.unbounded else 2),
        )  # fmt: skip
        self.table = nn.Parameter((torch.rand(self.spec.entries, c.features) * 2 - 1) * 1e-4)
        self.density_net = MLP(c.levels * c.features, c.geometry_features, c.width, 1, backend=c.backend)
        self.color_net = MLP(
            c.geometry_features + 16, 3, c.width, c.color_layers, output_activation="sigmoid", backend=c.backend
        )

        self.steps = photo_steps(scene, c.footprints, 1 / c.steps_per_unit)
        reach = 1.0 if not scene.unbounded else scene.far
        self.cascades = max(1, math.ceil(math.log2(reach)) + 1)
        self.near = c.near or scene.near
        self.grid = OccupancyGrid(
            resolution=c.grid_resolution,
            levels=self.cascades,
            threshold=c.grid_thickness / self.steps.at_subject,
            budget=c.grid_budget,
        )
        self.register_buffer("background", torch.zeros(3) if scene.background == "black" else torch.ones(3))
        n = len(scene.split["train"])
        if c.exposure:
            self.log_gain = nn.Parameter(torch.zeros(n, 3))
        if c.refine_poses:
            self.pose_delta = nn.Parameter(torch.zeros(n, 6))
        self._rays = 512
        self._set_stride(0)
        self._seen: tuple[Tensor, Tensor, float]  # the last batch's marched positions, densities and samples a ray

    @property
    def batch_size(self) -> int:
        return self._rays

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        common = dict(lr=c.lr, lr_final=c.lr_final, betas=(0.9, c.beta2), eps=1e-15)
        groups = [
            dict(params=[self.table], skip_untouched=True, **common),
            dict(params=[*self.density_net.parameters(), *self.color_net.parameters()], **common),
        ]
        if c.exposure:
            groups.append(dict(params=[self.log_gain], lr=1e-3, lr_final=1e-4))
        if c.refine_poses:
            groups.append(dict(params=[self.pose_delta], lr=3e-4, lr_final=3e-6))
        return groups

    def extra_state(self) -> dict[str, Any]:
        return {"rays": self._rays, "stride": self._stride}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._rays = state["rays"]
        self._set_stride(state["stride"])

    # --- long steps at the start ---

    def _set_stride(self, stride: int) -> None:
        """Makes steps, and the finest cells shown, this many times as long as the final ones; 0: not yet measured.

        While space is fog, long steps empty it at a fraction of the cost, of smooth densities: what is smaller than a
        step, samples would only meet by chance.
        """
        self._stride = stride
        finest = 1.01 * self.spec.scales[-1] / max(stride, 1)  # 1.01: rounding must not hide the last level
        shown = tuple(float(scale <= finest) for scale in (0.0, *self.spec.scales[1:]))
        self.spec = dataclasses.replace(self.spec, level_weights=shown)

    def _first_stride(self, origins: Tensor, directions: Tensor, start: Tensor) -> int:
        """The least power of two at which these rays take no more than `coarse_samples` each."""
        stride = 1
        while len(self._march(origins, directions, start, stride=stride)) > self.config.coarse_samples * len(start):
            stride *= 2
        return stride

    # --- the field ---

    def _field(self, positions: Float[Tensor, "S 3"]) -> tuple[Float[Tensor, "S"], Float[Tensor, "S G"]]:
        """exp of the network's first output, and all its outputs, which the colour network sees.

        That exponential is density per unit of contracted length. In the distance of an unbounded scene a contracted
        unit is many scene units long, so that "some haze everywhere", where training starts, stays transparent.
        """
        unit = contract_to_unit(positions) if self.scene.unbounded else (positions + 1) / 2
        outputs = self.density_net(hash_grid(unit, self.table, self.spec, table_grad=self.table.grad))
        # exp grows without bound; beyond e¹⁵ every step is opaque and gradients would only overflow.
        return torch.exp(outputs[:, 0].clamp(max=15)), outputs

    def _density(self, contracted: Float[Tensor, "S"], positions: Float[Tensor, "S 3"]) -> Float[Tensor, "S"]:
        """Density in 1 / scene unit: outside [-1, 1]³ a scene unit at x holds 1 / |x|∞ contracted ones (across)."""
        return contracted / positions.abs().amax(-1).clamp(min=1) if self.scene.unbounded else contracted

    def _radiance(self, outputs: Float[Tensor, "S G"], view_basis: Float[Tensor, "S 16"]) -> Float[Tensor, "S 3"]:
        return self.color_net((outputs, view_basis))

    @torch.no_grad()
    def density(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return self._density(self._field(positions)[0], positions)

    @torch.no_grad()
    def color(self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self._radiance(self._field(positions)[1], spherical_harmonics(directions))

    @property
    def surface_density(self) -> float:
        """Where half the light is lost within eight sampling steps."""
        return math.log(2) * self.config.steps_per_unit / 8

    # --- samples along rays ---

    def _nearest(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
        """Where rays start."""
        return torch.full_like(origins[:, 0], self.near)

    @torch.no_grad()
    def _samples(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        jitter: Float[Tensor, "R"] | None = None,
        start: Float[Tensor, "R"] | None = None,
    ) -> tuple[Samples, int]:
        """Samples in occupied space that light still reaches, and how many there were before that test.

        Density alone is cheap: finding where rays end first spares the gradients and colours of all that is hidden.
        start: nearest distance.
        """
        start = self._nearest(origins, directions) if start is None else start
        if self.training and not self._stride:
            self._set_stride(self._first_stride(origins, directions, start))
        marched = self._march(origins, directions, start, jitter)
        contracted = self._field(marched.positions)[0]
        if self.training:
            self._seen = marched.positions, contracted, len(marched) / len(start)
        return compact_visible(marched, self._density(contracted, marched.positions), EARLY_STOP)[0], len(marched)

    def _march(
        self, origins: Tensor, directions: Tensor, start: Tensor, jitter: Tensor | None = None, stride: int = 0
    ) -> Samples:
        """Samples in occupied space from distances `start` on. stride: instead of the present one."""
        stride = stride or max(self._stride, 1)
        step = stride * self.steps.shortest
        return ray_march(
            origins, directions, start, torch.full_like(start, math.inf), self.grid.bits,
            step_min=step, step_max=step * 2 ** (self.cascades - 1), cone_angle=min(stride * self.steps.cone, 0.5),
            jitter=jitter, max_samples_per_ray=self.config.max_samples,
        )  # fmt: skip

    def emission(
        self, samples: Samples, directions: Float[Tensor, "R 3"], positions: Float[Tensor, "S 3"] | None = None
    ) -> tuple[Float[Tensor, "S"], Float[Tensor, "S 3"]]:
        """Density in 1 / scene unit and colour of samples along rays of these directions.

        positions: theirs, where gradients are to reach the rays.
        """
        contracted, outputs = self._field(samples.positions if positions is None else positions)
        rgb = self._radiance(outputs, spherical_harmonics(directions).index_select(0, samples.ray))
        return self._density(contracted, samples.positions), rgb

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        origins, directions = self._refined(batch) if c.refine_poses else (batch.origins, batch.directions)
        device = origins.device
        jitter = torch.rand(len(batch), generator=generator, device=device)
        samples, marched = self._samples(origins.detach(), directions.detach(), jitter)
        positions = ray_points(origins, directions, samples) if c.refine_poses else samples.positions

        sigma, rgb = self.emission(samples, directions, positions)
        if c.random_background and (self.scene.has_alpha or self.scene.background is None):
            background = torch.rand(len(batch), 3, generator=generator, device=device)
        else:
            background = self.background.expand(len(batch), 3)
        t, dt = samples.t, samples.dt
        if self.scene.unbounded:  # the same optical thickness σ dt over contracted distance, for the distortion loss
            warp = t.clamp(min=1) ** -2
            t, dt, sigma = torch.where(t > 1, 2 - 1 / t, t), dt * warp, sigma / warp
        out = composite(sigma, rgb, t, dt, samples.offsets, background=background, early_stop=EARLY_STOP)
        color = out.rgb
        if c.exposure:  # gains are relative: their mean is what a viewer sees
            color = color * torch.exp(self.log_gain - self.log_gain.mean(0))[batch.view]
        target = batch.rgb if batch.alpha is None else batch.rgb * batch.alpha + background * (1 - batch.alpha)
        error = ((color - target) ** 2).mean()
        losses = {"color": error}
        if c.distortion:
            losses["distortion"] = c.distortion * out.distortion.mean()

        # The next batch's rays: a marched sample costs about a fifth of one that is also differentiated.
        cost = max(1, len(samples) + 0.2 * marched) / len(batch)
        self._rays = int(min(max(0.8 * self._rays + 0.2 * c.samples_per_batch / cost, 128), 1 << 16))
        figures = {"psnr": -10 * torch.log10(error.detach()), "samples_per_ray": len(samples) / len(batch)}
        figures["marched_per_ray"] = marched / len(batch)
        return losses, figures

    def _refined(self, batch: RayBatch) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """The batch's rays after each view's correction: a rotation about the camera's centre and a translation."""
        delta = self.pose_delta[batch.view]
        rotation = rotation_from_axis_angle(delta[:, :3])
        return batch.origins + delta[:, 3:], (rotation @ batch.directions[..., None])[..., 0]

    def after_step(self, step: int, progress: float, generator: torch.Generator, optimizer: Adam) -> None:
        if step == 0:
            self.grid.mark_visible(self.scene.cameras("train"))
        positions, contracted, marched_per_ray = self._seen
        if step % 4 == 0:
            self.grid.observe(positions, contracted)
        if step % self.config.grid_every == 0:
            self.grid.update(lambda x: self._field(x)[0], step, generator)
            if self._stride > 1 and 2 * marched_per_ray <= self.config.coarse_samples:
                self._set_stride(self._stride // 2)  # empty enough for steps half as long, which take twice the samples

    # --- pictures and meshes ---

    @torch.no_grad()
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        color = (self.background if background is None else background).to(self.table.device)
        return self._picture(camera, lambda o, d, z: self._render_rays(o, d, z, color))

    @torch.no_grad()
    def depths(self, camera: Camera) -> RenderOut:
        """Opacity and depth alone, at the cost of one density a sample; colours and normals are 0."""
        return self._picture(camera, self._depth_rays)

    def _picture(self, camera: Camera, render_rays: Callable[..., tuple[Tensor, ...]]) -> RenderOut:
        origins, directions = (x.reshape(-1, 3).to(self.table.device) for x in camera.rays())
        z = directions @ camera.forward.float().to(directions)
        parts = []
        for o, d, cos in zip(origins.split(1 << 13), directions.split(1 << 13), z.split(1 << 13)):
            parts.append(render_rays(o.contiguous(), d.contiguous(), cos))
        size = (camera.height, camera.width)
        return RenderOut(*(torch.cat(p).reshape(*size, -1) for p in zip(*parts)))

    def _depth_rays(self, origins: Tensor, directions: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """As `_render_rays`."""
        samples = self._march(origins, directions, self._nearest(origins, directions))
        nothing = torch.zeros_like(samples.positions)
        out = composite(self.density(samples.positions), nothing, samples.t, samples.dt, samples.offsets)
        return out.rgb, out.opacity[:, None], _z_depth(out, z), torch.zeros_like(directions)

    def _render_rays(self, origins: Tensor, directions: Tensor, z: Tensor, background: Tensor) -> tuple[Tensor, ...]:
        """rgb, alpha, z-depth, normal of R rays."""
        samples, _ = self._samples(origins, directions)
        sigma, rgb = self.emission(samples, directions)
        out = composite(sigma, rgb, samples.t, samples.dt, samples.offsets, background=background)
        hit = out.opacity > 0.5
        distance = out.depth / out.opacity.clamp(min=1e-6)
        normal = torch.zeros_like(directions)
        normal[hit] = self.normals((origins + distance[:, None] * directions)[hit])
        return out.rgb, out.opacity[:, None], _z_depth(out, z), normal

    @torch.no_grad()
    def normals(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Unit normals, against the density's gradient, by central differences over twice the sampling step.

        Differences at the scale the field was sampled at: the exact gradient of the finest hash levels is mostly noise.
        """
        h = 2 * self.steps.at_subject
        offsets = h * torch.eye(3, device=positions.device)
        gradient = [torch.log(self.density(positions + e)) - torch.log(self.density(positions - e)) for e in offsets]
        return -nn.functional.normalize(torch.stack(gradient, -1), dim=-1)


def _z_depth(out: Composite, z: Float[Tensor, "R"]) -> Float[Tensor, "R 1"]:
    """Expected depth along the camera's axis, 0 where nothing is hit. z: of the rays' unit directions."""
    return torch.where(out.opacity > 1e-3, out.depth / out.opacity.clamp(min=1e-6) * z, 0)[:, None]
