"""What the backward kernels for CUDA ask of the memory, counted on kernels that run on the CPU (tests/cuda_on_cpu).

    NEURAL3D_EMULATED=build/emulated python benchmarks/bench_atomics.py [--data FOLDER] [--only fox]

splat_raster, on the scenes of bench_splat_raster.py: atomic operations an entry (a splat in a tile), and in how many
rectangles of pixels its splat is blended: so often must a warp that has such pixels take sums over them. hash_grid, on
points all over the cube and on rays: atomic operations a point, and the turns in which the memory takes them: a sector
of 32 bytes at a time, of all lanes of a warp, and lanes that share an address one after the other. It measures no time:
bench_cuda.py does, on a GPU.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from bench_hash_grid import SPEC, points_along_rays
from bench_splat_raster import Stages, scenes
from common import table
from cuda_on_cpu import FOLDER, counted, emulated, load
from torch import Tensor

from neural3d.ops.hash_grid import HashGridSpec, hash_grid

POINTS = 1 << 12
TILE, ALPHA_MIN, ALPHA_MAX, THROUGH_MIN = 16, 1 / 255, 0.99, 1e-4
RECTANGLES = {f"{w} × {h}": (w, h) for w, h in ((8, 4), (16, 2), (8, 8), (16, 8), (16, 16))}


def blended(stages: Stages, tile: int, width: int, height: int) -> Tensor:
    """(entries, 16, 16) the pixels of a tile to which its entries are blended."""
    lists = stages.lists
    begin, end = lists.tile_begin[tile : tile + 2]
    x, y, a, b, c, level = lists.splats[lists.entry[begin:end].long(), :6].T[..., None, None]
    across = -(-width // TILE)
    columns = torch.arange(TILE) + tile % across * TILE
    rows = torch.arange(TILE)[:, None] + tile // across * TILE
    dx, dy = columns + 0.5 - x, rows + 0.5 - y
    alpha = torch.exp2(level - a * dx * dx - b * dx * dy - c * dy * dy)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha.clamp(max=ALPHA_MAX), 0)
    through = torch.cumprod(1 - alpha, 0)
    return (alpha > 0) & (through >= THROUGH_MIN) & (columns < width) & (rows < height)


def splats(data: Path | None, only: str, kernels) -> str:
    rows = []
    for name, (values, width, height) in scenes(data).items():
        if only not in name:
            continue
        with emulated(kernels):
            stages = Stages(values, width, height)
            with counted(kernels) as counts:
                stages.backward()
        entries, visits = len(stages.lists.entry), dict.fromkeys(RECTANGLES, 0)
        for tile in range(stages.lists.tiles):
            pixels = blended(stages, tile, width, height)
            for rectangle, (w, h) in RECTANGLES.items():
                visits[rectangle] += int(pixels.view(-1, TILE // h, h, TILE // w, w).any(4).any(2).sum())
        row = [name, f"{entries:,}", f"{counts.atomics / entries:.2f}", f"{counts.turns / entries:.2f}"]
        row += [f"{counts.collectives / entries:.1f}"]
        rows.append([*row, *(f"{n / entries:.2f}" for n in visits.values())])
    header = ["scene", "entries", "atomics an entry", "turns", "collectives", *(f"in {r}" for r in RECTANGLES)]
    return table(header, rows)


def grids(kernels) -> str:
    """Level by level."""
    entries = torch.zeros(SPEC.entries, SPEC.features, requires_grad=True)
    rows = []
    for name, x in (("uniform", torch.rand(POINTS, 3)), ("rays", points_along_rays(POINTS))):
        for level in range(SPEC.levels):
            spec = HashGridSpec(level_weights=tuple(float(other == level) for other in range(SPEC.levels)))
            with emulated(kernels), counted(kernels) as counts:
                hash_grid(x, entries, spec).sum().backward()
            kind = "dense" if SPEC.resolutions[level] ** 3 <= SPEC.sizes[level] else "hashed"
            row = [name, f"{level} ({SPEC.resolutions[level]}³, {kind})"]
            rows.append([*row, f"{counts.atomics / POINTS:.2f}", f"{counts.turns / POINTS:.2f}"])
    return table(["points", "level", "atomics a point", "turns a point"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEURAL3D_DATA"))
    parser.add_argument("--only", default="269", help="scenes whose names contain this")
    options = parser.parse_args()
    if FOLDER is None:
        print("NEURAL3D_EMULATED does not name a build of tests/cuda_on_cpu: nothing counted")
        return
    torch.manual_seed(0)
    kernels = load()
    print(grids(kernels))
    print(splats(Path(options.data) if options.data else None, options.only, kernels))


if __name__ == "__main__":
    main()
