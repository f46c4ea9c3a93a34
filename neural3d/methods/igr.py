"""A surface from a point cloud, which may be noisy, uneven, have gaps and lack normals; closed, or open and trimmed.

Implicit geometric regularisation (Gropp, Yariv, Haim, Atzmon & Lipman, ICML 2020): f vanishes at the points xᵢ, its
gradient there is the normal nᵢ, and elsewhere it has unit length,

    L = mean f(xᵢ)² + τ mean ‖∇f(xᵢ) − nᵢ‖² + λ E (‖∇f‖ − 1)²,

f starting as a sphere. To this we add what a cloud with noise asks for, all of it decided by the cloud:

- bending, h⁴ E ‖∇²f‖² around the surface. With f² at the points this makes a smoothing spline, which averages noise
  over the length h. Of noise σ (which quadric fits find, `geometry.clouds.noise`) in points s apart it leaves
  σ s / 4h, and what it takes from the shape grows as h² at creases: together least for h in proportion to (σ s)^⅓.
  That is the usual h; where the cloud is flatter, or more bent, it is longer or shorter (`geometry.smoothing`).
  Differences of ∇f are taken along the surface alone: f has a ridge within walls, which is no bending of theirs.
- Less λ for exact points. Within a wall the ridge of f may first come to lie beside the middle, where the network can
  bend; between, f falls where it should rise, both with unit slope, and λ would hold it there and shift both sides.
- Normals that were not given come from planes through neighbours; which way they point is decided for all points at
  once (`geometry.orientation`). They average far more points than those they are at, and count to the end.
- Where these normals leave no doubt on which side a point of space is, f has that sign, and at least the distance to
  where there is doubt. Walls thinner than what can be told apart are left to the points and their normals.
- A surface whose openings fill much of what its points see behind them (`CloudSource.openness`), or whose walls are
  thinner than their noise (`geometry.orientation`), is open: it is trimmed where there are no points
  (`geometry.support`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.config import Count, Layers, Width
from neural3d.data.clouds import CloudBatch, CloudSource
from neural3d.errors import UserError
from neural3d.fields.sdf import FourierSDF, HashSDF
from neural3d.geometry.cameras import Camera
from neural3d.geometry.support import Support
from neural3d.methods.abilities import Meshable, Renderable, Trimmable
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.ops.hash_grid import HashGridSpec
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import surface_within
from neural3d.render.surface import render_surface
from neural3d.shapes.shape import Shape

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Colors, Mesh

NOISY = 0.1  # standard deviation at which f² at the points counts once; more where the points are more exact
SMOOTH = 0.33  # h / (noise · spacing)^⅓; lengths in scene units
FIRM = 70.0  # weight of f² at the points from which λ falls in proportion to its inverse
EXACT = 0.3  # of the spacing: to less than this, points are not followed


@dataclass(frozen=True)
class IgrConfig:
    """Settings of `igr`. Lengths are in scene units, in which the shape's longest side is 1.8."""

    horizon: Count = 1000  # step at which the learning rate reaches its final value
    batch: Count = 4096  # points of the cloud per step; half as many around it, anywhere, and where it bends

    backbone: Literal["grid", "fourier"] = "grid"  # hash grid, or Fourier features: smoother, four times as slow
    levels: Layers = 12  # of the hash grid
    log2_table: int = 18  # entries per level at most
    base_resolution: Count = 8  # of the coarsest level
    max_resolution: Count = 256  # of the finest
    width: Width = 64  # of the network's hidden layers; fourier: 128 or more
    hidden_layers: Layers = 1  # fourier: 3 or more
    frequencies: Width = 64  # of Fourier features
    sigma: float = 1.0  # standard deviation of these, cycles per unit
    coarse_until: float = 0.3  # share of the horizon by which all levels are seen

    open: Literal["auto", "yes", "no"] = "auto"  # trim the surface where there are no points; auto: if it looks open
    noise: float = -1.0  # standard deviation of the points, scene units; -1: measured
    smoothing: float = 0.0  # h; 0: from noise and spacing
    eikonal: float = 0.1  # λ, at most
    normal: float = 0.03  # τ
    side: float = 10.0  # weight of the bound on the distance in space

    lr: float = 5e-3
    lr_final: float = 1e-4


