"""A scene trained whole beside the same in cells: PSNR of held-out and of training photos, seconds, memory, a film.

    python benchmarks/bench_partition.py CAPTURE WORK --set horizon=1500 --cells 4 --downscale 2
    python benchmarks/bench_partition.py street WORK --set horizon=4000     # ours: neural3d.synthetic.street

Memory is what a user's machine must have: the sum over all processes that run at a time of their proportional set
size (PSS: pages that several share are divided among them), looked at ten times a second. Beside it stands the same
less that of an interpreter that has imported what training imports.
WORK/film.png: frames along the cameras' way, across the cells' borders: whole above, cells below.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
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
        (run / "bench.json").write_text(json.dumps({"seconds": seconds, "peak": peak}))
    if not (run / "eval.json").exists():
        neural3d("eval", run, "--split", "train")
        (run / "eval.json").rename(run / "train.json")
        neural3d("eval", run)
    told = json.loads((run / "bench.json").read_text())
    seen = json.loads((run / "train.json").read_text())["results"]["psnr"]
    results = json.loads((run / "eval.json").read_text())["results"]
    splats = splats_of(run)
    gain = f"{results['psnr_gain']:.2f}" if "psnr_gain" in results else "—"
    return [
        name, f"{splats:,}", " ".join(f"{x['psnr']:.2f}" for x in results["per_image"][:3]), f"{results['psnr']:.2f}",
        gain, f"{seen:.2f}", f"{results['ssim']:.4f}", f"{told['seconds']:.0f}",
        f"{told['peak']:.0f}", f"{told['peak'] - args.idle:.0f}",
    ]  # fmt: skip


def film(args: argparse.Namespace) -> None:
    """Frames between neighbouring training cameras, whole above cells, in rows of four."""
    import torch

    from neural3d.render.images import save_png, to_bytes
    from neural3d.run import load

    runs = [load(args.work / name, "cpu") for name in ("whole", f"cells{args.cells}")]
    cameras = runs[0].scene.cameras("train")
    rows = []
    for k in range(args.frames):
        at = (k + 0.5) / args.frames * (len(cameras) - 1)
        one, other, share = cameras[int(at)], cameras[min(int(at) + 1, len(cameras) - 1)], at % 1
        camera = replace(one, world_from_camera=between(one.world_from_camera, other.world_from_camera, share))
        rows.append(torch.cat([run.render(camera).rgb for run in runs]))
    rows = [torch.cat(rows[k : k + 4], 1) for k in range(0, len(rows) // 4 * 4, 4)]
    save_png(args.work / "film.png", to_bytes(torch.cat(rows)))


def between(one, other, share: float):
    """A pose on the way from one to another that looks about the same way; else the one, moved."""
    import torch

    pose = one.clone()
    pose[:3, 3] = torch.lerp(one[:3, 3], other[:3, 3], share)
    if one[:3, 2] @ other[:3, 2] > 0.5:
        u, _, v = torch.linalg.svd(torch.lerp(one[:3, :3], other[:3, :3], share))
        pose[:3, :3] = u @ v
    return pose


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
    parser.add_argument("--frames", type=int, default=12)
    args = parser.parse_args()
    if args.capture == "street" and not (args.work / "street" / "transforms.json").exists():
        from neural3d.synthetic.street import make_street

        make_street(args.work / "street")
    args.capture = str(args.work / "street") if args.capture == "street" else args.capture
    args.idle = watched(sys.executable, "-c", IDLE)[1]
    print(machine(), f"\nidle: {args.idle:.0f} MiB", flush=True)
    cells = ["partition=true", f"cells={args.cells}"]
    rows = [measure(args, "whole", []), measure(args, f"cells{args.cells}", cells)]
    if args.frames:
        film(args)
    header = ["run", "splats", "first three held out", "PSNR", "after gain", "of training photos", "SSIM", "seconds"]
    header += ["peak MiB", "beyond idle"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
