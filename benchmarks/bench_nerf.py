"""The original NeRF within a CPU budget, on lego at 100×100: all photos, eight, and three of them; a prior of pieces.

    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_nerf.py all
    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_nerf.py eight --seeds 0 1 2
    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_nerf.py prior --set prior=PIECES

Steps are chosen so that the rows of a table cost about the same; the CPU minutes they took (scoring not counted) stand
beside, and do not depend on what else the machine does. Scores are of the test split, pictures in --out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from common import machine, table

from neural3d.evaluate.views import evaluate
from neural3d.run import Run, configure, resolve_device
from neural3d.train import Trainer

ALONE = ["scene.train_views=8", "samples_fine=0"]
# Samples from 2 to 6 of the capture's units, wherever the model is, and no memory of empty space.
PUBLISHED = ["clip_to_box=false", "grid_resolution=0", "near=1.588", "far=4.763"]
REGULARISED = ["include_input=true", "direction_levels=1", "anneal=0.5", "random_background=true", "density_noise=5"]
ROWS = {
    "all": [
        ("coarse and fine, as published", [], 12000),
        ("one network, and a grid that remembers empty space", ["samples_fine=0"], 20000),
    ],
    "prior": [
        ("8 photos, regularised", [*ALONE, *REGULARISED, "prior="], 5000),
        ("8 photos, regularised, prior", [*ALONE, *REGULARISED], 5000),
        ("3 photos, regularised", [*ALONE, "scene.train_views=3", *REGULARISED, "prior="], 5000),
        ("3 photos, regularised, prior", [*ALONE, "scene.train_views=3", *REGULARISED], 5000),
    ],
    "eight": [
        ("photos alone", ALONE, 5000),
        ("annealed frequencies, random backgrounds, noisy density, smoother colours", [*ALONE, *REGULARISED], 5000),
        ("photos alone, sampled as published", [*ALONE, *PUBLISHED], 2000),
        ("the same, regularised", [*ALONE, *PUBLISHED, *REGULARISED], 2000),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=ROWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", type=int, nargs="*", help="rows to run, counted from 0; default: all")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--scene", default="lego-nerf")
    parser.add_argument("--steps", type=float, default=1.0, help="factor on every row's steps")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-nerf"))
    options = parser.parse_args()
    rows = []
    for n, (label, settings, steps) in enumerate(ROWS[options.table]):
        if options.only is not None and n not in options.only:
            continue
        steps = round(options.steps * steps)
        for seed in options.seeds:
            changes = [*options.set, *settings, f"horizon={steps}"]
            config, scene = configure(options.scene, "nerf", changes, seed=seed)
            out = options.out / f"{options.table}-{n}-{seed}"
            trainer = Trainer.create(out, config, scene, resolve_device(options.device))
            begin = time.process_time()
            trainer.fit(steps, previews=False)
            minutes = (time.process_time() - begin) / 60
            run = Run(trainer.directory, config, trainer.scene, trainer.method.eval(), trainer.step)
            results = evaluate(run)["results"]
            row = [label, str(seed), str(steps), f"{minutes:.2f}", f"{results['psnr']:.2f}", f"{results['ssim']:.3f}"]
            print(row, flush=True)
            rows.append(row)
    print(machine())
    print(table(["lego 100×100", "seed", "steps", "CPU minutes", "PSNR", "SSIM"], rows))


if __name__ == "__main__":
    main()
