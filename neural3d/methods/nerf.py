"""The original neural radiance field, and what helps it where photos are few.

Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng: "NeRF: Representing Scenes as Neural Radiance Fields for View
Synthesis", ECCV 2020. σ(x), g(x) = trunk(γ₁₀(x)),  c(x, d) = head(g(x), γ₄(d)): density is known before the direction.
A coarse network sampled evenly says where a fine one is to be sampled; both are trained on the photos.
Few photos: frequency annealing and the occlusion term of FreeNeRF (Yang et al. 2023), and smooth patches seen from
poses without a photo, as in RegNeRF (Niemeyer et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from neural3d.config import Count, Layers, Width
from neural3d.errors import UserError
from neural3d.fields.encodings import (
    contract,
    fourier_features,
    frequency_weights,
    positional_encoding,
    positional_width,
    random_frequencies,
)
from neural3d.fields.mlp import MLP
from neural3d.fields.occupancy import OccupancyGrid
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rays import box_span, unseen_patches
from neural3d.losses import occlusion, patch_smoothness
from neural3d.methods.abilities import Guided, Meshable, Renderable
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.ops.mlp import MAX_HIDDEN_LAYERS, MAX_HIDDEN_WIDTH, MAX_INPUT_OUTPUT_WIDTH
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import surface_of_density
from neural3d.render.packed import Shaded, render_packed
from neural3d.render.volume import Spacing, accumulate, render_weights, sample_pdf, stratified

if TYPE_CHECKING:
    from neural3d.data.rays import RayBatch
    from neural3d.geometry.mesh import Colors, Mesh
    from neural3d.scene import Scene


GRID_THRESHOLD = 0.1  # density in 1/unit: less absorbs under a tenth of the light across the whole scene


@dataclass(frozen=True)
class NerfConfig:
    """Settings of `nerf`; the defaults are the published ones. Lengths are in scene units."""

    horizon: Count = 200_000  # step at which schedules end
    batch: Count = 4096  # rays per step
    samples_coarse: Count = 64  # per ray
    samples_fine: int = 128  # more of them for the fine network, where the coarse one saw something; 0: no fine network
    lr: float = 5e-4
    lr_final: float = 5e-5
    warmup: int = 0  # steps over which the rate rises to lr: a ReLU that starts too fast may end as empty space
    random_background: bool = False  # alpha images: a fresh background colour per ray, so that empty means transparent
    density_noise: float = 0.0  # standard deviation of noise on σ before its ReLU in training; published: 1 for photos

    grid_resolution: int = 0  # cells along an axis of a grid that remembers empty space, a multiple of 16; 0: none
    grid_every: Count = 16  # steps between its refreshes

    width: Width = 256  # of the trunk's layers
    depth: Layers = 8  # layers of the trunk
    skip: int = 5  # the layer whose output the encoded position joins again; 0: none
    color_width: Width = 128  # of the colour head's layer
    coarse_width: int = 0  # of the coarse network's trunk and, at most, colour head; 0: as the fine one

    encoding: Literal["positional", "fourier"] = "positional"  # of positions; directions are always positional
    position_levels: Layers = 10  # octaves of γ(x)
    direction_levels: Layers = 4  # octaves of γ(d); 0, without include_input: colours do not know the direction
    include_input: bool = False  # x and d themselves in front of their octaves, as in the authors' code
    fourier_count: Width = 128  # random frequencies
    fourier_sigma: float = 4.0  # their standard deviation, cycles per scene unit

    near: float = 0.0  # nearest distance; 0: the scene's
    far: float = 0.0  # farthest distance; 0: the scene's
    clip_to_box: bool = True  # bounded scenes: sample only where rays cross the scene's box; published: false
    surface_density: float = 10.0  # 1/unit; meshes have their surface where it is reached

    anneal: float = 0.0  # share of the horizon in which the high frequencies appear (FreeNeRF: 0.9); 0: all at once
    occlusion: float = 0.0  # weight of density near the camera (FreeNeRF: 0.01)
    occlusion_range: float = 0.1  # what counts as near: this share of the ray's sampled part
    smooth_depth: float = 0.0  # weight of depth differences in patches of unseen views (RegNeRF: 0.1)
    smooth_color: float = 0.0  # weight of their colour differences
    prior: str = (
        ""  # run of a prior of pieces of photos (train PHOTOS --method realnvp --set patch=8) that patches follow
    )
    prior_weight: float = 1e-3  # of its −log p per value, in nats (RegNeRF has such a flow)
    patches: Count = 1  # per step
    patch_size: Count = 8  # rays along a side
    patch_stride: Count = 1  # pixels between them


class RadianceField(nn.Module):
    """Density and colour from encoded positions (N, E) and directions (N, F), as in figure 7 of the paper."""

    def __init__(self, position_width: int, direction_width: int, width: int, depth: int, skip: int, color_width: int):
        super().__init__()
        self.before_skip = _layers(position_width, width, width, skip - 1, "relu") if skip else None
        joined = position_width + (width if skip else 0)
        self.trunk = _layers(joined, 1 + width, width, depth - skip)
        self.head = _layers(width + direction_width, 3, color_width, 1, "sigmoid")

    def geometry(self, position: Float[Tensor, "N E"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N G"]]:
        """Density before its ReLU, and the features that the colour depends on."""
        out = self.trunk(position if self.before_skip is None else (position, self.before_skip(position)))
        return out[:, 0], out[:, 1:]

    def color(self, features: Float[Tensor, "N G"], direction: Float[Tensor, "N F"]) -> Float[Tensor, "N 3"]:
        return self.head((features, direction) if direction.shape[1] else features)  # F = 0: one colour all round


def _layers(inputs: int, outputs: int, width: int, hidden_layers: int, output_activation: str = "none") -> MLP:
    """Layers with biases: our kernel where it is made for the shape, torch's matrix products for wider ones."""
    fits = max(inputs, outputs) <= MAX_INPUT_OUTPUT_WIDTH and (hidden_layers == 0 or width <= MAX_HIDDEN_WIDTH)
    return MLP(
        inputs, outputs, width, hidden_layers, bias=True, output_activation=output_activation,
        twice_differentiable=not (fits and hidden_layers <= MAX_HIDDEN_LAYERS),
    )  # fmt: skip


