"""`igr` on the clouds of clouds.py, beside Open3D's screened Poisson on the same points, in one run.

    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_igr.py
    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_igr.py --shapes bunny.off --steps 800

Figures are Chamfer distances, see neural3d.geometry.mesh_metrics; Poisson's at depth 8, and at the best depth of those
asked for (which). Its normals are estimated and guessed as in bench_poisson.py. CPU: seconds of the training loop.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bench_poisson import mean_chamfer, oriented
from clouds import POINTS, SHAPES, STATES, State, cloud, truth
from common import machine, table

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import compare
from neural3d.run import configure
from neural3d.train import Trainer


def igr(mesh: Mesh, state: State, settings: list[str], resolution: int) -> tuple[Mesh, float]:
    """(the surface in the cloud's frame, CPU seconds of training)"""
    points, normals = cloud(mesh, state)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("cloud.xyz" if normals is None else "cloud.xyzn")
        np.savetxt(path, points if normals is None else np.concatenate([points, normals], 1))
        begin = time.process_time()
        config, shape = configure(path, "igr", settings)
        trainer = Trainer.create(Path(folder) / "run", config, shape, torch.device("cpu"))
        trainer.fit(trainer.method.config.horizon, previews=False)
        seconds = time.process_time() - begin
    made = trainer.method.eval().mesh(resolution)
    return made.transformed(torch.linalg.inv(shape.scene_from_capture)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--states", nargs="+", type=int, default=range(len(STATES)), help="rows, 0 to 3")
    parser.add_argument("--depths", type=int, nargs="+", default=[6, 8, 10])
    parser.add_argument("--steps", type=int, help="of igr; default: its horizon")
    parser.add_argument("--resolution", type=int, default=256)
    options = parser.parse_args()
    settings = [f"horizon={options.steps}"] if options.steps else []
    rows = []
    for number in options.states:
        label, state = list(STATES.items())[number]
        row = [label]
        for name in options.shapes:
            mesh = truth(name)
            made, seconds = igr(mesh, state, settings, options.resolution)
            ours = compare(made, mesh, volume_samples=1)["chamfer"]
            given = oriented(mesh, state, 0, known=state.normals)
            poisson = {d: mean_chamfer([given], mesh, d, 0.0) for d in {8, *options.depths}}
            best = min(poisson, key=lambda d: poisson[d])
            row.append(f"{ours:.3f} beside {poisson[8]:.3f} / {poisson[best]:.3f} ({best}), {seconds:.0f} s")
            print(label, name, row[-1], flush=True)
        rows.append(row)
    print(f"{machine()}; {POINTS} points; igr beside Poisson at depth 8 / at its best depth, and igr's CPU seconds")
    print(table(["points", *options.shapes], rows))


if __name__ == "__main__":
    main()
