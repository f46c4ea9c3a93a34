"""Meshes of fields: the surface within a crop box, closed where nobody can look, coloured by what an eye sees of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Field, Mesh, extract, remove_floaters, seen_from_outside
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Colors
    from neural3d.scene import Data, Scene

HIDING_VIEWS, HIDING_PIXELS = 24, 120  # training views, and their longer side, that tell a mesh what nobody has seen


def mesh_box(scene: Data, crop: Float[Tensor, "2 3"] | None) -> Float[Tensor, "2 3"]:
    """Where to look for the surface, in the scene frame. crop: box in the capture's frame and units; None: all."""
    return scene.aabb if crop is None else _enclosing(scene.scene_from_capture, crop)


@torch.no_grad()
def surface_within(
    scene: Data,
    field: Field,
    resolution: int,
    crop: Float[Tensor, "2 3"] | None = None,
    *,
    device: torch.device,
    level: float | None = None,
    **how: Any,
) -> Mesh:
    """The surface of a field in `crop` (see `mesh_box`) by `geometry.mesh.extract`, without floating pieces.

    device: of the positions that the field is asked for.
    """
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture)
    unit = float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)

    def within(x: Tensor) -> Tensor:
        value = field(x)
        if crop is None:
            return value
        middle, half = crop.double().mean(0), (crop[1] - crop[0]) / 2  # about its middle: it may be far away
        y = x @ capture_from_scene[:3, :3].T.to(x) + (capture_from_scene[:3, 3] - middle).to(x)
        beyond = (y.abs() - half.to(x)).amax(-1) * unit  # distance to the box, or less
        return torch.maximum(value, beyond) if level is None else torch.where(beyond <= 0, value, 0)

    return remove_floaters(extract(within, mesh_box(scene, crop).to(device), resolution, level=level, **how))


@torch.no_grad()
def surface_of_density(
    scene: Scene,
    render: Callable[[Camera], RenderOut],
    density: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]],
    color: Callable[[Float[Tensor, "N 3"], Float[Tensor, "N 3"]], Float[Tensor, "N 3"]],
    resolution: int,
    crop: Float[Tensor, "2 3"] | None = None,
    *,
    level: float,
    device: torch.device,
    progress: Progress = silent,
) -> tuple[Mesh, Colors]:
    """(the surface of a radiance field, closed; its colours, one for all directions, of points on any device)

    density: in 1 / scene unit. color: sRGB at positions seen along unit directions. level: the density from which a
    point counts as inside.
    """
    mesh = surface_within(
        scene, density, resolution, crop, device=device, level=level,
        hidden=hidden_from(scene, render, resolution, crop, device, progress),
        fill_open=not scene.unbounded,  # objects; of a place, all that is beyond the walls is hidden
        progress=progress,
    )  # fmt: skip

    def outside(x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        x, normal = x.to(device), normal.to(device)
        return seen_from_outside(color)(seen_point(density, x, -normal), normal)

    return mesh, outside


def seen_point(density: Field, x: Float[Tensor, "N 3"], direction: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Where most of the light is lost that comes to points of the surface and goes on along `direction`.

    The surface itself lies in the outermost haze, whose colour photos hardly show and training leaves arbitrary.
    """
    step = 1 / 128
    depth, most, light = torch.zeros(3, len(x), 1, device=x.device)
    light = light + 1
    for k in range(16):
        left = light * torch.exp(-step * density(x + k * step * direction)[:, None])
        depth = torch.where(light - left > most, k * step, depth)
        most, light = torch.maximum(most, light - left), left
    return x + depth * direction


def hidden_from(
    scene: Scene,
    render: Callable[[Camera], RenderOut],
    resolution: int,
    crop: Float[Tensor, "2 3"] | None,
    device: torch.device,
    progress: Progress = silent,
) -> Callable[[Tensor], Tensor]:
    """Which points some training camera faces, and all that do see a surface more than four cells before them."""
    box = mesh_box(scene, crop)
    margin = 4 * float((box[1] - box[0]).max()) / resolution
    cameras = scene.cameras("train")
    chosen = cameras[:: math.ceil(len(cameras) / HIDING_VIEWS)]
    views = []
    for camera in chosen:
        shrink = max(1.0, max(camera.width, camera.height) / HIDING_PIXELS)
        camera = camera.resized(round(camera.width / shrink), round(camera.height / shrink))
        out = render(camera)
        depth = torch.where(out.alpha > 0.5, out.depth, math.inf)[..., 0]
        views.append((camera, depth.to(device)))
        progress("looking at it from the photos' places", len(views), len(chosen))

    def hidden(x: Tensor) -> Tensor:
        faced, visible = torch.zeros(2, len(x), dtype=torch.bool, device=x.device)
        for camera, depth in views:
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
