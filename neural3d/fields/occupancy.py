"""The multi-scale occupancy grid that tells rays where to look (Müller et al. 2022, appendix E).

Cascade l of L covers [−2^l, 2^l]³ of the scene frame with R³ cells. Each cell remembers a density: the largest of
what was found in it, fading by `decay` each time it is looked at again. A cell is occupied where that exceeds
min(threshold, mean over all cells).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from neural3d.geometry.cameras import Camera, project
from neural3d.geometry.lenses import lens_of
from neural3d.ops.ray_march import pack_bits
from neural3d.processes import ALONE, Processes

UNKNOWN = math.inf  # never evaluated: counts as occupied
UNSEEN = -math.inf  # outside every camera's view: stays empty


class OccupancyGrid(nn.Module):
    """All state is in buffers and all randomness comes from the generator handed in, so that training resumes exactly.

    resolution: R, a multiple of 16. levels: L. threshold: the density (per unit of length) that is always worth a
    sample; instant-ngp's is 0.01 / step_min. budget: density evaluations per update. warmup: steps during which
    evaluations are spread over all cells; afterwards half of them go to occupied ones.
    """

    processes: Processes = ALONE
    density: Float[Tensor, "L R R R"]
    bits: UInt8[Tensor, "L R³/8"]
    _own: Bool[Tensor, "L R R R"]

    def __init__(
        self,
        *,
        resolution: int = 64,
        levels: int = 1,
        threshold: float,
        decay: float = 0.7,
        budget: int = 1 << 16,
        warmup: int = 256,
    ):
        super().__init__()
        self.resolution, self.levels = resolution, levels
        self.threshold, self.decay, self.budget, self.warmup = threshold, decay, budget, warmup
        shape = (levels, resolution, resolution, resolution)
        self.register_buffer("density", torch.full(shape, UNKNOWN))
        self.register_buffer("bits", pack_bits(self.density, 0.0))
        own = torch.ones(shape, dtype=torch.bool)  # not covered by a finer cascade
        own[1:, *[slice(resolution // 4, 3 * resolution // 4)] * 3] = False
        self.register_buffer("_own", own, persistent=False)

    @torch.no_grad()
    def update(
        self, density_fn: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]], step: int, generator: torch.Generator
    ) -> None:
        """Evaluates `budget` cells at random points inside, and marks cells anew.

        Cells that were never evaluated come first; then, from step `warmup` on, one half of the budget goes to
        occupied cells and the other to all; until then all of it to all.
        """
        density = self.density.view(-1)
        mine = (self._own.view(-1) & (density >= 0)).nonzero()[:, 0]
        known = density[mine]
        cells = self._spread(mine[known == UNKNOWN], self.budget, generator)
        left = self.budget - len(cells)
        if step >= self.warmup:
            occupied = self._spread(mine[(known > self._limit()) & (known < UNKNOWN)], left // 2, generator)
            cells = torch.cat([cells, occupied])
            left -= len(occupied)
        cells = torch.cat([cells, self._spread(mine, left, generator)])
        own = slice(self.processes.rank, None, self.processes.count)  # a part each
        fresh = density_fn(self._points(cells, generator)[own]).float().nan_to_num(0.0)
        self._learn(cells[own], fresh)
        self._mark()

    @torch.no_grad()
    def observe(self, positions: Float[Tensor, "N 3"], density: Float[Tensor, "N"]) -> None:
        """Learns from densities that were evaluated anyway, such as a training step's: they lie where rays are slow.

        Takes effect at the next `update`.
        """
        level, x, y, z = self._cells(positions)
        cells = ((level * self.resolution + x) * self.resolution + y) * self.resolution + z
        self._learn(cells, density.nan_to_num(0.0))

    def occupied(self, positions: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Whether each position's cell is marked. Beyond the last cascade the nearest cell answers."""
        level, x, y, z = self._cells(positions)
        blocks = self.resolution // 4  # the layout of `pack_bits`
        block = ((level * blocks + (x >> 2)) * blocks + (y >> 2)) * blocks + (z >> 2)
        byte = self.bits.view(-1)[block * 8 + ((x & 3) << 1) + ((y & 3) >> 1)]
        return (byte >> (((y & 1) << 2) + (z & 3)).to(torch.uint8)) & 1 != 0

    def _cells(self, positions: Float[Tensor, "N 3"]) -> tuple[Int[Tensor, "N"], ...]:
        """The finest cascade that holds each position, and its cell's x, y, z there."""
        level = torch.frexp(positions.abs().amax(-1))[1].clamp(0, self.levels - 1)  # 2^(level-1) ≤ |x|∞ < 2^level
        unit = torch.ldexp(positions, -level[:, None])
        cell = ((unit + 1) * (self.resolution / 2)).long().clamp(0, self.resolution - 1)
        return level.long(), *cell.unbind(-1)

    def _learn(self, cells: Int[Tensor, "N"], fresh: Float[Tensor, "N"]) -> None:
        """A cell's new density is the largest just found in it, or what it remembers, faded. Cells may repeat."""
        density = self.density.view(-1)
        if self.processes.count > 1:
            found = torch.full_like(density, UNSEEN).scatter_reduce_(0, cells, fresh, "amax")
            self.processes.largest(found)
            cells = (found > UNSEEN).nonzero()[:, 0]
            fresh = found[cells]
        old = density[cells]
        new = torch.maximum(torch.where(old == UNKNOWN, 0, old * self.decay), fresh)
        new = torch.where(old == UNSEEN, old, new)
        density.scatter_reduce_(0, cells, new, "amax", include_self=False)

    def _limit(self) -> Float[Tensor, ""]:
        """The density above which a cell is occupied."""
        known = self._own & self.density.isfinite()
        # Summed as integers, whose order cannot matter: a float sum would follow the number of threads.
        unit = self.threshold / 1024
        total = (self.density.clamp(0, 64 * self.threshold) / unit).nan_to_num(0.0).long().mul_(known).sum()
        return (total * unit / known.sum().clamp(min=1)).float().clamp(max=self.threshold)

    def _mark(self) -> None:
        limit = self._limit()
        inner = slice(self.resolution // 4, 3 * self.resolution // 4)
        for level in range(1, self.levels):  # what a finer cascade knows, the coarser one's centre repeats
            pooled = nn.functional.max_pool3d(self.density[None, level - 1], 2)[0]
            self.density[level, inner, inner, inner] = pooled
        pack_bits(self.density, limit, out=self.bits)

    def _spread(self, cells: Int[Tensor, "N"], n: int, generator: torch.Generator) -> Int[Tensor, "M"]:
        """At most n of the cells, each with the same chance and none twice: every (N/n)-th from a random start."""
        if len(cells) <= n:
            return cells
        start = torch.rand(1, generator=generator, device=generator.device, dtype=torch.float64).to(cells.device)
        chosen = (torch.arange(n, device=cells.device, dtype=torch.float64) + start) * (len(cells) / max(n, 1))
        return cells[chosen.long().clamp(max=len(cells) - 1)]

    def _points(self, cells: Int[Tensor, "N"], generator: torch.Generator) -> Float[Tensor, "N 3"]:
        """A random point in each cell."""
        level, *xyz = torch.unravel_index(cells, self.density.shape)
        inside = torch.rand(len(cells), 3, generator=generator, device=generator.device).to(cells.device)
        unit = (torch.stack(xyz, -1) + inside) * (2 / self.resolution) - 1
        return unit * torch.exp2(level.float())[:, None]

    @torch.no_grad()
    def keep(self, box: Float[Tensor, "2 3"]) -> None:
        """Empties, for good, the cells that lie outside a box."""
        axis = torch.arange(self.resolution, device=self.density.device) * (2 / self.resolution) - 1
        for level in range(self.levels):
            low = axis * 2**level
            high = low + 2 ** (level + 1) / self.resolution
            x, y, z = ((high > box[0, i]) & (low < box[1, i]) for i in range(3))
            self.density[level][~(x[:, None, None] & y[:, None] & z)] = UNSEEN
        self._mark()

    @torch.no_grad()
    def mark_visible(self, cameras: Iterable[Camera]) -> None:
        """Empties, for good, what no camera sees: there nothing could tell floaters from truth.

        Tested for blocks of 4³ cells by their bounding spheres; in doubt a block is seen.
        """
        device, blocks = self.density.device, self.resolution // 4
        axis = (torch.arange(blocks, device=device) + 0.5) * (2 / blocks) - 1
        unit = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
        scales = torch.exp2(torch.arange(self.levels, device=device).float())
        centres = (unit[None] * scales[:, None, None, None, None]).view(-1, 3)
        radii = (scales * (math.sqrt(3) / blocks)).repeat_interleave(blocks**3)
        unseen = torch.ones(len(centres), dtype=torch.bool, device=device)
        for camera in cameras:
            rest = unseen.nonzero()[:, 0]
            unseen[rest] = ~_sees(camera, centres[rest], radii[rest])
        cells = unseen.view(self.levels, blocks, blocks, blocks)
        for axis_ in (1, 2, 3):
            cells = cells.repeat_interleave(4, axis_)
        self.density[cells] = UNSEEN
        self._mark()


def _sees(camera: Camera, centres: Float[Tensor, "N 3"], radii: Float[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Whether any of a ball may be in the picture: its centre, moved to the optical axis by its radius, is.

    Lenses that fold the far outside back into the picture only add to what is seen.
    """
    pose = camera.world_from_camera.to(centres)
    points = (centres - pose[:3, 3]) @ pose[:3, :3]
    aside = points[:, :2].norm(dim=-1)
    inward = (1 - radii / aside.clamp(min=1e-12)).clamp(min=0)
    perspective = lens_of(camera.model).projection == "perspective"
    z = points[:, 2] + radii if perspective else points[:, 2]
    nearer = torch.stack([points[:, 0] * inward, points[:, 1] * inward, z], -1)
    x, y = project(camera.model, camera.params.to(centres), nearer).unbind(-1)
    inside = (x >= 0) & (x <= camera.width) & (y >= 0) & (y <= camera.height)
    return (inside & ((z > 0) if perspective else True)) | (points.norm(dim=-1) <= radii)
