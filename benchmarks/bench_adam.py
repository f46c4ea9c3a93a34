"""Fused Adam beside torch's and a copy: on a hash table (2²³ rows of 2) and on the 59 numbers each of 26,000 splats.

All rows, and 3 % of them touched. What the splats need may stay in the last cache, so that its share of the bandwidth
at which 256 MiB are copied can be far above 100 %.
"""

from __future__ import annotations

import torch
from common import copy_ceiling, interleaved, machine, table

from neural3d.ops.adam import adam_step

SIZES = {"hash table": (1 << 23, 2), "26,000 splats": (26_000, 59)}


def measured(label: str, rows: int, width: int) -> list[list[str]]:
    p, m, v = (torch.zeros(rows, width) for _ in range(3))
    sparse = torch.randn(rows, width) * (torch.rand(rows, 1) < 0.03)
    dense = torch.randn(rows, width)
    grad = torch.empty_like(p)
    q = torch.nn.Parameter(torch.zeros(rows, width))
    q.grad = dense.clone()
    torch_adam = torch.optim.Adam([q], fused=True)

    def ours(source: torch.Tensor, skip: bool) -> None:
        grad.copy_(source)  # the kernel zeroes it; the copy is timed alone and subtracted
        adam_step(p, grad, m, v, step=10, lr=1e-2, skip_untouched=skip)

    seconds = interleaved(
        {
            "ours, all rows": lambda: ours(dense, False),
            "ours, 3 % touched": lambda: ours(sparse, True),
            "torch fused": torch_adam.step,
            "refill": lambda: grad.copy_(dense),
            "copy": copy_ceiling(),
        }
    )
    bandwidth = 2 * 256 * 2**20 / seconds["copy"]
    array = 4 * rows * width  # bytes
    moved = {"ours, all rows": 8 * array, "ours, 3 % touched": array, "torch fused": 7 * array}
    lines = []
    for name, must in moved.items():
        s = seconds[name] - (seconds["refill"] if name.startswith("ours") else 0)
        lines.append([label, name, f"{s * 1e3:.2f} ms", f"{must / 1e6:.0f} MB", f"{must / s / bandwidth:.0%}"])
    return lines


def main() -> None:
    torch.manual_seed(0)
    lines = [line for label, (rows, width) in SIZES.items() for line in measured(label, rows, width)]
    print(machine())
    print(table(["of", "adam", "median", "bytes it must move", "of copy bandwidth"], lines))


if __name__ == "__main__":
    main()
