"""The last sharp picture of a field, as points in space: seen from elsewhere it fills in for pixels too slow to render.

Image warping by depth (McMillan and Bishop, SIGGRAPH 1995). What has come into sight, and what moved before something
else, is taken from a coarse rendering of the new view.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.render import RenderOut

PIXELS = 80_000  # that are remembered, and that a warped picture has: some ten milliseconds
WIDEST = 5  # pixels
TOLERANCE = 1.1  # a remembered point counts where it lies no deeper than this times the coarse rendering


@dataclass(frozen=True)
class Memory:
    """Where a picture's pixels lie in space, their colours, and how far each is from the next."""

    points: Float[Tensor, "N 3"]
    colors: Float[Tensor, "N 3"]
    pitch: Float[Tensor, "N"]

    @classmethod
    def of(cls, out: RenderOut, camera: Camera) -> Memory:
        """Of a rendered picture and its camera, what has a depth."""
        camera = camera.resized(out.rgb.shape[1], out.rgb.shape[0])
        every = max(1, round((camera.width * camera.height / PIXELS) ** 0.5))
        origins, directions = (x[::every, ::every] for x in camera.rays())
        depth, rgb = out.depth[::every, ::every], out.rgb[::every, ::every]
        along = (directions @ camera.forward.float())[..., None]
        there = (out.alpha[::every, ::every] > 0.5)[..., 0] & (depth > 0)[..., 0]
        pitch = depth[there][:, 0] * every / float(camera.params[0])
        return cls((origins + directions * depth / along)[there], rgb[there], pitch)

    def fill(self, coarse: RenderOut, camera: Camera) -> float:
        """Puts the remembered pixels that this camera sees into `coarse`, which has the camera's size; their share."""
        width, height = camera.width, camera.height
        xy, z = camera.project(self.points)
        kept = (z > 1e-3).nonzero()[:, 0]
        xy, z = xy[kept], z[kept]
        apart = float((self.pitch[kept] * float(camera.params[0]) / z).median()) if len(kept) else 1.0
        reach = min(WIDEST, int(apart) + 2)  # pixels along a point's side, so that coming nearer opens no gaps
        corner = (xy - 0.5 * (reach - 1)).floor().long()
        # The nearest wins: positive floats order like their bits; below them, which point it is.
        key = (z.float().contiguous().view(torch.int32).long() << 32) | kept
        nearest = torch.full((width * height,), torch.iinfo(torch.int64).max)
        for dx, dy in itertools.product(range(reach), repeat=2):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            on = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            nearest.scatter_reduce_(0, (y * width + x)[on], key[on], "amin")
        depth = (nearest >> 32).int().view(torch.float32)
        before = coarse.depth.view(-1)
        seen = (nearest < torch.iinfo(torch.int64).max) & ((before == 0) | (depth < TOLERANCE * before))
        coarse.rgb.view(-1, 3)[seen] = self.colors[nearest[seen] & 0xFFFFFFFF]
        coarse.depth.view(-1)[seen] = depth[seen]
        coarse.alpha.view(-1)[seen] = 1
        return float(seen.float().mean() / (coarse.alpha > 0).float().mean().clamp(min=1e-6))


def warped_size(camera: Camera) -> tuple[int, int]:
    """Width and height of a warped picture of this view."""
    share = min(1.0, (PIXELS / (camera.width * camera.height)) ** 0.5)
    return max(1, round(camera.width * share)), max(1, round(camera.height * share))
