"""The sums of density control over splats, beside the same by torch's operations and a copy.

python benchmarks/bench_splat_pull.py [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from common import copy_ceiling, interleaved, machine, table
from torch import Tensor

from neural3d.ops import splat_pull


def by_torch(v_xy: Tensor, radius: Tensor, pull: Tensor, views: Tensor, width: float, height: float) -> None:
    x, y = v_xy[:, 0] * (width / 2), v_xy[:, 1] * (height / 2)
    pull += x.mul_(x).add_(y.mul_(y)).sqrt_()
    views += radius > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    rows = []
    for n in (16_000, 1_000_000):
        v_xy, radius = torch.randn(n, 2, device=device), torch.rand(n, device=device)
        pull, views = torch.zeros(2, n, device=device)
        given = (v_xy, radius, pull, views, 133.0, 237.0)
        candidates = {"ours": lambda given=given: splat_pull(*given), "torch": lambda given=given: by_torch(*given)}
        if device == "cpu":
            candidates["copy"] = copy_ceiling()
        seconds = interleaved(candidates, rounds=25, warmup=2)
        for name in ("ours", "torch"):
            row = [f"{n:,}", name, f"{1e6 * seconds[name]:.0f} µs"]
            if device == "cpu":  # three arrays read of which two are written, and one of pairs
                row.append(f"{28 * n / seconds[name] / (2 * 2**28 / seconds['copy']):.0%}")
            rows.append(row)
    print(machine())
    print(table(["splats", "", "median", "of copy bandwidth"][: len(rows[0])], rows))


if __name__ == "__main__":
    main()
