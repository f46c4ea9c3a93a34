"""End to end: held-out PSNR against training time, one row per scene; pictures of truth beside result in --out.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_train.py fox=2 lego=2 --minutes 10
    NEURAL3D_DATA=../shared/data python benchmarks/bench_train.py plush=4 stool temple dtu24 --minutes 5

SCENE=K trains at 1/K of the photos' size. Learning rates follow the clock (`train --minutes`); scoring is not counted.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from common import machine, table

from neural3d.evaluate.views import evaluate
from neural3d.run import Run, configure, resolve_device
from neural3d.train import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="+", help="ready scenes, each NAME or NAME=DOWNSCALE")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument(
        "--marks", type=float, nargs="*", default=[0.5, 1, 2, 3, 5, 10], help="minutes at which to score"
    )
    parser.add_argument("--method", default="ngp")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    marks = sorted({m for m in options.marks if m < options.minutes} | {options.minutes})
    rows = []
    for spec in options.scenes:
        name, _, downscale = spec.partition("=")
        config, scene = configure(name, options.method, options.set, downscale=int(downscale) if downscale else None)
        out = options.out / f"{name}-{options.minutes:g}min"
        trainer = Trainer.create(out, config, scene, resolve_device(options.device))
        camera = trainer.scene.views[0].camera
        row = [name, f"{camera.width}×{camera.height}"]
        for mark in marks:
            reached = functools.partial(lambda t, m: t.seconds >= 60 * m, trainer, mark)
            trainer.fit(1 << 30, options.minutes, stop=reached, previews=False)
            run = Run(trainer.directory, config, trainer.scene, trainer.method.eval(), trainer.step)
            results = evaluate(run, pictures=mark == marks[-1])["results"]
            row.append(f"{results['psnr']:.2f}")
            print(f"{name}: {mark:g} min, step {trainer.step}: {results['psnr']:.2f} dB", flush=True)
        rows.append([*row, f"{results['ssim']:.3f}", str(trainer.step)])
    print(machine())
    print(table(["scene", "size", *(f"{m:g} min" for m in marks), "SSIM", "steps"], rows))


if __name__ == "__main__":
    main()
