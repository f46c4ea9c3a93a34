"""What every method offers the trainer, the command line and the viewer."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.geometry.cameras import Camera
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.scene import Scene

if TYPE_CHECKING:
    from neural3d.data.rays import Source
    from neural3d.geometry.mesh import Colors, Field, Mesh
    from neural3d.ops.adam import Adam

HIDING_VIEWS, HIDING_PIXELS = 24, 120  # training views, and their longer side, that tell a mesh what nobody has seen


class Method(nn.Module, abc.ABC):
    """A way to represent and optimise one scene or shape.

    Built from its configuration and the scene's description (cameras, bounds; no photo is read), so that a finished run
    renders without its photos. Everything that changes during training is a parameter, a buffer or in `extra_state`.
    """

    Config: ClassVar[type]  # a frozen dataclass; has at least `horizon`, the step at which schedules end
    takes: ClassVar[type] = Scene  # what it is fitted to: Scene or Shape

    def __init__(self, config: Any, scene: Any):
        super().__init__()
        self.config = config
        self.scene = scene

    @classmethod
    def prepared(cls, scene: Any) -> Any:
        """The scene as this method wants to see it, such as without lens distortion. As it is by default."""
        return scene

    def source(self, scene: Any, device: torch.device) -> Source:
        """Where training batches come from. Single pixels of all training photos by default."""
        from neural3d.data.rays import ImageSource

        return ImageSource(scene, device)

    @property
    @abc.abstractmethod
    def batch_size(self) -> int:
        """How many rays or points the next `loss` wants, of a source that counts in these."""

    @abc.abstractmethod
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups for `neural3d.ops.adam.Adam`: `params`, `lr` at the start, and `lr_final` at the horizon."""

    @abc.abstractmethod
    def loss(self, batch: Any, progress: float, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(terms that the trainer sums and differentiates, figures to report).

        batch: what the method's `source` draws.
        progress: 0 at the first step, 1 at the horizon and after. Functions among the figures are called only when a
        report is due.
        """

    def after_step(self, step: int, progress: float, generator: torch.Generator, optimizer: Adam) -> None:
        """Runs after the optimizer: occupancy refresh, densification. Nothing by default.

        A method whose parameters change in size tells the optimizer by `Adam.replace`.
        """

    def extra_state(self) -> dict[str, Any]:
        """Plain values beyond parameters and buffers that exact resume needs."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `extra_state` gave."""

    @abc.abstractmethod
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        """One view, without gradients. background: (3,) sRGB; None: the scene's own."""

    def forecast(self) -> list[str]:
        """Sentences to show before training starts, such as the memory it may take."""
        return []

    def density(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Volume density in 1 / scene unit at positions in the scene frame; for methods that leave `mesh` as it is."""
        raise NotImplementedError

    def color(self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB at positions seen along unit viewing directions; see `density`."""
        raise NotImplementedError

    @property
    def surface_density(self) -> float:
        """Density in 1 / scene unit from which a point counts as inside, for meshes; see `density`."""
        raise NotImplementedError

    def mesh(self, resolution: int, crop: Float[Tensor, "2 3"] | None = None) -> Mesh:
        """The surface, see `surface`, with vertex colours if the method knows any."""
        mesh, color = self.surface(resolution, crop)
        return mesh if color is None else mesh.colored(color)

    @torch.no_grad()
    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """(the bare surface in the scene frame, closed and without floating pieces; its colours, if it has any)

        So that what will be thrown away by simplification need not be coloured first.
        resolution: cells along the longest side. crop: box in the capture's frame and units; None: the scene's bounds.
        Raises UserError where no surface is inside.
        """
        device, box = next(self.parameters()).device, self.mesh_box(crop)
        margin = 4 * float((box[1] - box[0]).max()) / resolution
        mesh = self._extract(
            self.density,
            resolution,
            crop,
            level=self.surface_density,
            hidden=self._hidden(margin, device, progress),
            fill_open=not self.scene.unbounded,  # objects; of a place, all that is beyond the walls is hidden
            progress=progress,
        )
        return mesh, self.surface_color

    def surface_color(self, x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB of points of the mesh with their outward normals: one colour for all directions. On any device."""
        from neural3d.geometry.mesh import seen_from_outside

        device = next(self.parameters()).device
        x, normal = x.to(device), normal.to(device)
        return seen_from_outside(self.color)(self._seen_point(x, -normal), normal)

    def mesh_box(self, crop: Float[Tensor, "2 3"] | None) -> Float[Tensor, "2 3"]:
        """Where to look for the surface, in the scene frame."""
        return self.scene.aabb if crop is None else _enclosing(self.scene.scene_from_capture, crop)

    @torch.no_grad()
    def _extract(
        self,
        field: Field,
        resolution: int,
        crop: Float[Tensor, "2 3"] | None,
        *,
        level: float | None = None,
        **how: Any,
    ) -> Mesh:
        """The surface of a field in `crop` (see `surface`) by `geometry.mesh.extract`, without floating pieces."""
        from neural3d.geometry.mesh import extract, remove_floaters

        device = next(self.parameters()).device
        capture_from_scene = torch.linalg.inv(self.scene.scene_from_capture)
        unit = float(torch.linalg.det(self.scene.scene_from_capture[:3, :3])) ** (1 / 3)

        def within(x: Tensor) -> Tensor:
            value = field(x)
            if crop is None:
                return value
            middle, half = crop.double().mean(0), (crop[1] - crop[0]) / 2  # about its middle: it may be far away
            y = x @ capture_from_scene[:3, :3].T.to(x) + (capture_from_scene[:3, 3] - middle).to(x)
            beyond = (y.abs() - half.to(x)).amax(-1) * unit  # distance to the box, or less
            return torch.maximum(value, beyond) if level is None else torch.where(beyond <= 0, value, 0)

        return remove_floaters(extract(within, self.mesh_box(crop).to(device), resolution, level=level, **how))

    def _seen_point(self, x: Float[Tensor, "N 3"], direction: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Where most of the light is lost that comes to points of the surface and goes on along `direction`.

        The surface itself lies in the outermost haze, whose colour photos hardly show and training leaves arbitrary.
        """
        step = 1 / 128
        depth, most, light = torch.zeros(3, len(x), 1, device=x.device)
        light = light + 1
        for k in range(16):
            left = light * torch.exp(-step * self.density(x + k * step * direction)[:, None])
            depth = torch.where(light - left > most, k * step, depth)
            most, light = torch.maximum(most, light - left), left
        return x + depth * direction

    def _hidden(self, margin: float, device: torch.device, progress: Progress = silent) -> Callable[[Tensor], Tensor]:
        """Which points some training camera faces, and all that do see a surface more than `margin` before them."""
        cameras = self.scene.cameras("train")
        chosen = cameras[:: math.ceil(len(cameras) / HIDING_VIEWS)]
        looks = []
        for camera in chosen:
            shrink = max(1.0, max(camera.width, camera.height) / HIDING_PIXELS)
            camera = camera.resized(round(camera.width / shrink), round(camera.height / shrink))
            out = self.render(camera)
            depth = torch.where(out.alpha > 0.5, out.depth, math.inf)[..., 0]
            looks.append((camera, depth.to(device)))
            progress("looking at it from the photos' places", len(looks), len(chosen))

        def hidden(x: Tensor) -> Tensor:
            faced, visible = torch.zeros(2, len(x), dtype=torch.bool, device=x.device)
            for camera, depth in looks:
                xy, z = camera.project(x)
                column, row = xy.nan_to_num(-1).floor().long().unbind(-1)
                inside = (z > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
                wall = depth[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
                faced |= inside
                visible |= inside & (z < wall + margin)
            return faced & ~visible

        return hidden


def _enclosing(matrix: Float[Tensor, "4 4"], box: Float[Tensor, "2 3"]) -> Float[Tensor, "2 3"]:
    """The axis-aligned box around a box after a similarity."""
    corners = torch.cartesian_prod(*box.double().T)
    moved = corners @ matrix[:3, :3].T + matrix[:3, 3]
    return torch.stack([moved.amin(0), moved.amax(0)]).float()
