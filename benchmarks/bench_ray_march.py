"""Marching 4096 rays through an occupancy grid beside a vectorised torch version, and a copy of what is written.

torch: all intervals of the lattice for all rays, masked lookups in a bool grid, then the samples that are left.
A step is an interval of the lattice inside the grid, whether it was looked up or skipped.
Scenes: an object (one cascade of 64³, regular steps) and its surroundings (five cascades, cone stepping); hollow
shells, about as full as trained scenes are.
"""

from __future__ import annotations

import math

import torch
from common import copy_ceiling, interleaved, machine, table

from neural3d.ops.memory import keep_memory
from neural3d.ops.ray_march import _lattice, pack_bits, ray_aabb, ray_march

RAYS, RESOLUTION = 4096, 64
STEP = 2 * math.sqrt(3) / 1024
SCENES = {
    "object": (1, 4.0, dict(step_min=STEP, step_max=STEP)),
    "surroundings": (5, 1.5, dict(step_min=STEP, step_max=64 * STEP, cone_angle=1 / 256)),
}


def shells(levels):
    """A sphere's skin and, in the outer cascades, the lower half of a box's."""
    axis = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION * 2 - 1
    unit = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    grids = []
    for level in range(levels):
        x, size = unit * 2**level, 2**level
        grid = (x.norm(dim=-1) - 0.6).abs() < 0.04 * size
        if level:
            grid |= ((x.abs().amax(-1) - 0.8 * size).abs() < 0.03 * size) & (x[..., 2] < 0)
        grids.append(grid)
    return torch.stack(grids)


def torch_march(origins, directions, t_min, t_max, grid, jitter, *, step_min, step_max, cone_angle=0.0):
    """Same samples, up to rounding at cell walls."""
    levels, resolution = grid.shape[:2]
    size = 2.0 ** (levels - 1)
    near, far = ((sign * size - origins) / directions for sign in (-1, 1))
    enter = torch.minimum(near, far).amax(-1).maximum(t_min)
    leave = torch.maximum(near, far).amin(-1).minimum(t_max)
    table_, tail = _lattice(step_min, step_max, cone_angle, origins.device)
    beyond = max(0, math.ceil((leave.max() - table_[-1]) / tail)) + 1
    b = torch.cat([table_, table_[-1] + tail * torch.arange(1, beyond + 1)])
    step = (b * cone_angle).clamp(step_min, step_max)
    step = torch.cat([step, step[-1:]])
    dt = step[:-1] + (step[1:] - step[:-1]) * jitter[:, None]
    t = b + step[:-1] * jitter[:, None] + dt * 0.5
    ray, k = ((t >= enter[:, None]) & (t < leave[:, None])).nonzero(as_tuple=True)
    t, dt = t[ray, k], dt[ray, k]
    x = origins[ray] + t[:, None] * directions[ray]
    level = torch.maximum(x.abs().amax(-1), dt * (resolution / 2)).log2().ceil().clamp(0, levels - 1)
    cell = ((x * torch.exp2(-level)[:, None] + 1) * (resolution / 2)).long().clamp(0, resolution - 1)
    index = ((level.long() * resolution + cell[:, 0]) * resolution + cell[:, 1]) * resolution + cell[:, 2]
    kept = grid.view(-1)[index].nonzero()[:, 0]
    offsets = torch.cat([kept.new_zeros(1), torch.bincount(ray[kept], minlength=len(origins)).cumsum(0)])
    return x[kept], t[kept], dt[kept], ray[kept].int(), offsets


def main() -> None:
    keep_memory()
    torch.manual_seed(0)
    rows = []
    for name, (levels, distance, steps) in SCENES.items():
        grid = shells(levels)
        bits = pack_bits(grid.float(), 0.5)
        origins = torch.nn.functional.normalize(torch.randn(RAYS, 3), dim=-1) * distance
        directions = torch.nn.functional.normalize(torch.rand(RAYS, 3) * 1.6 - 0.8 - origins, dim=-1)
        jitter = torch.rand(RAYS)
        box = torch.tensor([[-1.0] * 3, [1.0] * 3]) * 2 ** (levels - 1)
        rays = (origins, directions, *ray_aabb(origins, directions, box))
        everything = ray_march(*rays, torch.full_like(bits, 255), jitter=jitter, max_samples_per_ray=1 << 20, **steps)
        ours = ray_march(*rays, bits, jitter=jitter, **steps)
        theirs = torch_march(*rays, grid, jitter, **steps)
        assert abs(len(theirs[1]) / len(ours) - 1) < 1e-3
        seconds = interleaved(
            {
                "ours": lambda: ray_march(*rays, bits, jitter=jitter, **steps),  # noqa: B023
                "torch": lambda: torch_march(*rays, grid, jitter, **steps),  # noqa: B023
                "copy": copy_ceiling(64),
            }
        )
        bandwidth = 2 * 64 * 2**20 / seconds["copy"]
        for who in ("ours", "torch"):
            s = seconds[who]
            written = f"{24 * len(ours) / s / bandwidth:.0%}" if who == "ours" else ""
            rows.append(
                [name, who, f"{len(ours) / RAYS:.0f} of {len(everything) / RAYS:.0f}", f"{s * 1e3:.2f} ms",
                 f"{len(everything) / s / 1e6:.0f} M", f"{s / seconds['ours']:.1f}", written]
            )  # fmt: skip
    print(machine())
    print(table(["scene", "who", "samples/ray of steps", "median", "steps/s", "× our time", "of copy bandwidth"], rows))


if __name__ == "__main__":
    main()
