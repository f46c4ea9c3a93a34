"""`neural3d sample`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

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
    seed: Seed = 0
    device: Device = "auto"

    def run(self) -> None:
        import numpy as np
        import torch

        from neural3d.config import nearest
        from neural3d.errors import UserError
        from neural3d.examples.examples import Examples
        from neural3d.examples.sheet import contact_sheet, picture
        from neural3d.methods.abilities import Labelled, Sampling
        from neural3d.render.images import save_png
        from neural3d.run import load

        at_least(count=(self.count, 1), temperature=(self.temperature, 0))
        require_writable(self.out, folder=True)
        run = load(self.path, self.device)
        method = run.able(Sampling)
        asked: dict[str, int] = {}
        if self.label is not None:
            if not isinstance(method, Labelled):
                raise UserError(
                    f"{self.path}: learnt without labels, or cannot tell classes apart; leave out --label, or train "
                    "--method pixelcnn --set conditional=true on examples with labels."
                )
            if self.label not in method.classes:
                raise nearest(self.label, method.classes, "class", str(self.path))
            asked["label"] = method.classes.index(self.label)
        generator = torch.Generator(next(run.method.parameters()).device).manual_seed(self.seed)
        with torch.no_grad():
            drawn = method.draw(self.count, generator, self.temperature, **asked).cpu()
        if isinstance(run.data, Examples) and run.data.kind == "images":
            for i, one in enumerate(drawn):
                save_png(self.out / f"{i:03d}.png", picture(one))
            save_png(self.out / "sheet.png", contact_sheet(drawn))
            return console.print(
                f"{self.count} pictures written to {self.out}, all of them in {self.out / 'sheet.png'}"
            )
        file = self.out / "samples.npz"
        with writing(file):
            np.savez(file, samples=drawn.numpy())
        console.print(f"{self.count} examples written to {file}")
