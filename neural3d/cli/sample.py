"""`neural3d sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import (
    NOWHERE,
    Device,
    Number,
    OutOption,
    Output,
    RunFolder,
    Seed,
    at_least,
    console,
    option,
)
from neural3d.disk import require_writable, writing

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Sample:
    """New examples from a run that has learnt what examples are like: pictures with a sheet of them, or an .npz."""

    path: RunFolder
    """The run folder, of a folder of pictures or another set of examples."""
    out: Output = NOWHERE
    """Folder for 000.png and so on, and sheet.png; examples that are no pictures become samples.npz."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    count: Number = 16
    """How many new ones."""
    temperature: Annotated[float, tyro.conf.arg(metavar="T")] = 1.0
    """Below 1: likelier and less varied."""
    label: Annotated[str | None, option("CLASS")] = None
    """Only of this class, of a run that knows the classes of its examples (--set conditional=true)."""
    set: Annotated[tuple[str, ...], option("NAME=VALUE ...")] = ()
    """Attributes that new ones are to have, of a styleflow run, in its table's units; others as they go with these."""
    edit: Annotated[Path | None, option("PICTURE")] = None
    """Instead of new ones: this picture, with the attributes of --set changed and nothing else."""
    given: Annotated[Path | None, option("PICTURE")] = None
    """Of a cflow run: pictures that go with this one, the first of a pair; of any size."""
    style: Annotated[Path | None, option("NAME_b.png")] = None
    """With --given: one picture, in the style of the pair that this is the second of (NAME_a.png lies beside it)."""
    toward: Annotated[str | None, option("NAME=VALUE")] = None
    """Codes moved to so many deviations from the boundary between the examples of a class and the others, or those
    above and below an attribute's median (attributes.csv), beyond 0 into it; of a run whose examples have labels or
    attributes and which codes them (vae, realnvp, glow, pca)."""
    boundary: Literal["perceptron", "logistic", "map"] = "map"
    """How it is found: perceptron (says where no plane separates), logistic regression, or that with a prior."""
    seed: Seed = 0
    device: Device = "auto"

    def run(self) -> None:
        import numpy as np
        import torch

        from neural3d.errors import UserError
        from neural3d.examples.sheet import contact_sheet, picture
        from neural3d.render.images import save_png
        from neural3d.run import load
        from neural3d.sampling import answered, as_pictures, attributes_asked, edited, moved_toward, new_examples

        at_least(count=(self.count, 1), temperature=(self.temperature, 0))
        if self.edit is not None and not self.set:
            raise UserError("--edit needs --set NAME=VALUE, what is to be changed.")
        if self.style is not None and self.given is None:
            raise UserError("--style needs --given PICTURE, what is to be drawn in it.")
        require_writable(self.out, folder=True)
        run = load(self.path, self.device)
        asked = attributes_asked(run, self.set) if self.set else {}
        generator = torch.Generator(next(run.method.parameters()).device).manual_seed(self.seed)
        pictures: Tensor | None
        if self.edit is not None:
            pictures = edited(run, self.edit, asked)
        elif self.given is not None:
            pictures = answered(run, self.given, self.count, generator, self.temperature, self.style)
        else:
            drawn = new_examples(run, self.count, generator, self.temperature, self.label, asked)
            if self.toward is not None:
                drawn = moved_toward(run, drawn, self.toward, self.boundary)
            pictures = as_pictures(run, drawn)
        if pictures is not None:
            for i, one in enumerate(pictures):
                save_png(self.out / f"{i:03d}.png", picture(one))
            save_png(self.out / "sheet.png", contact_sheet(pictures))
            count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
            return console.print(f"{count} written to {self.out}, all of them in {self.out / 'sheet.png'}")
        file = self.out / "samples.npz"
        with writing(file):
            self.out.mkdir(parents=True, exist_ok=True)
            np.savez(file, samples=drawn.numpy())
        console.print(f"{self.count} examples written to {file}")
