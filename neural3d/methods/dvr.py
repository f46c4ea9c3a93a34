"""A surface with colours, carved and textured from photos and silhouettes by implicit differentiation.

Niemeyer, Mescheder, Oechsle, Geiger: "Differentiable Volumetric Rendering: Learning Implicit 3D Representations without
3D Supervision", CVPR 2020. Of one scene; the shape is an occupancy o(x) in (0, 1), the colour c(x) depends on the
position only. A ray is marched until o exceeds τ, the secant method finds the surface point p̂, and c(p̂) is compared
with the photo; p̂ is differentiated implicitly (`neural3d.render.surface.implicit_point`). Where silhouette and surface
disagree there is no p̂ to move: rays through the subject that miss ask for matter, rays past it that hit for space.
To this we add carving (`losses.carving_force`): hollows that silhouettes do not show stay filled without it.

The published network is one large MLP on points. Here both functions are hash grids with small networks, which learn
within minutes: a coarse grid for the shape, so that it stays smooth, a fine one for the colour.
    logit o(x) = s(x) + MLP_o(hash_grid_o(x)),   c(x) = sigmoid(MLP_c(hash_grid_c(x))),   s: the ellipsoid in the box
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, normalize, softplus

from neural3d.config import Count, Layers, Width
from neural3d.data.silhouettes import SilhouetteSource
from neural3d.fields.mlp import MLP
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rays import box_span
from neural3d.losses import carving_force
from neural3d.methods.abilities import Meshable, Renderable
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.ops.hash_grid import HashGridSpec, hash_grid
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import hidden_from, surface_within
from neural3d.render.surface import Field, first_crossing, implicit_point, render_surface
from neural3d.scene.footprint import photo_resolution

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.geometry.mesh import Colors, Mesh
    from neural3d.scene import Scene

SHARPNESS = 10.0  # 1/unit: how fast the logit of the first shape falls across its surface
CELLS, REFRESH = 64, 32  # along the box's sides, of the map that marches look at first; steps between its renewals
MARGIN = 3.0  # a cell is taken for empty where all logits around it are that far below the surface's
TETRAHEDRON = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class DvrConfig:
    """Settings of `dvr`; lengths are in scene units, in which the region of interest spans [-1, 1]."""

    horizon: Count = 8000  # step at which learning rates reach their final value
    rays: Count = 2048  # per step, half of them through the subject
    mask_threshold: float = 0.0  # opaque photos: brightness, 0 to 1, that tells the subject from black; 0: need alpha
    tau: float = 0.5  # occupancy of the surface

    steps: Count = 128  # of the march across the box; an eighth of it at first, doubled three times
    secant_steps: int = 8
    refine_until: float = 0.6  # share of the horizon in which the steps shrink and the shape's finer levels appear

    levels: Layers = 8  # of the shape's hash grid
    base_resolution: Count = 8  # of its coarsest level
    max_resolution: Count = 128  # of its finest
    color_levels: Layers = 8  # of the colour's hash grid
    color_resolution: int = 0  # of its finest level; 0: as fine as the photos, 1.5 cells to a pixel
    log2_table: int = 18  # entries per level at most
    width: Width = 64  # of the hidden layers

    samples: Count = 2  # rays along each side of a pixel, in pictures

    color: float = 3.0  # weight of the photos, L1
    occupancy: float = 1.0  # weight of rays through the subject that miss the surface
    freespace: float = 1.0  # weight of rays past the subject
    carve: float = 0.3  # weight of the force that moves surfaces away from cameras where photos disagree; 0: none
    carve_until: float = 0.6  # share of the horizon over which it fades to 0; 0: no such force
    normal: float = 0.02  # weight of differences between neighbouring normals
    normal_reach: float = 0.03  # how far neighbours are

    lr: float = 1e-2
    lr_final: float = 3e-4


@functools.lru_cache(maxsize=4)
def _first_levels(spec: HashGridSpec, count: float) -> HashGridSpec:
    """The spec with its later levels switched off, the last one in use partly."""
    return dataclasses.replace(spec, level_weights=tuple(min(1.0, max(0.0, count - k)) for k in range(spec.levels)))


class Dvr(Method, Renderable, Meshable):
    """See the module's docstring. Everything lies in the scene's box; rays beside it see the background."""

    Config = DvrConfig
    visible: Float[Tensor, ""]  # how many of the shape's levels are in use
    background: Float[Tensor, "3"]
    frame: Float[Tensor, "2 3"]  # middle and half sides of the box
    map: Float[Tensor, "C C C"]  # largest logit in and around a cell of the box

    def __init__(self, config: DvrConfig, scene: Scene):
        super().__init__(config, scene)
        c = config
        self.shape_spec = HashGridSpec(
            levels=c.levels, log2_table=c.log2_table, base_resolution=c.base_resolution, max_resolution=c.max_resolution
        )
        self.color_spec = HashGridSpec(
            levels=c.color_levels, log2_table=c.log2_table, base_resolution=16,
            max_resolution=c.color_resolution or photo_resolution(scene, side=2),
        )  # fmt: skip
        self.shape_table = nn.Parameter((torch.rand(self.shape_spec.entries, 2) * 2 - 1) * 1e-4)
        self.color_table = nn.Parameter((torch.rand(self.color_spec.entries, 2) * 2 - 1) * 1e-4)
        self.shape_net = MLP(self.shape_spec.width, 1, c.width, 1)
        self.color_net = MLP(self.color_spec.width, 3, c.width, 2, output_activation="sigmoid")
        low, high = scene.aabb
        self.register_buffer("frame", torch.stack([(low + high) / 2, (high - low) / 2]))
        self.register_buffer("map", torch.zeros(CELLS, CELLS, CELLS))
        self.register_buffer("visible", torch.tensor(float(c.levels)))
        self.register_buffer("background", torch.full((3,), 0.0 if scene.background == "black" else 1.0))

    def source(self, scene: Scene, device: torch.device) -> SilhouetteSource:
        return SilhouetteSource(scene, device, self.config.mask_threshold)

    @property
    def batch_size(self) -> int:
        return self.config.rays

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        common = dict(lr=c.lr, lr_final=c.lr_final, betas=(0.9, 0.99), eps=1e-15)
        networks = [*self.shape_net.parameters(), *self.color_net.parameters()]
        tables = [self.shape_table, self.color_table]
        return [dict(params=tables, skip_untouched=True, **common), dict(params=networks, **common)]

    # --- the fields ---

    @property
    def level(self) -> float:
        """The logit of τ."""
        return math.log(self.config.tau / (1 - self.config.tau))

    def logit(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """log(o / (1 − o)); the surface is where it is `level`."""
        middle, half = self.frame
        first = self.level + SHARPNESS * half.min() * (1 - ((x - middle) / half).norm(dim=-1))
        spec = _first_levels(self.shape_spec, float(self.visible))
        features = hash_grid((x + 1) / 2, self.shape_table, spec, table_grad=self.shape_table.grad)
        return first + self.shape_net(features)[:, 0]

    def _survey(self) -> Float[Tensor, "C C C"]:
        """The map of the present field: logits at the cells' middles, each cell's the largest of its 27 neighbours'."""
        middle, half = self.frame
        ticks = (torch.arange(CELLS, device=half.device) + 0.5) * (2 / CELLS) - 1
        planes = [
            self.logit(middle + half * torch.cartesian_prod(x, ticks, ticks)).view(1, CELLS, CELLS)
            for x in ticks.split(1)
        ]
        return max_pool3d(torch.cat(planes)[None], 3, stride=1, padding=1)[0]

    def _quick_logit(self, survey: Float[Tensor, "C C C"]) -> Field:
        """The logit for marches: where all is empty, the map's value serves, as far below the level as any there."""
        middle, half = self.frame
        least = self.level - MARGIN

        def logit(x: Tensor) -> Tensor:
            i, j, k = (((x - middle) / half + 1) * (CELLS / 2)).long().clamp_(0, CELLS - 1).unbind(-1)
            value = survey.view(-1)[(i * CELLS + j) * CELLS + k]
            near = (value > least).nonzero()[:, 0]
            value[near] = self.logit(x[near])
            return value

        return logit

    def _rgb(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        features = hash_grid((x + 1) / 2, self.color_table, self.color_spec, table_grad=self.color_table.grad)
        return self.color_net(features)

    def normals(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Outward unit normals by differences over ±h to the corners of a tetrahedron; differentiable once.

        h: a cell of the shape's finest level. Inside a cell the exact gradient is that of a polynomial fitted to eight
        numbers; across a cell it is that of the shape.
        """
        h = 2 / self.config.max_resolution / math.sqrt(3)
        corners = x.new_tensor(TETRAHEDRON)
        values = self.logit((x[:, None] + h * corners).view(-1, 3)).view(-1, 4)
        return -normalize(values @ corners, dim=-1)

    @torch.no_grad()
    def color(self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self._rgb(positions)

    # --- training ---

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        assert batch.alpha is not None
        for table in (self.shape_table, self.color_table):
            if (
                table.grad is None
            ):  # several terms add to it, in place, in the first step after a resume as in any other
                table.grad = torch.zeros_like(table)
        stage = min(1.0, progress / c.refine_until)
        self.visible.fill_(min(c.levels, 4 + stage * (c.levels - 4)))
        near, far = box_span(batch.origins, batch.directions, self.scene.aabb.to(batch.origins))
        kept = (far > near).nonzero()[:, 0]
        near, far = near[kept], far[kept]
        o, d, rgb, subject = (x[kept] for x in (batch.origins, batch.directions, batch.rgb, batch.alpha[:, 0] > 0.5))
        u = torch.rand(2, len(o), generator=generator, device=o.device)
        steps = max(1, c.steps >> (3 - min(3, int(4 * stage))))
        hits = first_crossing(
            self._quick_logit(self.map), o, d, near, far,
            steps=steps, level=self.level, secant_steps=c.secant_steps, jitter=u[0],
        )  # fmt: skip
        seen = (subject & hits.hit).nonzero()[:, 0]
        missed = (subject & ~hits.hit & ~hits.inside).nonzero()[:, 0]
        empty = (~subject).nonzero()[:, 0]

        point = implicit_point(self.logit, o[seen], d[seen], hits.t[seen])
        difference = self._rgb(point) - rgb[seen]
        # Rays past the subject: where they hit, else anywhere on their way.
        t = torch.where(hits.hit, hits.t, torch.where(hits.inside, near, near + u[1] * (far - near)))
        doubtful = torch.cat([missed, empty])
        logits = self.logit(o[doubtful] + torch.cat([hits.closest[missed], t[empty]])[:, None] * d[doubtful])
        count = max(1, len(o))
        losses = {
            "color": c.color * difference.abs().mean(-1).sum() / count,
            "occupancy": c.occupancy * softplus(-logits[: len(missed)]).sum() / count,
            "freespace": c.freespace * softplus(logits[len(missed) :]).sum() / count,
        }
        if progress < c.carve_until:
            force = carving_force(difference.detach().abs().mean(-1), torch.ones_like(seen, dtype=rgb.dtype))
            fade = 1 - progress / c.carve_until
            losses["carve"] = c.carve * fade * (force * (point * d[seen]).sum(-1)).sum() / count
        if c.normal:
            x = point.detach()
            nearby = x + c.normal_reach * (torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1)
            here, there = self.normals(torch.cat([x, nearby])).chunk(2)
            losses["normal"] = c.normal * (here - there).square().sum(-1).sum() / count
        squared = difference.detach().square()
        figures = {
            "psnr": lambda: -10 * torch.log10(squared.sum() / max(1, squared.numel())),  # of what is seen
            "silhouette": (subject == hits.hit).float().mean(),  # share of rays that hit or miss rightly
        }
        return losses, figures

    @torch.no_grad()
    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        if step % REFRESH == 0:
            self.map.copy_(self._survey())

    # --- pictures and meshes ---

    @torch.no_grad()
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        box = self.scene.aabb.to(self.frame)
        return render_surface(
            self._quick_logit(self._survey()),
            camera,
            box,
            level=self.level,
            steps=self.config.steps,
            color=self.color,
            normals=self.normals,
            background=self.background if background is None else background,
            samples=self.config.samples,
        )

    @torch.no_grad()
    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """As `Meshable.surface`. Cavities that no camera could see, of which training learns nothing, are filled."""
        device = self.frame.device
        mesh = surface_within(
            self.scene,
            lambda x: torch.sigmoid(self.logit(x)),
            resolution,
            crop,
            device=device,
            level=self.config.tau,
            hidden=hidden_from(self.scene, self.render, resolution, crop, device, progress),
            progress=progress,
        )
        return mesh, self.surface_color

    def surface_color(self, x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return self._rgb(x.to(self.frame.device))
