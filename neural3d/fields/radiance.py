"""A radiance field on a multiresolution hash grid, which knows where space is empty.

Müller, Evans, Schied, Keller: "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", SIGGRAPH 2022.
    σ(x), g(x) = MLP_σ(hash_grid(x)),   c(x, d) = sigmoid(MLP_c(g(x), SH(d)))
An occupancy grid, refreshed while training, tells where samples are worth taking. Unbounded scenes are contracted
(mip-NeRF 360) before the hash grid.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Layers, Width
from neural3d.fields.encodings import contract_to_unit
from neural3d.fields.mlp import MLP, Precision
from neural3d.fields.occupancy import OccupancyGrid
from neural3d.ops.composite import compact_visible
from neural3d.ops.hash_grid import HashGridSpec, hash_grid
from neural3d.ops.ray_march import Samples, ray_march
from neural3d.ops.spherical_harmonics import spherical_harmonics
from neural3d.processes import ALONE, Processes

EARLY_STOP = 1e-4  # transmittance at which a ray ends


@dataclass(frozen=True)
class RadianceConfig:
    """Settings of a `HashRadiance` and of how fast it learns; lengths in scene units."""

    levels: Layers = 16  # of the hash grid
    features: Count = 2  # per level
    log2_table: int = 18  # entries per level at most
    base_resolution: Count = 16  # of the coarsest level
    max_resolution: int = 0  # of the finest; 0: as fine as the photos, 1.5 cells to a pixel
    width: Width = 64  # of the hidden layers
    geometry_features: Width = 16  # outputs of the density network; the first is log density
    color_layers: Layers = 2  # hidden layers of the colour network
    backend: Literal["native", "tcnn"] = "native"  # of the networks; tcnn: tiny-cuda-nn in half precision, CUDA only
    precision: Precision = "float32"  # of the networks' products; bfloat16: on tensor cores (compute capability 8.0)

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


@dataclass(frozen=True)
class Steps:
    """Steps along rays are max(shortest, cone · t) long at the distance t, in scene units."""

    shortest: float
    cone: float
    at_subject: float  # length at the cameras' median distance from the subject


class HashRadiance(nn.Module):
    """See the module's docstring. `render.packed` sizes it by a scene's photos and makes pictures of it.

    finest: cells along the grid's cube at its finest level, where the config does not say. steps: along rays, once
    space is known. near: the nearest distance, where the config does not say. reach: the farthest distance of an
    unbounded scene, in scene units; None: bounded, everything lies in [-1, 1]³.
    """

    processes: Processes = ALONE

    def __init__(self, config: RadianceConfig, *, finest: int, steps: Steps, near: float, reach: float | None):
        super().__init__()
        self.config = c = config
        self.spec = HashGridSpec(
            levels=c.levels, features=c.features, log2_table=c.log2_table, base_resolution=c.base_resolution,
            max_resolution=c.max_resolution or finest,
        )  # fmt: skip
        self.table = nn.Parameter((torch.rand(self.spec.entries, c.features) * 2 - 1) * 1e-4)
        kind: dict[str, Any] = dict(backend=c.backend, precision=c.precision)
        self.density_net = MLP(c.levels * c.features, c.geometry_features, c.width, 1, **kind)
        self.color_net = MLP(c.geometry_features + 16, 3, c.width, c.color_layers, output_activation="sigmoid", **kind)
        self.steps, self.near, self.unbounded = steps, c.near or near, reach is not None
        self.cascades = max(1, math.ceil(math.log2(reach or 1.0)) + 1)
        self.grid = OccupancyGrid(
            resolution=c.grid_resolution,
            levels=self.cascades,
            threshold=c.grid_thickness / steps.at_subject,
            budget=c.grid_budget,
        )
        self.set_stride(0)
        self._seen: tuple[Tensor, Tensor, float]  # the last batch's marched positions, densities and samples a ray

    def param_groups(self) -> list[dict[str, Any]]:
        """For `neural3d.ops.adam.Adam`."""
        c = self.config
        common = dict(lr=c.lr, lr_final=c.lr_final, betas=(0.9, c.beta2), eps=1e-15)
        return [
            dict(params=[self.table], skip_untouched=True, by_rows=True, **common),
            dict(params=[*self.density_net.parameters(), *self.color_net.parameters()], **common),
        ]

    # --- long steps at the start ---

    def set_stride(self, stride: int) -> None:
        """Makes steps, and the finest cells shown, this many times as long as the final ones; 0: not yet measured.

        While space is fog, long steps empty it at a fraction of the cost, of smooth densities: what is smaller than a
        step, samples would only meet by chance.
        """
        self.stride = stride
        finest = 1.01 * self.spec.scales[-1] / max(stride, 1)  # 1.01: rounding must not hide the last level
        shown = tuple(float(scale <= finest) for scale in (0.0, *self.spec.scales[1:]))
        self.spec = dataclasses.replace(self.spec, level_weights=shown)

    def _first_stride(self, origins: Tensor, directions: Tensor, start: Tensor) -> int:
        """The least power of two at which these rays take no more than `coarse_samples` each."""
        stride = 1
        while len(self.march(origins, directions, start, stride=stride)) > self.config.coarse_samples * len(start):
            stride *= 2
        return int(self.processes.most(stride))

    # --- the field ---

    def evaluate(self, positions: Float[Tensor, "S 3"]) -> tuple[Float[Tensor, "S"], Float[Tensor, "S G"]]:
        """exp of the density network's first output, and all its outputs, which the colour network sees.

        That exponential is density per unit of contracted length. In the distance of an unbounded scene a contracted
        unit is many scene units long, so that "some haze everywhere", where training starts, stays transparent.
        """
        unit = contract_to_unit(positions) if self.unbounded else (positions + 1) / 2
        outputs = self.density_net(hash_grid(unit, self.table, self.spec, table_grad=self.table.grad))
        # exp grows without bound; beyond e¹⁵ every step is opaque and gradients would only overflow.
        return torch.exp(outputs[:, 0].clamp(max=15)), outputs

    def _in_scene_units(self, contracted: Float[Tensor, "S"], positions: Float[Tensor, "S 3"]) -> Float[Tensor, "S"]:
        """Density in 1 / scene unit: outside [-1, 1]³ a scene unit at x holds 1 / |x|∞ contracted ones (across)."""
        return contracted / positions.abs().amax(-1).clamp(min=1) if self.unbounded else contracted

    @torch.no_grad()
    def density(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """In 1 / scene unit."""
        return self._in_scene_units(self.evaluate(positions)[0], positions)

    @torch.no_grad()
    def color(self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self.color_net((self.evaluate(positions)[1], spherical_harmonics(directions)))

    def emission(
        self, samples: Samples, directions: Float[Tensor, "R 3"], positions: Float[Tensor, "S 3"] | None = None
    ) -> tuple[Float[Tensor, "S"], Float[Tensor, "S 3"]]:
        """Density in 1 / scene unit and colour of samples along rays of these directions.

        positions: theirs, where gradients are to reach the rays.
        """
        contracted, outputs = self.evaluate(samples.positions if positions is None else positions)
        rgb = self.color_net((outputs, spherical_harmonics(directions).index_select(0, samples.ray)))
        return self._in_scene_units(contracted, samples.positions), rgb

    @torch.no_grad()
    def normals(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Unit normals, against the density's gradient, by central differences over twice the sampling step.

        Differences at the scale the field was sampled at: the exact gradient of the finest hash levels is mostly noise.
        """
        h = 2 * self.steps.at_subject
        offsets = h * torch.eye(3, device=positions.device)
        gradient = [torch.log(self.density(positions + e)) - torch.log(self.density(positions - e)) for e in offsets]
        return -nn.functional.normalize(torch.stack(gradient, -1), dim=-1)

    # --- samples along rays ---

    def nearest(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
        """Where rays start."""
        return torch.full_like(origins[:, 0], self.near)

    @torch.no_grad()
    def samples(
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
        start = self.nearest(origins, directions) if start is None else start
        if self.training and not self.stride:
            self.set_stride(self._first_stride(origins, directions, start))
        marched = self.march(origins, directions, start, jitter)
        contracted = self.evaluate(marched.positions)[0]
        if self.training:
            self._seen = marched.positions, contracted, len(marched) / len(start)
        return compact_visible(marched, self._in_scene_units(contracted, marched.positions), EARLY_STOP)[0], len(
            marched
        )

    def march(
        self, origins: Tensor, directions: Tensor, start: Tensor, jitter: Tensor | None = None, stride: int = 0
    ) -> Samples:
        """Samples in occupied space from distances `start` on. stride: instead of the present one."""
        stride = stride or max(self.stride, 1)
        step = stride * self.steps.shortest
        return ray_march(
            origins, directions, start, torch.full_like(start, math.inf), self.grid.bits,
            step_min=step, step_max=step * 2 ** (self.cascades - 1), cone_angle=min(stride * self.steps.cone, 0.5),
            jitter=jitter, max_samples_per_ray=self.config.max_samples,
        )  # fmt: skip

    def refresh(self, step: int, generator: torch.Generator) -> None:
        """After a training step: learns what space is empty, from the samples just taken and from random ones."""
        positions, contracted, marched_per_ray = self._seen
        if step % 4 == 0:
            self.grid.observe(positions, contracted)
        if step % self.config.grid_every == 0:
            self.grid.update(lambda x: self.evaluate(x)[0], step, generator)
            marched_per_ray = self.processes.sums(marched_per_ray)[0] / self.processes.count
            if self.stride > 1 and 2 * marched_per_ray <= self.config.coarse_samples:
                self.set_stride(self.stride // 2)  # empty enough for steps half as long, which take twice the samples
