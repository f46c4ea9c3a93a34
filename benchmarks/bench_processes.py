"""One scene on two processes of one thread beside one process of two threads: seconds, held-out PSNR, bytes a step.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_processes.py fox=4:splat:1500 lego=4:ngp:300 --seeds 0 1 2
    python benchmarks/bench_processes.py --ngp-mb 9   # speed-up on 8 GPUs, computed from what was measured elsewhere

Both see as many rays: steps count photos (splat), batches are divided (ngp). Seconds are those of training alone.
Bytes: what a process gives away a step, through memory (gradients whole) or, as between machines and GPUs, of rows that
any touched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import machine, table

from neural3d.evaluate.views import evaluate
from neural3d.processes import MANY, Processes, join, leave, touched
from neural3d.run import configure, load
from neural3d.train import Trainer

CPU = torch.device("cpu")
WAYS = ((1, 2), (2, 1))  # processes × threads
COUNT_EVERY = 100  # sums of gradients of which one is counted
# Milliseconds of a step on an H200 (results/cuda_h200_2026-11-27.md: 24 s by steps), and MB a step of as many entries.
ON_GPU = {"fox splat, 114,801 splats": (24e3 / 7789, 114_801 * 59 * 4 / 1e6), "fox ngp": (24e3 / 2144, 0.0)}
LINKS = {"PCIe": 25.0, "NVLink": 400.0}  # GB/s of an all-reduce


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="SCENE=DOWNSCALE:METHOD:STEPS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ngp-mb", type=float, help="with it, 8 GPUs are computed: MB a step of ngp, as measured here")
    parser.add_argument("--out", type=Path, help="keep runs here")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(*options.worker)
    if options.ngp_mb:
        return print(on_gpus(options.ngp_mb))
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for case in options.cases for row in compare(case, options.seeds, options.out or Path(scratch))]
    print(machine())
    print(
        table(
            ["scene, method, steps", "processes × threads", "seconds", "speed", "PSNR", "MB a step: memory, messages"],
            rows,
        )
    )


def compare(case: str, seeds: list[int], out: Path) -> list[list[str]]:
    """A row for each way; seconds are medians, PSNR means over seeds. Ways take turns, for a machine is never quiet."""
    found: dict[tuple[int, int], list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in seeds:
        for count, threads in WAYS:
            folder = out / f"{case.replace(':', '-')}-{count}-{seed}"
            command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
            worker = [__file__, "--worker", case, str(count), str(seed), str(folder)]
            subprocess.run([*command, *worker], env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=True)
            found[count, threads].append(json.loads((folder / "bench.json").read_text()))
    for (count, _), results in found.items():
        for seed, result in zip(seeds, results):
            run = load(out / f"{case.replace(':', '-')}-{count}-{seed}", "cpu")
            result["psnr"] = evaluate(run, pictures=False)["results"]["psnr"]
            print(case, count, seed, result, flush=True)
    first = statistics.median(x["seconds"] for x in found[WAYS[0]])
    rows = []
    for (count, threads), results in found.items():
        seconds = statistics.median(x["seconds"] for x in results)
        psnr = [x["psnr"] for x in results]
        bytes_ = f"{results[0]['memory']:.1f}, {results[0]['messages']:.1f}" if count > 1 else ""
        each = " ".join(f"{x:.2f}" for x in psnr)
        rows.append([case, f"{count} × {threads}", f"{seconds:.1f}", f"{first / seconds:.2f}",
                     f"{statistics.mean(psnr):.2f} ({each})", bytes_])  # fmt: skip
    return rows


def work(case: str, count: str, seed: str, folder: str) -> None:
    """One of the processes."""
    scene, method, steps = case.split(":")
    name, _, downscale = scene.partition("=")
    processes = join("cpu")
    assert processes.count == int(count)
    trainer = Trainer.create(
        Path(folder), *configure(name, method, downscale=int(downscale), seed=int(seed)), CPU, processes
    )
    counted = Counted()
    if processes.count > 1:
        summed, calls = Processes.sum_gradients, 0

        def sum_gradients(self: Processes, parameters, weight: float) -> None:
            nonlocal calls
            every, calls = list(parameters), calls + 1
            if calls % COUNT_EVERY == 0:
                counted.add(every, self)
            summed(self, every, weight)

        Processes.sum_gradients = sum_gradients  # type: ignore[method-assign]
    trainer.fit(int(steps), previews=False)
    if processes.first:
        result = {"seconds": trainer.seconds, "memory": counted.mean("memory"), "messages": counted.mean("messages")}
        (Path(folder) / "bench.json").write_text(json.dumps(result))
    leave()


class Counted:
    """MB a step, of those looked at."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {"memory": [], "messages": []}

    def add(self, parameters: list[torch.Tensor], processes: Processes) -> None:
        whole = rows = 0
        for p in (p for p in parameters if p.grad is not None):
            whole += p.nbytes
            rows += p.nbytes
            if p.ndim > 1 and len(p) >= MANY:
                met = touched(p.grad)
                processes.largest(met)
                rows += len(p) + int(met.sum()) * (p.nbytes // len(p)) - p.nbytes
        self.found["memory"].append(whole / 1e6)
        self.found["messages"].append(rows / 1e6)

    def mean(self, way: str) -> float:
        return statistics.mean(self.found[way] or [0.0])


def on_gpus(ngp: float) -> str:
    """Computed, not measured: t₁ of a step, b bytes, speed β of the link; splat takes P t₁ / (t₁ + b/β) times as many
    photos, ngp's batch divides at best to t₁ / (t₁/P + b/β). Half of the GPUs' time is the link's where t₁ (/P) = b/β.
    """
    rows = []
    for name, (step, size) in ON_GPU.items():
        divided = not size
        for link, speed in LINKS.items():
            sent = (size or ngp) / speed  # MB by GB/s: ms
            gain = step / (step / 8 + sent) if divided else 8 * step / (step + sent)
            ends = f"{step / sent:.0f} GPUs" if divided else "never: each adds photos"
            rows.append([name, link, f"{step:.2f}", f"{size or ngp:.1f}", f"{sent:.2f}", f"{gain:.1f}", ends])
    return table(
        ["training", "link", "step, ms", "MB a step", "sum, ms", "speed-up on 8", "link takes half from"], rows
    )


if __name__ == "__main__":
    main()
