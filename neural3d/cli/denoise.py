"""`neural3d denoise`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neural3d.cli.console import NOWHERE, Device, Number, OutOption, Output, Seed, at_least, console, option
from neural3d.disk import require_writable
from neural3d.errors import UserError


@dataclass
class Denoise:
    """Take noise out of pictures, or fill in what is missing of them, by what a prior knows of such pictures."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURES")]
    """A picture or a folder of pictures. Transparent pixels are missing: they are drawn given the rest."""
    out: Output = NOWHERE
    """Folder for the results, under the same names as .png."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    prior: Annotated[Path | None, option("RUN")] = None
    """The run of a prior of such pictures: ae for noise, rbm, dbm or gsn for missing parts (needed)."""
    unknown: Annotated[Path | None, option("FOLDER")] = None
    """Pictures of the same names, white where a picture is known and black where it is missing."""
    samples: Number = 1
    """How many answers to what is missing; more than one are numbered."""
    seed: Seed = 0
    device: Device = "auto"

    def run(self) -> None:
        from neural3d.denoise import pictures_in, restored
        from neural3d.examples.sheet import picture
        from neural3d.render.images import save_png
        from neural3d.run import load

        at_least(samples=(self.samples, 1))
        if self.prior is None:
            raise UserError(
                "denoise needs --prior RUN, a prior of such pictures (neural3d train PICTURES --method ae)."
            )
        files = pictures_in(self.source)
        require_writable(self.out, folder=True)
        prior = load(self.prior, self.device)
        count = 0
        for file, answers in restored(prior, files, unknown=self.unknown, samples=self.samples, seed=self.seed):
            for i, answer in enumerate(answers):
                name = file.stem if len(answers) == 1 else f"{file.stem}_{i}"
                save_png(self.out / f"{name}.png", picture(answer))
                count += 1
        console.print(f"{count} pictures written to {self.out}")
