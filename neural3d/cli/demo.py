"""`neural3d demo`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from neural3d.cli.console import NOWHERE, Device, OutOption, Output, Seed, console, say_next
from neural3d.cli.evaluate import print_scores
from neural3d.cli.train import fit
from neural3d.disk import require_writable
from neural3d.errors import UserError, command_line
from neural3d.lock import Lock

SCENE = "scene"  # the folder in the run's that its photos are made in
SECONDS = 105.0  # for all of it but the imports, on any machine: what is slower gets fewer photos and fewer steps
PHOTOS = 0.2  # share of that in which training photos are made
LEAST = 0.2  # share that training gets at least


@dataclass
class Demo:
    """Make a small scene, optimise it, score it, export a coloured mesh: the whole way in two minutes."""

    needs_out: ClassVar = False
    out: Output = NOWHERE
    """Folder for everything the demo makes; becomes a run. Default: neural3d-demo."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    device: Device = "auto"
    seed: Seed = 0

    def run(self) -> None:
        begin = time.perf_counter()
        from neural3d.evaluate.views import evaluate
        from neural3d.files.meshes import write_mesh
        from neural3d.run import configure, load, resolve_device
        from neural3d.synthetic.analytic import make_demo_scene
        from neural3d.train import LOCK, Trainer

        out = Path("neural3d-demo") if self.out == NOWHERE else self.out
        if (out / "config.json").exists():
            raise UserError(f"{out}: already holds a run; choose another --out, or delete it.")
        if out.is_dir() and (others := sorted(p.name for p in out.iterdir() if p.name not in (SCENE, LOCK))):
            raise UserError(
                f"{out} holds other things ({others[0]}); the demo makes a scene of its own, so choose a new folder. "
                f"Of photos or a capture: {command_line('train', out)}."
            )
        device = resolve_device(self.device)
        console.print("Rendering the demo scene: up to 40 training views and 8 held-out views, 200 × 200")
        started = time.perf_counter()
        require_writable(out, folder=True)
        with Lock(out / LOCK, out):
            scene = make_demo_scene(out / SCENE, seed=self.seed, seconds=PHOTOS * SECONDS)
        config, loaded = configure(scene / "scene.toml", "splat", seed=self.seed)
        trainer = Trainer.create(out, config, loaded, device)
        # How long the photos took tells how fast this machine is today: scores and mesh are given as much.
        now = time.perf_counter()
        left = SECONDS - (now - begin) - (now - started)
        fit(trainer, trainer.method.config.horizon, max(left, LEAST * SECONDS) / 60)
        run = load(out, device.type)
        print_scores(evaluate(run, sheet=out / "preview.png"))
        mesh = run.mesh(192).transformed(run.capture_from_scene)
        write_mesh(mesh, out / "mesh.glb", native_up=run.up_in_capture)
        console.print(
            f"scores: {out / 'eval.json'}\nmesh: {out / 'mesh.glb'}\n"
            f"picture: {out / 'preview.png'} (truth beside result)\n"
            f"took: {time.perf_counter() - begin:.0f} s",
            soft_wrap=True,
        )
        say_next("render", out, out / "orbit.mp4", "--path", "orbit")
