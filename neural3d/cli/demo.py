"""`neural3d demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neural3d.cli.console import Device, console
from neural3d.cli.evaluate import print_scores
from neural3d.cli.train import fit
from neural3d.errors import UserError


@dataclass
class Demo:
    """Make a small scene, optimise it, score it, export a coloured mesh: the whole way in two minutes."""

    out: Path = Path("neural3d-demo")
    """Folder for everything the demo makes; becomes a run."""
    device: Device = "auto"
    seed: int = 0

    def run(self) -> None:
        from neural3d.evaluate import evaluate
        from neural3d.export import write_mesh
        from neural3d.run import configure, load, resolve_device
        from neural3d.scene.analytic import make_demo_scene
        from neural3d.train import Trainer

        if (self.out / "config.json").exists():
            raise UserError(f"{self.out}: already holds a run; choose another --out, or delete it.")
        device = resolve_device(self.device)
        console.print("Rendering the demo scene: 40 training views and 8 held-out views, 200 × 200")
        scene = make_demo_scene(self.out / "scene", seed=self.seed)
        config, loaded = configure(scene / "scene.toml", "ngp", ["horizon=1500"], seed=self.seed)
        trainer = Trainer.create(self.out, config, loaded, device)
        fit(trainer, trainer.method.config.horizon, None)
        run = load(self.out, device.type)
        print_scores(evaluate(run, sheet=self.out / "preview.png"))
        mesh = run.method.mesh(256).transformed(run.capture_from_scene)
        write_mesh(mesh, self.out / "mesh.glb", native_up=run.up_in_capture)
        console.print(
            f"Scores      {self.out / 'eval.json'}\nMesh        {self.out / 'mesh.glb'}\n"
            f"Picture     {self.out / 'preview.png'} (truth beside result)\n"
            f"Next        neural3d render {self.out} --path orbit --out {self.out / 'orbit.mp4'}"
        )
