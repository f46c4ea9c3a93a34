"""`igr` on the clouds of clouds.py, beside screened Poisson and other reconstructions of the same points.

    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_igr.py --out FIGURES.jsonl
    NEURAL3D_DATA=../shared/data python benchmarks/bench_igr.py --shapes bunny.off --states noise --methods igr
    python benchmarks/bench_igr.py --table FIGURES.jsonl [MORE.jsonl]        # of what was measured before

Figures are Chamfer distances, see neural3d.geometry.mesh_metrics. Of open shapes igr is told that they are open, and
the others' surfaces are trimmed by its rule (neural3d.geometry.support) where that brings them nearer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clouds import OPEN, SOLIDS, THIN, TUNED, cloud, states_of, truth
from common import machine, table
from peers import PEERS, oriented

from neural3d.geometry import clouds
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import compare
from neural3d.geometry.support import Support
from neural3d.run import configure
from neural3d.train import Trainer


def igr(points: np.ndarray, normals: np.ndarray | None, settings: list[str], resolution: int) -> tuple[Mesh, list[str]]:
    """(the surface in the cloud's frame, what the method said of the cloud)"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("cloud.xyz" if normals is None else "cloud.xyzn")
        np.savetxt(path, points if normals is None else np.concatenate([points, normals], 1))
        config, shape = configure(path, "igr", settings)
        trainer = Trainer.create(Path(folder) / "run", config, shape, torch.device("cpu"))
        trainer.fit(trainer.method.config.horizon, previews=False)
    made = trainer.method.eval().mesh(resolution)
    return made.transformed(torch.linalg.inv(shape.scene_from_capture)), shape.notes


def trimmed(mesh: Mesh, points: np.ndarray) -> Mesh:
    """As `igr` would."""
    tree = clouds.tree_of(points)
    spacing = clouds.surroundings(tree, planes=False).spacing
    return Support.of(points, spacing, clouds.noise(tree)).trimmed(mesh)


def measure(shape: str, label: str, methods: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A figure of each method with its CPU seconds, or why there is none."""
    mesh, state = truth(shape), states_of(shape)[label]
    points, normals = cloud(mesh, state)
    told = oriented(points, normals) if set(methods) & set(PEERS) else None
    for method in methods:
        figure: dict[str, Any] = {"shape": shape, "state": label, "method": method}
        begin = time.process_time()
        try:
            if method == "igr":
                known = ["open=yes"] if shape in OPEN else []
                made, figure["said"] = igr(points, normals, known + options.set, options.resolution)
            else:
                made = PEERS[method](told)
            figure["cpu_s"] = time.process_time() - begin
            figure["chamfer"] = compare(made, mesh, volume_samples=1)["chamfer"]
            if shape in OPEN and method != "igr":
                left = compare(trimmed(made, points), mesh, volume_samples=1)["chamfer"]
                figure["chamfer"] = min(figure["chamfer"], left)
        except Exception as error:  # other programs raise what they like
            figure["error"] = str(error)
        yield figure


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(figures: list[dict[str, Any]]) -> str:
    """One row per cloud: igr, Poisson at depth 8 and at its best, the best of the others."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for figure in figures:
        found[figure["shape"], figure["state"]][figure["method"]] = figure.get("chamfer", np.inf)
    rows, better, far = [], 0, 0
    for (shape, label), by in found.items():
        poissons = {m: c for m, c in by.items() if m.startswith("poisson")}
        others = {m: c for m, c in by.items() if m not in poissons and m != "igr"}
        cells = [f"{shape}{' (tuned on)' if shape in TUNED else ''}", label, f"{by.get('igr', np.nan):.3f}"]
        cells.append(f"{by.get('poisson 8', np.nan):.3f}")
        for group in (poissons, others):
            best = min(group, key=lambda m: group[m], default=None)
            cells.append("" if best is None else f"{group[best]:.3f} ({best.removeprefix('poisson ')})")
        if "igr" in by and poissons:
            better += by["igr"] < min(poissons.values())
            far += by["igr"] > 1.1 * min(poissons.values())
        rows.append(cells)
    heads = ["shape", "points", "igr", "Poisson, depth 8", "Poisson, best depth", "best of the others"]
    return f"{table(heads, rows)}\n{len(rows)} rows: igr better in {better}, worse by more than 10 % in {far}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=[*SOLIDS, *THIN, *OPEN])
    parser.add_argument("--states", nargs="+", default=[""], help="those whose names hold one of these words")
    parser.add_argument("--methods", nargs="+", default=["igr", *PEERS])
    parser.add_argument("--set", nargs="+", default=[], help="settings of igr, such as horizon=800")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--out", type=Path, help="where figures are added, one JSON object a line, if it has them not")
    parser.add_argument("--table", type=Path, nargs="+", help="measure nothing")
    options = parser.parse_args()
    if options.table:
        return print(report([figure for path in options.table for figure in read(path)]))
    figures = read(options.out) if options.out and options.out.exists() else []
    for shape in options.shapes:
        for label in states_of(shape):
            if any(word in label for word in options.states):
                known = {f["method"] for f in figures if (f["shape"], f["state"]) == (shape, label)}
                left = [method for method in options.methods if method not in known]
                for figure in measure(shape, label, left, options) if left else ():
                    figures.append(figure)
                    print(figure, flush=True)
                    if options.out:
                        with open(options.out, "a") as file:
                            file.write(json.dumps(figure) + "\n")
    print(machine())
    print(report(figures))


if __name__ == "__main__":
    main()
