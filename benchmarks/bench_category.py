"""Categories: unseen shapes from 300 noisy points, from 60 % of these, and (DeepSDF) from their signed distances.

    OMP_NUM_THREADS=1 python benchmarks/bench_category.py /tmp/category                     # procedural furniture
    OMP_NUM_THREADS=1 python benchmarks/bench_category.py /tmp/kenney --folder MESHES       # a folder, made watertight

Trains both methods as `neural3d train OUT/shapes --method METHOD` does (unless OUT holds their runs) and prints a table
for each kind of evidence, beside the most similar training shape. What is measured, and how, is said in
neural3d.evaluate.category. The pictures are OUT/METHOD/eval/category*.png. Takes half an hour of one CPU thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, table

from neural3d.evaluate.category import evaluate_category
from neural3d.run import configure, load
from neural3d.shapes.watertight import convert_folder
from neural3d.synthetic.furniture import write_furniture
from neural3d.train import Trainer


def trained(data: Path, method: str, out: Path, settings: list[str]) -> str:
    """Trains a run, or what is left of it; says what it took."""
    start, cpu = time.process_time(), torch.device("cpu")
    if (out / "checkpoint.safetensors").exists():
        trainer = Trainer.resume(out, cpu)
    else:
        trainer = Trainer.create(out, *configure(data, method, settings), cpu)
    ready, before = time.process_time(), trainer.step
    if before >= trainer.method.config.horizon:
        return "trained before"
    trainer.fit(trainer.method.config.horizon, previews=False)
    end = time.process_time()
    minutes = (end - ready) / 60
    return f"{trainer.step - before} steps in {minutes:.1f} CPU minutes, after {ready - start:.0f} s of sampling"


def rows(report: dict[str, Any]) -> list[list[str]]:
    results = report["results"]
    return [
        [kind, f"{r['iou']:.3f}", f"{r['nearest_iou']:.3f}", f"{r['chamfer']:.2f}", f"{r['nearest_chamfer']:.2f}"]
        for kind, r in [*results["kinds"].items(), ("mean", results["mean"])]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder", type=Path, help="meshes to learn from instead of procedural furniture")
    parser.add_argument("--methods", nargs="+", default=["occupancy", "deepsdf"])
    parser.add_argument("--set", nargs="*", default=[], help="settings for all methods, such as horizon=3000")
    parser.add_argument("--limit", type=int, default=50, help="measure so many of the held-out shapes")
    parser.add_argument("--resolution", type=int, default=80)
    given = parser.parse_args()
    data = given.out / "shapes"
    if not data.exists():
        if given.folder:
            convert_folder(given.folder, data, unit=True)
        else:
            write_furniture(data)
    print(machine())
    for method in given.methods:
        run = given.out / method
        print(f"\n{method}: {trained(data, method, run, given.set)}")
        for seen in ("cloud", "partial", "mesh") if method == "deepsdf" else ("cloud", "partial"):
            report = evaluate_category(load(run, "cpu"), resolution=given.resolution, limit=given.limit, seen=seen)
            print(f"\n{report['protocol']['shapes']} held-out shapes; seen of each: {report['protocol']['seen']}\n")
            print(table(["kind", "IoU", "nearest training shape", "Chamfer %", "nearest training shape"], rows(report)))


if __name__ == "__main__":
    main()
