"""Lists of the splats that touch each tile: time a splat as their number grows, beside sorting by torch and a copy.

    python benchmarks/bench_splat_bin.py [--counts 10000 100000 1000000]

Synthetic splats whose size falls as their number grows, so that all cover the picture, 1024 × 768, about alike. Torch
sorts the depths of as many splats, which is a part of the work. Bytes: what must be read or written once.
"""

from __future__ import annotations

import argparse

import torch
from common import copy_ceiling, interleaved, machine, table
from torch import Tensor

from neural3d.ops import keep_memory
from neural3d.ops.native import native, stream
from neural3d.ops.splat_bin import RECORD

WIDTH, HEIGHT = 1024, 768


class Lists:
    """The two kernels on memory allocated beforehand."""

    def __init__(self, values: list[Tensor], width: int, height: int):
        names = ("xy", "conic", "depth", "opacity", "features")
        self.values, self.image = dict(zip(names, values)), dict(width=width, height=height)
        features, opacity = values[4], values[3]
        self.kernels, self.stream = native(features.device), stream(features.device)
        self.splats = features.new_empty(len(features), RECORD)
        bytes_to_bin, _ = self.kernels.splat_scratch(opacity=opacity, slots=0, **self.image)
        self.scratch = opacity.new_empty(bytes_to_bin, dtype=torch.uint8)
        self.seen, self.slots = self.bin()
        tile = self.kernels.splat_tile
        self.tiles = -(-width // tile) * -(-height // tile)
        self.tile_begin = opacity.new_empty(self.tiles + 1, dtype=torch.int32)
        self.entry, self.place = (opacity.new_empty(self.slots, dtype=torch.int32) for _ in range(2))
        self.cells = opacity.new_empty(self.slots, dtype=torch.int64)
        _, bytes_to_fill = self.kernels.splat_scratch(opacity=opacity, slots=self.slots, **self.image)
        self.more = opacity.new_empty(bytes_to_fill, dtype=torch.uint8)
        self.fill()

    def bin(self) -> tuple[int, int]:
        return self.kernels.splat_bin(
            **self.values, splats=self.splats, scratch=self.scratch, **self.image, stream=self.stream
        )

    def fill(self) -> None:
        self.kernels.splat_fill(
            splats=self.splats, scratch=self.scratch, tile_begin=self.tile_begin, entry=self.entry, cells=self.cells,
            place=self.place, fill_scratch=self.more, seen=self.seen, **self.image, stream=self.stream,
        )  # fmt: skip


def cloud(n: int) -> list[Tensor]:
    """Round and long ellipses all over the picture, in no order."""
    g = torch.Generator().manual_seed(0)
    size = 2 * (1e5 / n) ** 0.5
    xy = torch.rand(n, 2, generator=g) * torch.tensor([WIDTH, HEIGHT])
    radii, angle = size * torch.exp(0.4 * torch.randn(n, 2, generator=g)) + 0.5, torch.rand(n, generator=g) * 3.14
    c, s = angle.cos(), angle.sin()
    a, b = 1 / radii[:, 0] ** 2, 1 / radii[:, 1] ** 2
    conic = torch.stack([a * c * c + b * s * s, (a - b) * c * s, a * s * s + b * c * c], -1)
    return [xy, conic, torch.rand(n, generator=g) * 5 + 0.1, torch.rand(n, generator=g), torch.rand(n, 3, generator=g)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_memory()
    rows = []
    for n in options.counts:
        values = cloud(n)
        lists = Lists(values, WIDTH, HEIGHT)
        calls = {"bin": lists.bin, "fill": lists.fill, "torch": lambda values=values: values[2].sort()}
        seconds = interleaved(calls | {"copy": copy_ceiling(64)}, rounds=options.rounds, warmup=2, take=min)
        entries = int(lists.tile_begin[-1])
        size = {"bin": n * 4 * 10 + lists.seen * (64 + 8), "fill": lists.seen * (64 + 8) + entries * 16}
        bandwidth = 2 * 64 * 2**20 / seconds["copy"]
        row = [f"{n:,}", f"{entries / n:.2f}"]
        for stage, amount in size.items():
            share = amount / seconds[stage] / bandwidth
            row.append(f"{seconds[stage] * 1e9 / n:.0f} ns ({share:.0%} of copy)")
        rows.append([*row, f"{seconds['torch'] * 1e9 / n:.0f} ns"])
    print(machine())
    print(
        table(["splats", "entries a splat", "bin and sort, a splat", "fill, a splat", "torch's sort of depths"], rows)
    )


if __name__ == "__main__":
    main()
