"""`neural3d convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from neural3d.cli.console import NOWHERE, Device, Number, OutOption, Output, StageProgress, console, option
from neural3d.cli.written import Up, print_mesh, units_of
from neural3d.disk import require_writable
from neural3d.errors import UserError


@dataclass
class Convert:
    """Splats to a mesh or to another file format, a mesh to splats or to signed distances; says what it cost."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Splats (a run, or a file: .ply, .splat, .spz, .sog, .glb, .ksplat) or a mesh file."""
    out: Output = NOWHERE
    """A mesh (.glb, .usdz, .obj, .stl), splats (.ply, .compressed.ply, .splat, .spz, .sog, .gs.glb), or of a mesh a run
    folder for signed distances."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    resolution: Number = 256
    """Of a mesh: cells along its longest side."""
    faces: Number = 200_000
    """Of a mesh: at most so many, 0: as many as come."""
    splats: Number = 200_000
    """About how many splats on a mesh."""
    minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 2.0
    """Of fitting signed distances to a mesh."""
    up: Up = None
    source_up: Annotated[Literal["x", "-x", "y", "-y", "z", "-z"] | None, option("AXIS")] = None
    """Which axis of IN, a file of splats, points up; default: what the file says, else -y."""
    device: Device = "auto"

    def run(self) -> None:
        from neural3d import convert
        from neural3d.scene.stored import read_scene

        if self.resolution < 16 or self.splats < 1 or not self.minutes > 0:
            raise UserError("--resolution must be 16 or more, --splats and --minutes above 0.")
        of, to = convert.kinds(self.source, self.out)
        run = (self.source / "config.json").is_file()
        if self.source_up is not None and (of != "splats" or run):
            raise UserError(f"--source-up is for files of splats; {self.source} is none.")
        require_writable(self.out, folder=to == "field")
        if to == "field":
            return self.fit_field()
        if to == "mesh":
            how = self.resolution, self.device, self.up, self.source_up, self.faces
            with StageProgress() as shown:
                mesh, cost, notes = convert.mesh_of_splats(self.source, self.out, *how, progress=shown.update)
            units = units_of(read_scene(self.source / "scene.json")) if run else f"in the units of {self.source.name}"
            print_mesh(self.out, mesh, self.up, units)
        elif of == "mesh":
            with StageProgress() as shown:
                splats, cost, notes = convert.splats_of_mesh(
                    self.source, self.out, self.splats, self.up, progress=shown.update
                )
        else:
            splats, cost, notes = convert.splats_to_splats(self.source, self.out, self.device, self.up, self.source_up)
        if to == "splats":
            console.print(f"{self.out}: {len(splats):,} splats")
        for note in notes:
            console.print(f"note: {note}")
        console.print(f"cost: {cost}")

    def fit_field(self) -> None:
        """Trains `sdf` on the mesh, as `neural3d train` does, and measures the surface it has learnt."""
        from neural3d.cli.train import fit
        from neural3d.evaluate.mesh import evaluate_mesh
        from neural3d.run import configure, load, resolve_device
        from neural3d.train import Trainer

        config, shape = configure(self.source, "sdf")
        trainer = Trainer.create(self.out, config, shape, resolve_device(self.device))
        fit(trainer, trainer.method.config.horizon, self.minutes)
        run = load(self.out, self.device)
        results = evaluate_mesh(run, self.source, resolution=self.resolution, samples=30_000, picture=False)["results"]
        console.print(
            f"cost: Chamfer {results['chamfer']:.3f} % of the diagonal (source to result {results['completeness']:.3f} "
            f"%, result to source {results['accuracy']:.3f} %)",
        )
