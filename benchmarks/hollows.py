"""Do hollows open? Depth error in the bowls and tunnels of a glossy, overexposed ball, in % of its diagonal.

    python benchmarks/hollows.py --work FOLDER [--methods neus dvr] [--steps N | --minutes X] [--seeds 0] [--views 7 49]

7 photos look at the front, 49 come from all around; with and without alpha (dvr needs it). Seed 0 is the ball by which
settings were chosen; the others are of other sizes, with other hollows. Errors are those of six held-out views, at all
pixels that look into a hollow: mean, median, and the mean of a ball whose hollows are filled. lumps: share of the
pixels outside the ball's silhouette where something is.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from common import machine, table
from scipy.ndimage import minimum_filter

from neural3d.evaluate.views import evaluate
from neural3d.run import configure, load
from neural3d.synthetic.hollows import HollowBall, hollow_error, photograph, true_depth
from neural3d.train import Trainer


def capture(work: Path, seed: int, views: int, alpha: bool, size: int) -> tuple[HollowBall, Path]:
    ball = HollowBall.other(seed) if seed else HollowBall()
    folder = work / f"{seed}-{views}-{'alpha' if alpha else 'opaque'}-{size}"
    if not folder.exists():
        photograph(ball, folder, views, front=views < 20, alpha=alpha, size=size)
    return ball, folder


def score(
    method: str, ball: HollowBall, folder: Path, out: Path, steps: int, minutes: float | None, settings: list[str]
) -> list[str]:
    trainer = Trainer.create(out, *configure(folder, method, [f"horizon={steps}", *settings]), torch.device("cpu"))
    begin = time.process_time()
    trainer.fit(steps, minutes, previews=False)
    seconds = time.process_time() - begin
    run = load(out, "cpu")
    errors, filled, lumps = [], [], []
    for i in run.scene.split["test"]:
        camera = run.scene.views[i].camera
        out = run.render(camera)
        whole, _ = true_depth(HollowBall(ball.radius, ()), run.scene, camera)
        errors.append(hollow_error(ball, run.scene, camera, out.depth))
        filled.append(hollow_error(ball, run.scene, camera, whole))
        beside = minimum_filter((whole == 0).numpy(), 3)  # not the rim itself
        lumps.append(out.alpha.flatten()[torch.from_numpy(beside).flatten()] > 0.5)
    error, psnr = torch.cat(errors), evaluate(run, pictures=False)["results"]["psnr"]
    shares = (error.mean(), error.median(), torch.cat(filled).mean(), torch.cat(lumps).float().mean())
    figures = [*(100 * x for x in shares), psnr]
    return [*(f"{float(x):.2f}" for x in figures), str(trainer.step), f"{seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for captures, which are kept, and runs")
    parser.add_argument("--methods", nargs="+", default=["neus", "dvr"])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, help="instead of steps, as neural3d train has it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--views", type=int, nargs="+", default=[7, 49])
    parser.add_argument("--alpha", type=int, nargs="+", default=[1, 0], help="1: cut out; 0: opaque")
    parser.add_argument("--size", type=int, default=128, help="of the photos, in pixels")
    parser.add_argument("--set", nargs="+", default=[], help="KEY=VALUE settings of the method")
    args = parser.parse_args()
    print(machine())
    rows = []
    for method in args.methods:
        for seed in args.seeds:
            for views in args.views:
                for alpha in args.alpha:
                    if method == "dvr" and not alpha:
                        continue
                    ball, folder = capture(args.work, seed, views, bool(alpha), args.size)
                    out = args.work / f"run-{method}-{folder.name}-{time.time_ns()}"
                    more = [] if alpha else ["scene.unbounded=true"]
                    scores = score(method, ball, folder, out, args.steps, args.minutes, [*args.set, *more])
                    rows.append([method, str(seed), str(views), "yes" if alpha else "no", *scores])
                    print(*rows[-1], flush=True)
    head = ["method", "seed", "photos", "alpha", "mean %", "median %", "filled %", "lumps %", "PSNR", "steps", "CPU s"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
