"""Shapes from one picture: occupancy learnt from shapes, dvr learnt from pictures alone, beside class and look-alikes.

    python benchmarks/bench_picture.py /tmp/picture                       # procedural furniture
    python benchmarks/bench_picture.py /tmp/kenney --folder MESHES        # a folder, made watertight

Trains, as `neural3d train` does and unless OUT holds their runs, on the training shapes of one folder: occupancy by
pictures and by class, and dvr on captures of the same shapes. Then all held-out shapes are measured, each by the same
one picture (`neural3d.evaluate.category`).
Pictures: OUT/NAME/eval/category_image.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench_category import trained
from common import machine, table

from neural3d.evaluate.category import evaluate_category
from neural3d.run import load
from neural3d.scene.objects import write_captures
from neural3d.shapes.category import load_shape_set
from neural3d.shapes.watertight import convert_folder
from neural3d.synthetic.furniture import write_furniture

RUNS = {
    "image": ("shapes", "occupancy", ["condition=image"]),
    "class": ("shapes", "occupancy", ["condition=class", "horizon=800"]),  # a few classes are soon told
    "dvr": ("captures", "dvr", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder", type=Path, help="meshes to learn from instead of procedural furniture")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[*RUNS])
    parser.add_argument("--limit", type=int, default=50, help="measure so many of the held-out shapes")
    parser.add_argument("--resolution", type=int, default=64)
    given = parser.parse_args()
    shapes, captures = given.out / "shapes", given.out / "captures"
    if not shapes.exists():
        if given.folder:
            convert_folder(given.folder, shapes, unit=True)
        else:
            write_furniture(shapes)
    if "dvr" in given.runs and not captures.exists():
        write_captures(load_shape_set(shapes), captures)
    print(machine())
    results = {}
    for name in given.runs:
        data, method, settings = RUNS[name]
        print(f"{name}: {trained(given.out / data, method, given.out / name, settings)}", flush=True)
        report = evaluate_category(load(given.out / name, "cpu"), resolution=given.resolution, limit=given.limit)
        results[name] = report["results"]
    for key, text in (("iou", "IoU"), ("chamfer", "Chamfer %")):
        columns = [(name, key) for name in results] + [("image", f"alike_{key}"), ("image", f"nearest_{key}")]
        columns = [(name, column) for name, column in columns if name in results]
        kinds = [*results[given.runs[0]]["kinds"], "mean"]
        values = [
            [f"{(results[n]['kinds'] | {'mean': results[n]['mean']})[kind][column]:.3f}" for n, column in columns]
            for kind in kinds
        ]
        heads = [n if column == key else column.split("_")[0] for n, column in columns]
        print(f"\n{text}\n\n{table(['kind', *heads], [[k, *v] for k, v in zip(kinds, values)])}")


if __name__ == "__main__":
    main()
