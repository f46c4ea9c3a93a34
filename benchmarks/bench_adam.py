"""Fused Adam on a hash table (2²³ rows of 2): all rows and 3 % touched, beside torch's fused Adam and a copy."""

from __future__ import annotations

import torch
from common import copy_ceiling, interleaved, machine, table

from neural3d.ops.adam import adam_step

ROWS = 1 << 23


def main() -> None:
    torch.manual_seed(0)
    p, m, v = (torch.zeros(ROWS, 2) for _ in range(3))
    sparse = torch.randn(ROWS, 2) * (torch.rand(ROWS, 1) < 0.03)
    dense = torch.randn(ROWS, 2)
    grad = torch.empty_like(p)
    q = torch.nn.Parameter(torch.zeros(ROWS, 2))
    q.grad = dense.clone()
    torch_adam = torch.optim.Adam([q], fused=True)

    def ours(source, skip):
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
    moved = {"ours, all rows": 8 * 8 * ROWS, "ours, 3 % touched": 8 * ROWS, "torch fused": 7 * 8 * ROWS}
    rows = []
    for name, bytes_moved in moved.items():
        s = seconds[name] - (seconds["refill"] if name.startswith("ours") else 0)
        rows.append([name, f"{s * 1e3:.1f} ms", f"{bytes_moved / 1e6:.0f} MB", f"{bytes_moved / s / bandwidth:.0%}"])
    print(machine())
    print(table(["adam", "median", "bytes it must move", "of copy bandwidth"], rows))


if __name__ == "__main__":
    main()