class Pass(NamedTuple):
    """What R rays gathered from one network."""

    t: Float[Tensor, "R S"]
    density: Float[Tensor, "R S"]
    weights: Float[Tensor, "R S"]
    rgb: Float[Tensor, "R 3"]  # on the background
    alpha: Float[Tensor, "R"]
    distance: Float[Tensor, "R"]


class Nerf(Method, Renderable, Meshable, Guided):
    """See the module's docstring.

    Rays are sampled from `near` to `far`, in bounded scenes where they cross the scene's box: there positions lie in
    [-1, 1]³, as γ assumes, and rays that miss the box see the background. (Published is all of `near` to `far`; of few
    photos, every camera can then paint its own picture just before itself.) Unbounded scenes are contracted (mip-NeRF
    360) and sampled evenly in disparity; their last sample reaches to infinity.
    With `grid_resolution`, samples in cells where the final network was found empty are not evaluated: without density
    they would add neither colour nor gradient.
    """

    Config = NerfConfig
    together = "divided"
    visible: Float[Tensor, ""]  # share of the frequencies that the networks see
    background: Float[Tensor, "3"]
    frequencies: Float[Tensor, "M 3"]  # of random Fourier features

    def __init__(self, config: NerfConfig, scene: Scene):
        super().__init__(config, scene)
        _check(config)
        c = config
        position_width = positional_width(3, c.position_levels, c.include_input)
        if c.encoding == "fourier":
            self.register_buffer("frequencies", random_frequencies(c.fourier_count, 3, c.fourier_sigma))
            position_width = 2 * c.fourier_count
        direction_width = positional_width(3, c.direction_levels, c.include_input)
        width = c.coarse_width or c.width
        color_width = min(c.coarse_width or c.color_width, c.color_width)
        self.coarse = RadianceField(position_width, direction_width, width, c.depth, c.skip, color_width)
        self.fine = (
            RadianceField(position_width, direction_width, c.width, c.depth, c.skip, c.color_width)
            if c.samples_fine
            else None
        )
        self.register_buffer("visible", torch.tensor(0.0 if c.anneal else 1.0))
        self.register_buffer("background", torch.full((3,), 1.0 if scene.background == "white" else 0.0))
        self.grid: OccupancyGrid | None = None
        if c.grid_resolution:
            cascades = max(1, math.ceil(math.log2(scene.far)) + 1) if scene.unbounded else 1
            self.grid = OccupancyGrid(
                resolution=c.grid_resolution,
                levels=cascades,
                threshold=GRID_THRESHOLD,
                decay=0.95,  # slow: few samples, evenly spread, find a thin part only now and then
                budget=2 * c.batch * c.grid_every,  # as if each ray had two samples more
            )
        self.near, self.far = c.near or scene.near, c.far or scene.far
        self.cameras = scene.cameras("train")

    @property
    def batch_size(self) -> int:
        return self.config.batch

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        adam = dict(lr=c.lr, lr_final=c.lr_final, warmup=c.warmup, betas=(0.9, 0.999), eps=1e-7)  # section 5.3
        return [dict(params=list(self.parameters()), **adam)]

    # --- the field ---

    @property
    def final(self) -> RadianceField:
        return self.coarse if self.fine is None else self.fine

    def _encode_positions(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N E"]:
        c = self.config
        if self.scene.unbounded:
            x = contract(x, "l2") / 2
        if c.encoding == "fourier":
            return fourier_features(x, self.frequencies)
        weights = frequency_weights(c.position_levels, float(self.visible)) if c.anneal else None
        return positional_encoding(x, c.position_levels, include_input=c.include_input, weights=weights)

    def _encode_directions(self, d: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        c = self.config
        weights = frequency_weights(c.direction_levels, float(self.visible)) if c.anneal else None
        return positional_encoding(d, c.direction_levels, include_input=c.include_input, weights=weights)

    @torch.no_grad()
    def density(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return relu(self.final.geometry(self._encode_positions(positions))[0])

    @torch.no_grad()
    def color(self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        _, features = self.final.geometry(self._encode_positions(positions))
        return self.final.color(features, self._encode_directions(directions))

    # --- rays ---

    def _span(
        self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
        """Where to sample; far ≤ near where there is nothing."""
        near, far = torch.full_like(origins[:, 0], self.near), torch.full_like(origins[:, 0], self.far)
        if self.scene.unbounded or not self.config.clip_to_box:
            return near, far
        enter, leave = box_span(origins, directions, self.scene.aabb)
        return torch.maximum(near, enter), torch.minimum(far, leave)

    def _passes(
        self,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        span: tuple[Float[Tensor, "R"], Float[Tensor, "R"]],
        background: Float[Tensor, "#R 3"],
        generator: torch.Generator | None,
    ) -> list[Pass]:
        """Coarse, then fine; without generator, at fixed places and without noise."""
        c = self.config
        near, far = span
        spacing: Spacing = "disparity" if self.scene.unbounded else "distance"
        t = stratified(near, far, c.samples_coarse, generator=generator, spacing=spacing)
        passes = [self._pass(self.coarse, t, origins, directions, far, background, generator)]
        if self.fine is not None:
            # As in the authors' code: bins between the midpoints of the samples, around all samples but the ends.
            edges = (t[:, 1:] + t[:, :-1]) / 2
            more = sample_pdf(edges, passes[0].weights.detach()[:, 1:-1], c.samples_fine, generator=generator)
            t = torch.cat([t, more], 1).sort(1).values
            passes.append(self._pass(self.fine, t, origins, directions, far, background, generator))
        return passes

    def _pass(
        self,
        field: RadianceField,
        t: Float[Tensor, "R S"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        far: Float[Tensor, "R"],
        background: Float[Tensor, "#R 3"],
        generator: torch.Generator | None,
    ) -> Pass:
        c = self.config
        rays, count = t.shape
        positions = (origins[:, None] + t[..., None] * directions[:, None]).view(-1, 3)
        where = None if self.grid is None else self.grid.occupied(positions).nonzero()[:, 0]
        chosen = positions if where is None else positions[where]
        raw, features = field.geometry(self._encode_positions(chosen))
        if generator is not None and c.density_noise:
            raw = raw + c.density_noise * torch.randn(raw.shape, generator=generator, device=raw.device)
        density = relu(raw)
        if self.grid is not None and self.training and field is self.final:
            self._seen = chosen.detach(), density.detach()
        view = self._encode_directions(directions)
        view = view[where // count] if where is not None else view.repeat_interleave(count, 0)
        rgb = field.color(features, view)
        if where is not None:  # what is skipped has no density, so its colour does not matter
            density = density.new_zeros(rays * count).index_put((where,), density)
            rgb = rgb.new_zeros(rays * count, 3).index_put((where,), rgb)
        density, rgb = density.view(rays, count), rgb.view(rays, count, 3)
        weights, alpha, distance = render_weights(t, density, None if self.scene.unbounded else far)
        return Pass(t, density, weights, accumulate(weights, rgb) + (1 - alpha)[:, None] * background, alpha, distance)

    # --- training ---

    def loss(
        self, batch: RayBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c = self.config
        if c.anneal:
            self.visible.fill_(min(1.0, progress / c.anneal))
        target, background = batch.rgb, self.background.expand(len(batch), 3)
        if batch.alpha is not None:
            if c.random_background:
                background = torch.rand(len(batch), 3, generator=generator, device=target.device)
            target = target * batch.alpha + background * (1 - batch.alpha)
        near, far = self._span(batch.origins, batch.directions)
        hit = torch.nonzero(far > near)[:, 0]
        near, far = near[hit], far[hit]
        passes = self._passes(batch.origins[hit], batch.directions[hit], (near, far), background[hit], generator)

        # Rays beside the box show the background whatever the networks say: only the others are summed, over all.
        errors = [(p.rgb - target[hit]).square().sum() / target.numel() for p in passes]
        losses = dict(zip(("coarse", "fine"), errors))
        if c.occlusion:
            limit = near + c.occlusion_range * (far - near)
            losses["occlusion"] = c.occlusion * sum(occlusion(p.density, p.t, limit) for p in passes)
        if c.smooth_depth or c.smooth_color or self.guide is not None:
            losses |= self._smoothness(generator)
        return losses, {"psnr": -10 * torch.log10(errors[-1].detach())}

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        if self.grid is None:
            return
        self.grid.observe(*self._seen)
        if step % self.config.grid_every == 0:
            self.grid.update(self.density, step, generator)

    def _smoothness(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Differences within patches of pictures that nobody took, and how unlikely these are."""
        c = self.config
        origins, directions = unseen_patches(
            self.cameras, self.scene.aabb, c.patches, c.patch_size, c.patch_stride, generator
        )
        near, far = self._span(origins, directions)
        far = torch.maximum(far, near + 1e-3)
        losses = {"smooth_depth": torch.zeros_like(near[0]), "smooth_color": torch.zeros_like(near[0])}
        for p in self._passes(origins, directions, (near, far), self.background, generator):
            depth = p.alpha * p.distance + (1 - p.alpha) * far
            square = (c.patches, c.patch_size, c.patch_size, -1)
            losses["smooth_depth"] += c.smooth_depth * patch_smoothness(depth.view(square))
            losses["smooth_color"] += c.smooth_color * patch_smoothness(p.rgb.view(square))
            if self.guide is not None:
                losses["prior"] = losses.get("prior", 0) + self.unlikely(p.rgb, generator)
        return losses

    # --- pictures and meshes ---

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        color = self.background if background is None else background.to(self.background)
        tile = (1 << 17) // (self.config.samples_coarse + self.config.samples_fine)
        return render_packed(camera, lambda o, d: self._shade(o, d, color), color.device, max(1, tile))

    def _shade(self, origins: Tensor, directions: Tensor, background: Tensor) -> Shaded:
        rgb, alpha = background.repeat(len(origins), 1), torch.zeros_like(origins[:, 0])
        distance, normal = torch.zeros_like(alpha), torch.zeros_like(origins)
        near, far = self._span(origins, directions)
        mine = torch.nonzero(far > near)[:, 0]
        if len(mine):
            o, d = origins[mine], directions[mine]
            last = self._passes(o, d, (near[mine], far[mine]), background, None)[-1]
            rgb[mine], alpha[mine], distance[mine] = last.rgb.clamp(0, 1), last.alpha, last.distance
            seen = last.alpha > 0.5
            normal[mine[seen]] = self.normals((o + last.distance[:, None] * d)[seen])
        return Shaded(rgb, alpha, distance, normal)

    @torch.no_grad()
    def normals(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Unit vectors against the density's gradient, by central differences; 0 where there is none.

        Differences over 1/50 of the scene's half size: the exact gradient is mostly that of the highest octaves. Of the
        network's output before the ReLU, which also has a slope where space is empty.
        """
        offsets = 0.02 * torch.eye(3, device=positions.device)
        raw = [[self.final.geometry(self._encode_positions(positions + s * e))[0] for s in (1, -1)] for e in offsets]
        return -normalize(torch.stack([ahead - behind for ahead, behind in raw], -1), dim=-1)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        return surface_of_density(
            self.scene, self.render, self.density, self.color, resolution, crop,
            level=self.config.surface_density, device=self.background.device, progress=progress,
        )  # fmt: skip


def _check(c: NerfConfig) -> None:
    """Raises UserError for settings that exclude each other."""
    if c.anneal and c.encoding == "fourier":
        raise UserError(
            "nerf: anneal reveals octaves in order; random Fourier features have none, use encoding=positional."
        )
    if not 0 <= c.skip < c.depth:
        raise UserError(f"nerf: skip={c.skip} must name one of the {c.depth} layers before the last; 0 for none.")
    if c.samples_coarse < 3 and c.samples_fine:
        raise UserError(
            f"nerf: samples_coarse={c.samples_coarse} is too few to say where the fine samples go; use 3 or more."
        )