class Igr(Method, Renderable, Meshable, Trimmable):
    """See the module's docstring."""

    Config = IgrConfig
    takes = Shape

    def __init__(self, config: IgrConfig, scene: Shape):
        super().__init__(config, scene)
        c = config
        self.field: HashSDF | FourierSDF
        if c.backbone == "fourier":
            self.field = FourierSDF(
                frequencies=c.frequencies, sigma=c.sigma, width=c.width, hidden_layers=c.hidden_layers
            )
        else:
            spec = HashGridSpec(
                levels=c.levels, log2_table=c.log2_table,
                base_resolution=c.base_resolution, max_resolution=c.max_resolution,
            )  # fmt: skip
            self.field = HashSDF(spec, width=c.width, hidden_layers=c.hidden_layers, smooth=True)
        self.levels_seen = float(c.levels)
        self.open = c.open == "yes"
        self.support: Support | None = None

    def source(self, scene: Shape, device: torch.device) -> CloudSource:
        c = self.config
        cloud = CloudSource(scene, device, None if c.open == "auto" else c.open == "yes")
        self.open, self.support = cloud.open, cloud.support
        noise = cloud.noise if c.noise < 0 else c.noise
        self.h = c.smoothing or max(EXACT * cloud.spacing, SMOOTH * (noise * cloud.spacing) ** (1 / 3))
        cloud.smooth(self.h, even=c.smoothing > 0)
        self.trust = NOISY**2 / (noise**2 + (EXACT * cloud.spacing) ** 2)
        self.eikonal = c.eikonal * min(1.0, FIRM / self.trust)
        unit = 1 / float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)
        diagonal = float((cloud.points.amax(0) - cloud.points.amin(0)).norm())
        known = "noise" if c.noise < 0 else "noise (given)"
        scene.notes.append(
            f"{len(cloud.points):,} points {unit * cloud.spacing:.3g} apart, "
            f"{'with' if cloud.given else 'without'} normals; {known} {unit * noise:.2g} "
            f"({100 * noise / diagonal:.2f} % of the diagonal): smoothed over {unit * self.h:.2g}."
        )
        if cloud.strays:
            scene.notes.append(f"{cloud.strays:,} points stand alone and were left out.")
        found = f"openings fill {min(1, cloud.openness):.0%} of what its points see behind them"
        kind = "open, and trimmed where there are no points" if cloud.open else "closed"
        scene.notes.append(f"The surface is {kind} ({'open=' + c.open if c.open != 'auto' else found}).")
        return cloud

    @property
    def batch_size(self) -> int:
        return self.config.batch

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        return self.field.param_groups(self.config.lr, self.config.lr_final)

    def extra_state(self) -> dict[str, Any]:
        assert self.support is not None
        return {"levels": self.levels_seen, "open": self.open, "support": self.support.balls}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._see(state["levels"])
        self.open = state.get("open", False)  # runs from before there was any
        self.support = Support(state["support"].cpu()) if "support" in state else None

    def _see(self, levels: float) -> None:
        self.levels_seen = levels
        if isinstance(self.field, HashSDF):
            self.field.show_levels(levels)

    def loss(
        self, batch: CloudBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        grown = min(1.0, progress / max(c.coarse_until, 1e-6))
        self._see(2 + (c.levels - 2) * grown)
        trust = self.trust * grown  # first normals and sides make the shape, then points its details
        aside = torch.randn(batch.shell.shape, generator=generator, device=batch.shell.device)
        aside = torch.linalg.cross(batch.facing, aside)  # along the surface: the field of a wall has a ridge within
        step = 1.5 * batch.smoothing[:, None]
        beside = batch.shell + step * torch.nn.functional.normalize(aside, dim=-1)
        parts = [batch.surface, batch.near, batch.space, batch.shell, beside]
        value, _, gradient = self.field.with_gradient(torch.cat(parts).clamp(-1, 1))
        values, gradients = value.split([len(p) for p in parts]), gradient.split([len(p) for p in parts])

        turn = (gradients[4] - gradients[3]) / step  # E ‖turn‖² is half of ‖∇²f‖², as f has unit slope across
        losses = {
            "surface": trust * values[0].square().mean(),
            "eikonal": self.eikonal * (gradient[len(parts[0]) :].norm(dim=-1) - 1).square().mean(),
            "normal": c.normal * (gradients[0] - batch.normals).square().sum(-1).mean(),
            "bending": trust * 2 * (batch.smoothing[:, None] ** 4 * turn.square()).sum(-1).mean(),
            "side": c.side * torch.relu(batch.bound.abs() - batch.bound.sign() * values[2]).mean(),
        }
        return losses, {"error": losses["surface"].detach().sqrt()}

    def signed_distance(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """In scene units, negative inside."""
        return self.field(positions)[0]

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        box = self.scene.aabb.to(next(self.parameters()).device)
        return render_surface(self.signed_distance, camera, box, background=background)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """Trimmed where it is open, see `geometry.support`."""
        device = next(self.parameters()).device
        mesh = surface_within(self.scene, self.signed_distance, resolution, crop, device=device, progress=progress)
        return self.support.trimmed(mesh) if self.open and self.support else mesh, None

    def trim(self, open_: bool) -> None:
        if self.support is None:
            raise UserError("This run was trained before surfaces were trimmed; train it again for --open.")
        self.open = open_
