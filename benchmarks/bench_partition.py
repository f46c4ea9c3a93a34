"""A scene trained whole beside the same in cells: held-out PSNR, seconds, memory. `--frames` draws a film to look at.

    python benchmarks/bench_partition.py CAPTURE WORK --set horizon=1500 --cells 4 --downscale 2

Memory is what a user's machine must have: the sum over all processes that run at a time of their proportional set
size (PSS: pages that several share are divided among them), looked at ten times a second. Beside it stands the same
less that of `neural3d info splat --scene`-like idling: an interpreter that has imported what training imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from common import machine, table

EVERY = 0.1  # seconds between looks at the memory
IDLE = "import neural3d.train, neural3d.cli.train, time; time.sleep(1.5)"


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        try:
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def pss(pid: int) -> int:
    """Bytes; 0 of a process that has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0)


def watched(*command: str) -> tuple[float, float]:
    """Seconds, and the peak in MiB of the PSS of all processes together. Ends this program where the command fails."""
    begin, peak, parts = time.perf_counter(), 0, [0]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout or []))
    reader.start()
    while process.poll() is None:
        now = [pss(pid) for pid in children(process.pid)]
        peak, parts = max((peak, parts), (sum(now), now))
        time.sleep(EVERY)
    reader.join()
    print("at the peak:", *(f"{x / 2**20:.0f}" for x in parts), "MiB:", " ".join(command)[-100:], flush=True)
    if process.returncode:
        sys.exit("".join(said[-20:]))
    return time.perf_counter() - begin, peak / 2**20


def neural3d(*words: str | Path) -> tuple[float, float]:
    return watched(sys.executable, "-m", "neural3d.cli", *map(str, words))


def measure(args: argparse.Namespace, name: str, settings: list[str]) -> list[str]:
    """A row: trains, unless the run is there, and evaluates."""
    run = args.work / name
    if not (run / "bench.json").exists():
        size = ["--downscale", args.downscale] if args.downscale else []
        words = ["train", args.capture, "--method", "splat", *size, "--out", run, "--set", *args.set, *settings]
        seconds, peak = neural3d(*words)
        neural3d("eval", run, *(["--split", args.split] if args.split else []))
        (run / "bench.json").write_text(json.dumps({"seconds": seconds, "peak": peak}))
    told = json.loads((run / "bench.json").read_text())
    results = json.loads((run / "eval.json").read_text())["results"]
    splats = splats_of(run)
    gain = f"{results['psnr_gain']:.2f}" if "psnr_gain" in results else "—"
    return [
        name, f"{splats:,}", f"{results['psnr']:.2f}", gain, f"{results['ssim']:.4f}", f"{told['seconds']:.0f}",
        f"{told['peak']:.0f}", f"{told['peak'] - args.idle:.0f}",
    ]  # fmt: skip


def splats_of(run: Path) -> int:
    from neural3d.checkpoint import load_state

    return len(load_state(run / "checkpoint.safetensors", only="method/splats.means")["method"]["splats.means"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("capture")
    parser.add_argument("work", type=Path)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--downscale")
    parser.add_argument("--split")
    args = parser.parse_args()
    args.idle = watched(sys.executable, "-c", IDLE)[1]
    print(machine(), f"\nidle: {args.idle:.0f} MiB", flush=True)
    rows = [measure(args, "whole", []), measure(args, f"cells{args.cells}", ["partition=true", f"cells={args.cells}"])]
    header = ["run", "splats", "PSNR", "PSNR after gain", "SSIM", "seconds", "peak MiB", "of which beyond idle"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
