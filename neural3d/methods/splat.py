"""Gaussian splats: a scene as many small, soft, coloured ellipsoids.

Kerbl, Kopanas, Leimkühler, Drettakis: "3D Gaussian Splatting for Real-Time Radiance Field Rendering", SIGGRAPH 2023.
Each step draws one training photo whole and compares: L = (1 − λ) |image − photo| + λ (1 − SSIM). Splats are added,
moved and removed meanwhile by one of the strategies of `densify`. Distorted photos are seen as pinhole copies. Large
photos are small at first: what there is to learn then is coarse, and a step costs a fraction. Their pixels grow with
the progress, as in DashGaussian (Chen et al., CVPR 2025), which schedules them by their spectra.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from neural3d.config import Count
from neural3d.data.rays import PhotoBatch, PhotoSource
from neural3d.geometry.cameras import Camera
from neural3d.methods.abilities import Exposed, Meshable, Renderable, Splatted
from neural3d.methods.base import Method
from neural3d.methods.densify import Adc, Mcmc, Pull
from neural3d.methods.flat import Parts, flatten, plane_features, plane_losses
from neural3d.methods.players import Player
from neural3d.methods.poses import PoseCorrections
from neural3d.methods.seeds import begun, seed_splats, within
from neural3d.ops.splat_project import Projected, splat_project
from neural3d.ops.splat_raster import splat_raster
from neural3d.ops.ssim import ssim_and_l1
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.extraction import mesh_box, surface_within
from neural3d.render.splats import blended, pinhole_intrinsics, render_splats
from neural3d.scene.photos import available_memory

if TYPE_CHECKING:
    from neural3d.fields.gaussians import Gaussians
    from neural3d.geometry.mesh import Colors, Field, Mesh
    from neural3d.scene import Scene


SHOWN, BLOCK = 0.1, 16  # of a part of a scene: share of a colour from which it is seen; pixels along a block's side
SHAPED_EVERY = 3  # steps of which one shapes the surface: it takes as long as two others


@dataclass(frozen=True)
class SplatConfig:
    """Settings of `splat`. The extent is the radius of the ball around the training cameras, times 1.1."""

    horizon: Count = 7000  # step at which learning rates reach their final value; the paper trains 30000
    max_splats: Count = 1_000_000  # never more than these; the budget of mcmc
    random_points: Count = 20_000  # splats to start from where the capture brings no points
    sh_degree: Annotated[int, 0, 3] = 3  # of the view-dependent colour, 0 to 3
    sh_every: int = 1000  # steps until the next degree comes into use
    opacity: float = 0.1  # of a splat at the start
    ssim: float = 0.2  # λ, the weight of 1 − SSIM
    coarse_pixels: int = 1 << 18  # that a photo has at most at the start, see `whole_from`; 0: always all
    whole_from: float = 0.5  # share of the horizon from which photos are whole; until then their pixels grow with it
    near: float = 0.0  # nearest depth that is drawn, in scene units; 0: the scene's
    antialiased: bool = False  # Mip-Splatting's 2D filter: splats smaller than a pixel fade instead of growing
    random_background: bool = True  # alpha images: a fresh background colour per step, so that empty means transparent
    exposure: bool = False  # a colour gain per training photo; their mean is what is exported
    refine_poses: bool = False  # camera poses move with the scene

    partition: bool = False  # cells of the scene train one by one in processes of their own, and are joined
    cells: int = 0  # partition: how many; 0: as many as memory asks for, at least 4
    start: str = ""  # a run of the same capture: its splats and gains are begun with, not the points

    surface: bool = False  # flat splats that lie on surfaces, for meshes; a quarter of the steps in the same time fewer
    normal_weight: float = 0.05  # surface: of the difference between splats' normals and those of their common depth
    thick_weight: float = 0.1  # surface: of the thickness of their layers, as a share of the depth
    surface_from: float = 0.3  # surface: share of the horizon from which splats are flat, and both count

    densify: Literal["adc", "mcmc", "none"] = "adc"  # adc: the paper's clone, split and prune; mcmc: a fixed budget
    densify_from: int = 600  # step of the first change
    densify_until: float = 0.5  # share of the horizon after which the number of splats stays
    densify_every: Count = 100  # steps between changes
    prune_opacity: float = 0.005  # opacity below which a splat is dropped (adc) or moved elsewhere (mcmc)
    grow_gradient: float = 0.0  # adc: mean pull on the projection that calls for more splats; 0: 0.0002, absgrad 0.0008
    absgrad: bool = False  # adc: pulls of single pixels add up instead of cancelling (AbsGS)
    split_size: float = 0.01  # adc: standard deviation in extents above which a splat is split instead of cloned
    prune_size: float = 0.1  # adc: standard deviation in extents above which it is dropped after the first reset
    share_opacity: bool = (
        True  # adc: a clone and its original together are as opaque as the one was; false: the paper's
    )
    reset_every: Count = 3000  # adc: steps between cuts of all opacities to twice prune_opacity
    growth: float = 0.05  # mcmc: share by which the number grows at each change, up to max_splats
    relocate: float = 0.02  # mcmc: share of all, the least opaque, that move at each change besides transparent ones
    noise: float = 5e5  # mcmc: of the random walk of nearly transparent splats, per learning rate of the means
    opacity_weight: float = 0.01  # mcmc: of the mean opacity in the loss at the start; falls to 0 until densify_until
    scale_weight: float = 0.01  # mcmc: of the mean standard deviation in extents, likewise

    sparse_adam: bool = False  # splats that a photo does not show keep their moments: faster, some 0.5 dB worse
    lr_means: float = 1.6e-4  # in extents
    lr_means_final: float = 1.6e-6
    lr_scales: float = 5e-3
    lr_quats: float = 1e-3
    lr_opacity: float = 0.05
    lr_sh_dc: float = 2.5e-3
    lr_sh_rest: float = 1.25e-4


class Splat(Method, Renderable, Meshable, Splatted, Exposed):
    """See the module's docstring."""

    Config = SplatConfig
    together = "whole"
    counted = ("control.pull", "control.views")
    renamed: ClassVar = {"pose_delta": "poses.delta"}
    background: Tensor  # what alpha images are composited on when nothing else is asked for
    camera_from_world: Tensor  # (V, 4, 4) of the training views
    intrinsics: Tensor  # (V, 4) fx, fy, cx, cy
    seen: Tensor  # (V, h, w) of a part of a scene, see `_look`

    def __init__(self, config: SplatConfig, scene: Scene):
        super().__init__(config, scene)
        c = config
        cameras = scene.cameras("train")
        self.extent = camera_extent(cameras)
        self.near = c.near or scene.near
        self.splats = seed_splats(
            scene, random_points=c.random_points, most=c.max_splats, sh_degree=c.sh_degree, opacity=c.opacity
        )
        self.control: Adc | Mcmc | None = None
        if c.densify == "adc":
            self.control = Adc(c, self.extent, len(self.splats))
        elif c.densify == "mcmc":
            self.control = Mcmc(c)
        self.register_buffer("background", torch.ones(3) if scene.background == "white" else torch.zeros(3))
        poses = torch.stack([torch.linalg.inv(x.world_from_camera) for x in cameras]).float()
        self.register_buffer("camera_from_world", poses, persistent=False)
        self.register_buffer(
            "intrinsics", torch.stack([pinhole_intrinsics(x) for x in cameras]).float(), persistent=False
        )
        if scene.cell is not None:
            size = (math.ceil(max(x) / BLOCK) for x in zip(*((c.height, c.width) for c in cameras)))
            self.register_buffer("seen", torch.ones(len(cameras), *size, dtype=torch.bool))
        lenses = [v.lens or v.camera for v in (scene.views[i] for i in scene.split["train"])]
        self.photo_sizes = [(x.width, x.height) for x in lenses]  # of which a part of a scene sees windows
        if c.exposure:
            self.log_gain = nn.Parameter(torch.zeros(len(cameras), 3))
        self.gauge = torch.zeros(3)  # mean of the log gains: 0, but that of a part of a scene is as its whole has it
        if c.refine_poses:
            self.poses = PoseCorrections(cameras)
        self.steps = 0  # finished
        self._most = max(x.width * x.height for x in cameras)
        self._pixels = self._pixels_at(0.0)
        self._drawn: tuple[Projected, Tensor | None, float, float]  # the last photo's splats, for `control`

    # --- what the trainer asks ---

    @classmethod
    def prepared(cls, scene: Scene, config: SplatConfig) -> Scene:
        return scene.with_pinholes()

    def source(self, scene: Scene, device: torch.device) -> PhotoSource:
        return PhotoSource(scene, device)

    @property
    def batch_size(self) -> int:
        """How many pixels a photo may have at most."""
        return self._pixels

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c, s = self.config, self.splats
        rates = [
            (s.means, c.lr_means * self.extent, c.lr_means_final * self.extent),
            (s.log_scales, c.lr_scales, c.lr_scales),
            (s.quats, c.lr_quats, c.lr_quats),
            (s.opacity_logits, c.lr_opacity, c.lr_opacity),
            (s.sh_dc, c.lr_sh_dc, c.lr_sh_dc),
            (s.sh_rest, c.lr_sh_rest, c.lr_sh_rest),
        ]
        k = self.processes.count  # photos a step: as k steps of one, by the rule of Grendel-GS (Zhao et al., ICLR 2025)
        common = dict(eps=1e-15, skip_untouched=c.sparse_adam, betas=(0.9**k, 0.999**k))
        groups = [
            dict(params=[p], lr=math.sqrt(k) * lr, lr_final=math.sqrt(k) * final, **common) for p, lr, final in rates
        ]
        if c.exposure:
            groups.append(dict(params=[self.log_gain], lr=1e-2, lr_final=1e-3))
        if c.refine_poses:
            groups.append(self.poses.group())
        return groups

    def extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "pixels": self._pixels, "gauge": self.gauge.tolist()}

    def begin(self) -> None:
        c = self.config
        if not c.start:
            return
        splats, gains = begun(Path(c.start), self.scene, c.sh_degree)
        self._resize(len(splats))
        self.splats.load_state_dict(splats.state_dict())
        if c.exposure and gains is not None:
            self.gauge = gains.mean(0)
            self.log_gain.data.copy_(gains)
        if self.scene.cell is not None:
            self.seen.copy_(self._look())

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self._pixels = state.get("pixels", self._most)  # runs of before photos grew have seen them whole
        self.gauge = torch.tensor(state.get("gauge", [0.0, 0.0, 0.0]))

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        """Also of a checkpoint with another number of splats; the Parameter objects stay."""
        self._resize(len(state_dict["splats.means"]))
        return super().load_state_dict(state_dict, *args, **options)

    def _resize(self, count: int) -> None:
        for p in self.splats.parameters():
            p.data = p.data.new_empty(count, *p.shape[1:])
        if self.control is not None:
            self.control.resize(count)

    @classmethod
    def most_memory(cls, config: SplatConfig) -> int:
        return config.max_splats * splat_bytes(config.sh_degree)

    def memory_estimate(self) -> list[str]:
        c, s = self.config, self.splats
        per_splat = splat_bytes(s.sh_degree)
        most = c.max_splats if c.densify != "none" else len(s)
        free = available_memory() if s.means.device.type == "cpu" else torch.cuda.mem_get_info(s.means.device)[0]
        text = (
            f"{len(s):,} splats to start with, never more than {most:,}: at most {most * per_splat / 2**30:.2f} GiB "
            f"of the {free / 2**30:.1f} GiB free."
        )
        if most * per_splat > free:
            text += f" That may not fit: --set max_splats={int(0.8 * free / per_splat)} would."
        return [text]

    # --- training ---

    @property
    def degree(self) -> int:
        """Of the spherical harmonics in use."""
        return min(self.splats.sh_degree, self.steps // max(1, self.config.sh_every))

    def _pixels_at(self, progress: float) -> int:
        c = self.config
        if not c.coarse_pixels or progress >= c.whole_from:
            return self._most
        return min(self._most, max(c.coarse_pixels, int(self._most * progress / c.whole_from)))

    def loss(
        self, batch: PhotoBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        c, s = self.config, self.splats
        height, width = batch.rgb.shape[:2]
        # Before they come into use, harmonics get no gradient at all, and the optimizer leaves them alone.
        harmonics = s.sh_rest if self.degree else s.sh_rest.detach()[:, :0]
        projected = splat_project(
            s.means, s.quats, s.log_scales, s.opacity_logits, s.sh_dc, harmonics, self._pose(batch.view),
            self.intrinsics[batch.view] / batch.shrink, width, height, sh_degree=self.degree, near=self.near,
            antialiased=c.antialiased, raw=True,
        )  # fmt: skip
        color = projected.color
        if (gains := self.gains()) is not None:
            color = _Gain.apply(color, gains[batch.view])
        if c.random_background and batch.alpha is not None:
            background = torch.rand(3, generator=generator, device=color.device)
        else:
            background = self.background
        pulls = torch.zeros_like(projected.xy) if c.absgrad and c.densify == "adc" else None
        if c.densify == "adc" and pulls is None and self.training:
            projected.xy.retain_grad()
        shaped = c.surface and progress >= c.surface_from and self.steps // self.processes.count % SHAPED_EVERY == 0
        if shaped:
            color = torch.cat([color, plane_features(s, self._pose(batch.view).detach())], 1)
            background = torch.cat([background, background.new_zeros(color.shape[1] - 3)])
        image, alpha = splat_raster(
            projected.xy, projected.conic, projected.depth, projected.opacity, color, width, height,
            background=background, xy_abs_grad=pulls,
        )  # fmt: skip
        if shaped:
            turn = self.steps // SHAPED_EVERY
            first = turn % 2, turn // 2 % 2  # each pixel has its turn
            image, planes, alpha = Parts.apply(image, alpha, first)
            background = background[:3]
        self._drawn = projected, pulls, width, height
        kept = batch.kept
        if self.scene.cell is not None:
            # A mean over a window gives each pixel more weight than one over the photo; that is to make no more splats.
            whole = [float(n) / batch.shrink for n in self.photo_sizes[batch.view]]
            self._drawn = projected, pulls, width * height / whole[1], width * height / whole[0]
            shown = self._shown(batch.view, width, height)
            kept = shown if kept is None else kept & shown

        target = batch.rgb
        if batch.alpha is not None:
            target = torch.lerp(background, batch.rgb, batch.alpha)
        if kept is not None:
            target = torch.where(kept, target, image.detach())  # no difference, no gradient
            image = torch.where(kept, image, image.detach())
        similar, distance = ssim_and_l1(image, target)
        losses = {"l1": (1 - c.ssim) * distance, "ssim": c.ssim * (1 - similar)}
        if shaped:
            turned, thick = plane_losses(batch, planes, alpha, self.intrinsics[batch.view], first)
            losses["normal"] = SHAPED_EVERY * c.normal_weight * turned
            losses["thick"] = SHAPED_EVERY * c.thick_weight * thick
        if c.densify == "mcmc" and progress < c.densify_until:
            fade = 1 - progress / c.densify_until  # so that the last steps answer to the photos alone
            logits: Tensor = s.opacity_logits
            scales: Tensor = s.log_scales
            if (ours := self._within()) is not None:  # the rest is for other cells to shape
                logits, scales = logits[ours], scales[ours]
            losses["opacity"] = Pull.apply(logits, fade * c.opacity_weight, "sigmoid")
            losses["scale"] = Pull.apply(scales, fade * c.scale_weight / self.extent, "exp")

        def psnr() -> float:  # asked for now and then
            error = nn.functional.mse_loss(image.detach().clamp(0, 1), target)
            return -10 * math.log10(max(float(error), 1e-10))

        return losses, {"psnr": psnr, "splats": len(s)}

    def gains(self) -> Float[Tensor, "V 3"] | None:
        """Relative: their geometric mean, which is what a viewer sees, is 1, over all photos of the whole scene."""
        if not self.config.exposure:
            return None
        return torch.exp(self.log_gain - self.log_gain.mean(0) + self.gauge.to(self.log_gain))

    def _pose(self, view: int) -> Float[Tensor, "4 4"]:
        """camera_from_world after the view's correction."""
        pose = self.camera_from_world[view]
        if not self.config.refine_poses:
            return pose
        rotation, shift = self.poses(view)
        centre = -pose[:3, :3].T @ pose[:3, 3]
        turned = pose[:3, :3] @ rotation.T
        offset = -turned @ (centre + shift)
        return torch.cat([torch.cat([turned, offset[:, None]], 1), pose[3:]], 0)

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        c, s = self.config, self.splats
        k = self.processes.count  # steps since the last time
        self.steps = step + k
        self._pixels = max(self._pixels, self._pixels_at(progress))  # also where `--minutes` begin anew
        if c.refine_poses:
            self.poses.hold_together()
        if c.surface and progress >= c.surface_from:
            flatten(s)
        for p in s.parameters():
            p.grad = None  # the next backward pass hands over its own instead of adding to zeros
        if self.control is None:
            return
        if progress < c.densify_until:
            if isinstance(self.control, Adc):
                projected, pulls, width, height = self._drawn
                pull = projected.xy.grad if pulls is None else pulls
                if pull is not None:  # nothing was in sight
                    self.control.observe(pull, projected.radius, width, height)
            # A step late: a change costs some dB at first, and round numbers of steps are where runs are scored.
            if step >= c.densify_from and step % c.densify_every < k and step >= k:
                if isinstance(self.control, Adc):
                    self.processes.total(self.control.pull, self.control.views)
                self.control.refine(s, players[0].optimizer, step, generator, self._within())
        if isinstance(self.control, Mcmc):
            self.control.explore(s, players[0].optimizer.param_groups[0]["lr"], generator)

    def _within(self) -> Bool[Tensor, "N"] | None:
        """Of a part of a scene, which splats are on its ground: more are made of these alone."""
        return None if self.scene.cell is None else within(self.splats.means, self.scene.cell)

    @torch.no_grad()
    def _look(self) -> Bool[Tensor, "V h w"]:
        """In blocks of each photo of a part of a scene, where splats on its own ground are seen, and around there.

        Other pixels are for other cells to explain: here fog before the lens would do it. Looked at once, at the start:
        what is seen meanwhile depends on what is learnt, and what fades would be forgotten.
        """
        s, cell = self.splats, self.scene.cell
        assert cell is not None
        ours = within(s.means, cell)[:, None].float()
        seen = torch.zeros_like(self.seen)
        for found, camera in zip(seen, self.scene.cameras("train")):
            small = camera.resized(*(math.ceil(n / BLOCK) for n in (camera.width, camera.height)))
            share = blended(s, small, ours, near=self.near, antialiased=self.config.antialiased)[..., 0]
            around = nn.functional.max_pool2d(share[None], 3, 1, 1)[0] > SHOWN
            found[: small.height, : small.width] = around
        return seen

    def _shown(self, view: int, width: int, height: int) -> Bool[Tensor, "H W 1"]:
        """`seen` of a view as pixels."""
        camera = self.scene.views[self.scene.split["train"][view]].camera
        seen = self.seen[view, : math.ceil(camera.height / BLOCK), : math.ceil(camera.width / BLOCK)]
        rows, columns = (
            (torch.arange(n, device=seen.device) * m // n) for n, m in zip((height, width), seen.shape, strict=True)
        )
        return seen[rows[:, None], columns, None]

    # --- pictures and meshes ---

    @torch.no_grad()
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        return render_splats(
            self.splats, camera, self.background if background is None else background,
            sh_degree=self.degree, near=self.near, antialiased=self.config.antialiased,
        )  # fmt: skip

    @torch.no_grad()
    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """As the base; from depths in the training views. Of a place, not of an object, it ends where none looks.

        Of a place in flat splats and without a crop that is far beyond the bounds, by cells that grow outside of them.
        """
        from neural3d.geometry.mesh import extract
        from neural3d.render.fusion import Fused, fewer_and_smaller, fused_surface, truncation

        cameras = fewer_and_smaller(self.scene.cameras("train"))
        place, box = self.scene.unbounded, mesh_box(self.scene, crop)
        whole = place and crop is None and self.config.surface
        fused = Fused(self.render, cameras, truncation(box, resolution), progress, contracted=whole)

        def within(field: Field) -> Mesh:
            return surface_within(self.scene, field, resolution, crop, device=self.background.device, progress=progress)

        if not whole:
            return fused_surface(fused, within, closed=not place)
        fused.confirm()
        seen = fused.extent().to(box)
        cells = round(resolution * min(2.0, float((seen[1] - seen[0]).max() / (box[1] - box[0]).max())))
        return fused_surface(fused, lambda f: extract(f, seen, cells, progress=progress), closed=False)

    def gaussians(self) -> tuple[Gaussians, bool]:
        return self.splats, self.config.antialiased


class _Gain(torch.autograd.Function):
    """colour · gain, whose gradient to the gain is summed in float64: the same float32 for any number of threads."""

    @staticmethod
    def forward(ctx: Any, color: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(color, gain)
        return color * gain

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        color, gain = ctx.saved_tensors
        return v * gain, (v * color).sum(0, dtype=torch.float64).to(gain.dtype)


def camera_extent(cameras: list[Camera]) -> float:
    """1.1 times the largest distance of a camera from their mean; 1 where they all stand in one place."""
    centres = torch.stack([c.centre for c in cameras])
    radius = float((centres - centres.mean(0)).norm(dim=1).max())
    return 1.1 * radius if radius > 1e-3 else 1.0


def splat_bytes(sh_degree: int) -> int:
    """Bytes that a splat costs in training: its numbers, their gradients and moments, and what drawing it takes."""
    numbers = 14 + 3 * ((sh_degree + 1) ** 2 - 1)
    drawing = 2 * 12 * 4 + 8 * 48  # projected values with gradients; some eight entries in tiles
    return numbers * 4 * 4 + drawing
