"""`neural3d reconstruct`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neural3d.cli.console import NOWHERE, Device, Number, OutOption, Output, RunFolder, Seed, at_least, console, option
from neural3d.cli.written import Up, print_mesh, units_of
from neural3d.disk import require_writable
from neural3d.errors import UserError


@dataclass
class Reconstruct:
    """Shapes from a run that has learnt a category: of an unseen cloud or picture, between two shapes, or new ones."""

    path: RunFolder
    """The run folder, of a folder of shapes."""
    file: Annotated[Path | None, tyro.conf.Positional, option("FILE")] = None
    """Of one shape: point cloud (may be noisy and partial) or mesh, in the frame and units of the category; its
    picture, cut out or on white, framed as in training, for condition=image and dvr; its class, for condition=class."""
    out: Output = NOWHERE
    """FILE.glb, .usdz, .ply, .obj or .stl; with --between or --samples a folder for numbered .glb files."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    between: Annotated[tuple[Path, Path], option("A B")] = (NOWHERE, NOWHERE)
    """Instead of FILE, two: shapes between them, both ends included (needs --method deepsdf)."""
    count: Number = 5
    """How many between."""
    samples: Annotated[int | None, option("N")] = None
    """Instead of FILE: so many new shapes (needs --method deepsdf)."""
    prior: Annotated[Path | None, option("RUN")] = None
    """A prior of the run's latents (neural3d train RUN --method realnvp): with FILE for likelier completions, with
    --samples for new shapes."""
    seed: Seed = 0
    resolution: Number = 128
    """Cells along the longest side of the category's box."""
    up: Up = None
    device: Device = "auto"

    def __post_init__(self) -> None:
        self.two = self.between != (NOWHERE, NOWHERE)
        if (self.two or self.samples is not None) and self.out == NOWHERE:  # without FILE the only word is OUT
            self.file, self.out = None, self.file or NOWHERE

    def run(self) -> None:
        from neural3d.files.meshes import check_format, write_mesh
        from neural3d.reconstruct import between, new_shapes, reconstruct
        from neural3d.run import load

        if (self.file is not None) + self.two + (self.samples is not None) != 1:
            raise UserError("reconstruct takes one of FILE, --between A B and --samples N.")
        at_least(resolution=(self.resolution, 2), count=(self.count, 2), samples=(self.samples or 1, 1))
        if self.file is not None:
            check_format(self.out)
            if self.file.suffix and not self.file.exists():  # without, it may be the name of a class
                raise UserError(f"{self.file} does not exist; check the path.")
        require_writable(self.out, folder=self.file is None)
        for file in self.between if self.two else ():
            if not file.exists():
                raise UserError(f"{file} does not exist; check the path.")
        run = load(self.path, self.device)
        prior = None if self.prior is None else load(self.prior, self.device)
        if self.two and prior is not None:
            raise UserError("--prior is for FILE and --samples; shapes between two need none.")
        if self.file is not None:
            mesh = reconstruct(run, self.file, resolution=self.resolution, seed=self.seed, prior=prior)
            mesh = write_mesh(mesh, self.out, up=self.up, native_up=run.up_in_capture)
            return print_mesh(self.out, mesh, self.up, units_of(run.scene))
        if self.two:
            meshes = between(run, *self.between, self.count, resolution=self.resolution, seed=self.seed)
        else:
            meshes = new_shapes(run, self.samples or 0, resolution=self.resolution, seed=self.seed, prior=prior)
        for i, mesh in enumerate(meshes):
            write_mesh(mesh, self.out / f"{i:03d}.glb", up=self.up, native_up=run.up_in_capture)
        console.print(f"{len(meshes)} meshes written to {self.out}")
