"""`neural3d demo`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from neural3d.cli.console import Device, console
from neural3d.cli.evaluate import print_scores
from neural3d.cli.train import fit
from neural3d.errors import UserError
from neural3d.files import require_writable
from neural3d.lock import Lock

SECONDS = 105.0  # for all of it but the imports, on any machine: what is slower gets fewer photos and fewer steps
PHOTOS = 0.2  # share of that in which training photos are made
LEAST = 0.2  # share that training gets at least


@dataclass
class Demo:
    """Make a small scene, optimise it, score it, export a coloured mesh: the whole way in two minutes."""

    out: Path = Path("neural3d-demo")
    """Folder for everything the demo makes; becomes a run."""
    device: Device = "auto"
    seed: int = 0

    def run(self) -> None:
        begin = time.perf_counter()
        from neural3d.evaluate import evaluate
        from neural3d.export import write_mesh
        from neural3d.run import configure, load, resolve_device
        from neural3d.scene.analytic import make_demo_scene
        from neural3d.train import LOCK, Trainer

        if (self.out / "config.json").exists():
            raise UserError(f"{self.out}: already holds a run; choose another --out, or delete it.")
        device = resolve_device(self.device)
        console.print("Rendering the demo scene: up to 40 training views and 8 held-out views, 200 × 200")
        started = time.perf_counter()
        require_writable(self.out, folder=True)
        with Lock(self.out / LOCK, self.out):
            scene = make_demo_scene(self.out / "scene", seed=self.seed, seconds=PHOTOS * SECONDS)
        config, loaded = configure(scene / "scene.toml", "splat", seed=self.seed)
        trainer = Trainer.create(self.out, config, loaded, device)
        # How long the photos took tells how fast this machine is today: scores and mesh are given as much.
        now = time.perf_counter()
        left = SECONDS - (now - begin) - (now - started)
        fit(trainer, trainer.method.config.horizon, max(left, LEAST * SECONDS) / 60)
        run = load(self.out, device.type)
        print_scores(evaluate(run, sheet=self.out / "preview.png"))
        mesh = run.method.mesh(192).transformed(run.capture_from_scene)
        write_mesh(mesh, self.out / "mesh.glb", native_up=run.up_in_capture)
        console.print(
            f"Scores      {self.out / 'eval.json'}\nMesh        {self.out / 'mesh.glb'}\n"
            f"Picture     {self.out / 'preview.png'} (truth beside result)\n"
            f"Next        neural3d render {self.out} --path orbit --out {self.out / 'orbit.mp4'}\n"
            f"Took        {time.perf_counter() - begin:.0f} s"
        )
