"""What it costs to save splats in training: it stands still while numbers are looked at and copied; a thread writes.

    python benchmarks/bench_saving.py [FOLDER]      # on whose disk is written; default: where temporary files go

The interval and the share of the training's time follow by `neural3d.saving.interval`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from common import machine, table

from neural3d.checkpoint import Snapshot
from neural3d.ops.memory import keep_memory
from neural3d.saving import interval

WIDTHS = {"means": 3, "log_scales": 3, "quats": 4, "opacity_logits": 1, "sh_dc": 3, "sh_rest": 45}
ROUNDS = 4  # of which the first has to fetch its memory


def measured(splats: int, file: Path) -> list[str]:
    state = {name: {kind: torch.randn(splats, n) for kind in ("p", "m", "v")} for name, n in WIDTHS.items()}
    rows = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for group in state.values():
            for tensor in group.values():
                tensor.aminmax()
        snapshot = Snapshot.of(state)
        copied, cpu = time.perf_counter(), time.process_time()
        snapshot.write(file)
        rows.append((copied - begin, time.perf_counter() - copied, time.process_time() - cpu))
        del snapshot
    blocked, writing, busy = (min(column) for column in zip(*rows[1:]))
    cores = torch.get_num_threads()
    every = interval(blocked, writing, busy, cores)
    share = (blocked + busy / cores) / every
    size = file.stat().st_size / 2**20
    return [
        f"{splats:,}", f"{size:.0f} MiB", f"{blocked:.2f} s ({rows[0][0]:.2f})", f"{busy:.2f} s", f"{writing:.1f} s",
        f"{every:.0f} s, at {share:.1%}",
    ]  # fmt: skip


def main() -> None:
    keep_memory()
    header = ["splats", "checkpoint", "looking, copying (first time)", "writing, CPU", "writing", "interval, share"]
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        rows = [measured(n, Path(folder) / "checkpoint.safetensors") for n in (200_000, 500_000, 1_000_000, 2_000_000)]
    print(machine())
    print(table(header, rows))


if __name__ == "__main__":
    main()
