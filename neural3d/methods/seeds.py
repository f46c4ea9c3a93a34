"""Where splats start: the capture's sparse points, random ones in the scene's bounds, or another run's splats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.checkpoint import load_state
from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.ops.spherical_harmonics import Y0
from neural3d.scene.stored import read_scene

if TYPE_CHECKING:
    from neural3d.scene import Scene

ENOUGH = 100  # sparse points below which random ones are added
RIM = 0.2  # of a picture's width and height: splats that far outside of it may still reach into it


def seed_splats(scene: Scene, *, random_points: int, most: int, sh_degree: int, opacity: float) -> Gaussians:
    """Round splats at the scene's points, as wide as the way to their neighbours, in the points' colours.

    random_points: how many to draw in the bounds where the capture brings no points. most: a hard cap on their number.
    """
    if scene.points is not None and len(scene.points[0]) >= ENOUGH:
        xyz, rgb = scene.points
        finite = np.isfinite(xyz).all(1)
        xyz, rgb = xyz[finite], rgb[finite]
        if len(xyz) > most:
            chosen = np.linspace(0, len(xyz), most, endpoint=False).astype(int)
            xyz, rgb = xyz[chosen], rgb[chosen]
        means, colors = torch.from_numpy(xyz).float(), torch.from_numpy(rgb).float() / 255
        scales = torch.from_numpy(neighbour_distance(xyz)).float()
    else:
        means, scales = random_means(scene, min(random_points, most))
        colors = torch.rand(len(means), 3)
    n = len(means)
    return Gaussians(
        means,
        scales.clamp(min=1e-7).log()[:, None].repeat(1, 3),  # 1e-7: points on top of each other
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.full((n,), math.log(opacity / (1 - opacity))),
        (colors - 0.5) / Y0,
        torch.zeros(n, (sh_degree + 1) ** 2 - 1, 3),
    )


def within(points: Float[Tensor, "N 3"], cell: Float[Tensor, "2 2"]) -> Bool[Tensor, "N"]:
    """Which stand on some ground: x and y from its lower corner on, up to the upper one."""
    low, high = cell.to(points)
    return ((points[:, :2] >= low) & (points[:, :2] < high)).all(1)


def begun(start: Path, scene: Scene, sh_degree: int) -> tuple[Gaussians, Float[Tensor, "V 3"] | None]:
    """Where a run of the same capture stands: its splats and, if it has them, log gains of the scene's training views.

    Of a part of a scene, only splats on its ground, and those that may be in its pictures. Gains are relative to their
    mean over all of the run's views. Raises UserError where it is no such run.
    """
    state: dict[str, Any] = load_state(start / "checkpoint.safetensors", only="method/").get("method", {})
    names = ["means", "log_scales", "quats", "opacity_logits", "sh_dc", "sh_rest"]
    if not all(f"splats.{name}" in state for name in names):
        raise UserError(f"{start}: start asks for a run of splats, and this is none.")
    splats = Gaussians(*(state[f"splats.{name}"] for name in names))
    if splats.sh_degree != sh_degree:
        raise UserError(f"{start}: has sh_degree={splats.sh_degree}; start with the same.")
    if scene.cell is not None:
        means = splats.means.detach()
        needed = within(means, scene.cell)
        for camera in scene.cameras("train"):
            xy, z = camera.project(means)
            size = xy.new_tensor([camera.width, camera.height])
            needed |= ((xy > -RIM * size) & (xy < (1 + RIM) * size)).all(-1) & (z > 0)
        splats = splats.selected(needed)
    if "log_gain" not in state:
        return splats, None
    whole = read_scene(start / "scene.json")
    row = {whole.views[i].name: k for k, i in enumerate(whole.split["train"])}  # type: ignore[union-attr]
    gains = state["log_gain"] - state["log_gain"].mean(0)
    try:
        return splats, gains[[row[scene.views[i].name] for i in scene.split["train"]]]
    except KeyError as name:
        raise UserError(f"{start}: has not seen {name}; start with a run of the same capture.") from None


def neighbour_distance(points: Float[np.ndarray, "N 3"], count: int = 3) -> Float[np.ndarray, "N"]:
    """Root mean square distance to the nearest `count` others."""
    from scipy.spatial import cKDTree  # slow to import, needed once per training

    count = min(count, len(points) - 1)
    distances = cKDTree(points).query(points, count + 1)[0][:, 1:]
    return np.sqrt((distances**2).mean(1))


def random_means(scene: Scene, count: int) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
    """Points spread evenly over the bounds, and the mean distance between neighbours there.

    Of an unbounded scene half of them lie around the bounds, evenly in mip-NeRF 360's contracted space: |x|∞ = 1 / (2 −
    |y|∞) for 1 < |y|∞ < 2, cut off at the scene's far end.
    """
    low, high = scene.aabb.double()
    inside = count // 2 if scene.unbounded else count
    spacing = float((high - low).prod() / max(1, inside)) ** (1 / 3)
    means = low + torch.rand(inside, 3).double() * (high - low)
    scales = torch.full((inside,), spacing).double()
    if scene.unbounded:
        # A point uniform in the shell between the cubes of half side 1 and 2: a direction in the cube, then a radius
        # by its cumulative volume (r³ − 1) / 7.
        u = torch.rand(count - inside, 4).double()
        radius = (1 + 7 * u[:, 3]) ** (1 / 3)
        direction = _on_cube(u[:, :3])
        reach = (1 / (2 - radius)).clamp(max=scene.far)
        outside_spacing = (56 / (count - inside)) ** (1 / 3)  # in contracted units; the shell's volume is 4³ − 2³
        means = torch.cat([means, direction * reach[:, None]])
        scales = torch.cat([scales, outside_spacing * reach])
    return means.float(), scales.float() / 2


def _on_cube(u: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Points spread evenly over the surface of [-1, 1]³."""
    side = (u[:, 2:] * 6).long().clamp(max=5)
    flat = 2 * u[:, :2] - 1
    end = 1.0 - 2 * (side % 2)
    faces = torch.stack(
        [torch.cat([end, flat], 1), torch.cat([flat[:, :1], end, flat[:, 1:]], 1), torch.cat([flat, end], 1)]
    )
    return faces[side[:, 0] // 2, torch.arange(len(u))]
