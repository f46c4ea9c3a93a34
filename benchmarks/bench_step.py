"""One training step of `ngp`, taken apart: samples per second through the whole step, and where its time goes.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_step.py fox=2 lego=2

Trains for --warmup steps first, so that empty space is known, then times --steps steps, then profiles as many.
A marched sample had its density evaluated; a composited one was also differentiated and coloured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import machine, table
from torch.profiler import ProfilerActivity, profile, record_function

from neural3d.fields import radiance
from neural3d.render import packed
from neural3d.run import configure, resolve_device
from neural3d.train import Trainer


def labelled(owner: object, attribute: str, name: str) -> None:
    """From now on the profile shows calls of owner.attribute as `name`."""
    inner = getattr(owner, attribute)

    def call(*args, **options):
        with record_function(name):
            return inner(*args, **options)

    setattr(owner, attribute, call)


def label_parts(trainer: Trainer) -> None:
    labelled(trainer.source, "draw", "draw pixels and rays")
    labelled(trainer.method.field.grid, "update", "occupancy grid: refresh")
    labelled(trainer.method.field.grid, "observe", "occupancy grid: observe")
    labelled(trainer.players[0].optimizer, "step", "Adam")
    for name in ("ray_march", "compact_visible", "hash_grid", "spherical_harmonics"):
        labelled(radiance, name, name)
    labelled(packed, "composite", "composite")
    labelled(trainer.method.field.density_net, "forward", "density network")
    labelled(trainer.method.field.color_net, "forward", "colour network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="+", help="ready scenes, each NAME or NAME=DOWNSCALE")
    parser.add_argument("--warmup", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print(machine())
    for spec in options.scenes:
        name, _, downscale = spec.partition("=")
        config, scene = configure(name, "ngp", options.set, downscale=int(downscale) if downscale else None)
        with TemporaryDirectory() as folder:
            trainer = Trainer.create(Path(folder) / "run", config, scene, resolve_device(options.device))
            trainer.fit(options.warmup, previews=False)
            marched = composited = rays = 0
            inner = trainer.players[0].loss

            def counted(batch, progress, generator, inner=inner):
                nonlocal marched, composited, rays
                losses, metrics = inner(batch, progress, generator)
                marched += round(metrics["marched_per_ray"] * len(batch))
                composited += round(metrics["samples_per_ray"] * len(batch))
                rays += len(batch)
                return losses, metrics

            trainer.players[0].loss = counted
            begin = time.perf_counter()
            trainer.fit(trainer.step + options.steps, previews=False)
            seconds = time.perf_counter() - begin
            metrics = [1e3 * seconds / options.steps, rays / seconds, composited / seconds, marched / seconds]
            print(f"\n{name}, after {options.warmup} steps:")
            print(table(
                ["ms a step", "rays/s", "composited samples/s", "marched samples/s"], [[f"{x:,.0f}" for x in metrics]]
            ))  # fmt: skip
            label_parts(trainer)
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                trainer.fit(trainer.step + options.steps, previews=False)
        # Parts contain the operators they call; a node of the backward pass counts once, under its own name.
        parts = [e for e in profiler.key_averages() if not e.key.startswith(("aten::", "autograd::"))]
        parts = sorted(parts, key=lambda e: -e.cpu_time_total)[:18]
        rows = [
            [e.key, f"{e.count / options.steps:.2g}", f"{e.cpu_time_total / options.steps / 1e3:.2f}"] for e in parts
        ]
        print(table(["part", "calls a step", "ms a step"], rows))


if __name__ == "__main__":
    main()
