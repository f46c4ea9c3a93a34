"""Pictures from packed rays: each ray has as many samples as it needs, one after the other in one tensor.

What stands on this: a field says what R rays see (`Shaded`), `render_packed` makes the picture of it, and `RayBudget`
keeps training steps equally long although rays take now many samples, now few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural3d.fields.radiance import EARLY_STOP, HashRadiance, RadianceConfig
from neural3d.geometry.cameras import Camera
from neural3d.ops.composite import Composite, composite
from neural3d.ops.ray_march import Samples
from neural3d.render import RenderOut
from neural3d.scene.footprint import photo_resolution, photo_steps

if TYPE_CHECKING:
    from neural3d.scene import Scene

TILE = 1 << 13  # rays at a time: so much stays in the caches, and memory does not grow with the picture


class Shaded(NamedTuple):
    """What R rays see."""

    rgb: Float[Tensor, "R 3"]  # on the background
    alpha: Float[Tensor, "R"]
    distance: Float[Tensor, "R"]  # along the ray, of what is seen; 0 where nothing is
    normal: Float[Tensor, "R 3"]


@torch.no_grad()
def render_packed(
    camera: Camera,
    shade: Callable[[Float[Tensor, "R 3"], Float[Tensor, "R 3"]], Shaded],
    device: torch.device,
    tile: int = TILE,
) -> RenderOut:
    """A camera's picture. shade(origins, directions): what rays of the scene frame see, `tile` of them at a time."""
    origins, directions = (x.reshape(-1, 3).to(device) for x in camera.rays())
    tiles = zip(origins.split(tile), directions.split(tile))
    rgb, alpha, distance, normal = map(torch.cat, zip(*(shade(o.contiguous(), d.contiguous()) for o, d in tiles)))
    depth = distance * (directions @ camera.forward.float().to(device))
    size = (camera.height, camera.width, -1)
    return RenderOut(rgb.view(size), alpha.view(size), depth.view(size), normal.view(size))


def mean_distance(out: Composite) -> Float[Tensor, "R"]:
    """Where the light that rays lose is lost, along them; 0 where they lose hardly any."""
    return torch.where(out.opacity > 1e-3, out.depth / out.opacity.clamp(min=1e-6), 0)


class RayBudget:
    """How many rays the next batch may have, for a step to take so many samples. Plain numbers: part of the state."""

    def __init__(self, samples: int, most: int):
        self.samples, self.most, self.rays = samples, most, 512

    def spent(self, samples: float, rays: int) -> None:
        """What the last batch took; samples that cost less than others count as parts. Follows slowly: rays vary."""
        cost = max(1, samples) / rays
        self.rays = int(min(max(0.8 * self.rays + 0.2 * self.samples / cost, 128), self.most))


# --- samples ---


def first_of_rays(samples: Samples) -> Int[Tensor, "R'"]:
    """Indices of the first sample of each ray that has any."""
    start, end = samples.offsets[:-1], samples.offsets[1:]
    return start[end > start].long()


def kept(samples: Samples, keep: Bool[Tensor, "S"]) -> Samples:
    """Only the chosen samples."""
    before = torch.nn.functional.pad(keep.cumsum(0), (1, 0))
    return Samples(
        samples.positions[keep], samples.t[keep], samples.dt[keep], samples.ray[keep], before[samples.offsets]
    )


# --- radiance fields ---


def photo_scale(config: RadianceConfig, scene: Scene) -> dict[str, Any]:
    """For `HashRadiance`: as fine as a scene's photos, with steps as long as their pixels ask for."""
    return {
        "finest": photo_resolution(scene, side=4 if scene.unbounded else 2),
        "steps": photo_steps(scene, config.footprints, 1 / config.steps_per_unit),
        "near": scene.near,
        "reach": scene.far if scene.unbounded else None,
    }


def composite_radiance(
    field: HashRadiance, samples: Samples, directions: Tensor, background: Tensor, positions: Tensor | None = None
) -> Composite:
    """Composites a field's samples for training: its distortion is over contracted distance.

    positions: of the samples, where gradients are to reach the rays.
    """
    sigma, rgb = field.emission(samples, directions, positions)
    t, dt = samples.t, samples.dt
    if field.unbounded:  # the same optical thickness σ dt over contracted distance
        warp = t.clamp(min=1) ** -2
        t, dt, sigma = torch.where(t > 1, 2 - 1 / t, t), dt * warp, sigma / warp
    return composite(sigma, rgb, t, dt, samples.offsets, background=background, early_stop=EARLY_STOP)


def shade_radiance(field: HashRadiance, origins: Tensor, directions: Tensor, background: Tensor) -> Shaded:
    """What rays see of a field; normals where they meet something."""
    samples, _ = field.samples(origins, directions)
    sigma, rgb = field.emission(samples, directions)
    out = composite(sigma, rgb, samples.t, samples.dt, samples.offsets, background=background)
    hit, distance = out.opacity > 0.5, mean_distance(out)
    normal = torch.zeros_like(directions)
    normal[hit] = field.normals((origins + distance[:, None] * directions)[hit])
    return Shaded(out.rgb, out.opacity, distance, normal)


def shade_depth(field: HashRadiance, origins: Tensor, directions: Tensor) -> Shaded:
    """Opacity and distance alone, at the cost of one density a sample; colours and normals are 0."""
    samples = field.march(origins, directions, field.nearest(origins, directions))
    nothing = torch.zeros_like(samples.positions)
    out = composite(field.density(samples.positions), nothing, samples.t, samples.dt, samples.offsets)
    return Shaded(out.rgb, out.opacity, mean_distance(out), torch.zeros_like(directions))
