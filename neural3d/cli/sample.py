"""`neural3d sample`."""

from __future__ import annotations

from dataclasses import dataclass
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

    from neural3d.run import Run


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
    toward: Annotated[str | None, option("CLASS=VALUE")] = None
    """Codes moved to so many deviations from the boundary between the examples of a class and the others, beyond 0
    into the class; of a run whose examples have labels and which codes them (vae, realnvp, glow, pca)."""
    boundary: Literal["perceptron", "logistic", "map"] = "map"
    """How it is found: perceptron (says where no plane separates), logistic regression, or that with a prior."""
    seed: Seed = 0
    device: Device = "auto"

    def run(self) -> None:
        import numpy as np
        import torch

        from neural3d.config import nearest
        from neural3d.errors import UserError
        from neural3d.examples.examples import Examples
        from neural3d.examples.sheet import contact_sheet, picture
        from neural3d.methods.abilities import Coding, Labelled, Sampling
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
        if self.toward is not None:
            drawn = moved_toward(run, drawn, self.toward, self.boundary)
        if isinstance(run.data, Examples) and run.data.kind == "images":
            if (run.data.path / "config.json").exists():  # they are codes of another run, which makes pictures of them
                coder = load(run.data.path, self.device).able(Coding)
                drawn = coder.decode((255 * drawn).round().flatten(1)).cpu()
            for i, one in enumerate(drawn):
                save_png(self.out / f"{i:03d}.png", picture(one))
            save_png(self.out / "sheet.png", contact_sheet(drawn))
            return console.print(
                f"{self.count} pictures written to {self.out}, all of them in {self.out / 'sheet.png'}"
            )
        file = self.out / "samples.npz"
        with writing(file):
            self.out.mkdir(parents=True, exist_ok=True)
            np.savez(file, samples=drawn.numpy())
        console.print(f"{self.count} examples written to {file}")


def moved_toward(run: Run, drawn: Tensor, toward: str, way: Literal["perceptron", "logistic", "map"]) -> Tensor:
    """Examples whose codes are moved to CLASS=VALUE. Raises UserError where the run has no codes, or no such class."""
    import torch

    from neural3d.config import nearest
    from neural3d.errors import UserError
    from neural3d.examples.examples import Examples, as_numbers
    from neural3d.methods.abilities import Coding
    from neural3d.priors.boundary import find_boundary

    method = run.able(Coding)
    name, _, number = toward.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise UserError(f"--toward expects CLASS=VALUE, such as {name or 'stone'}=2, not '{toward}'.") from None
    examples = run.config.load_data()
    assert isinstance(examples, Examples)
    if examples.labels is None:
        raise UserError(f"{examples.path}: its examples have no labels; put pictures into a folder for each class.")
    if name not in examples.classes:
        raise nearest(name, examples.classes, "class", str(examples.path))
    examples = type(run.method).prepared(examples, run.method.config)
    assert examples.values is not None and examples.labels is not None
    device = next(run.method.parameters()).device
    with torch.no_grad():
        x = examples.values["train"].float() * as_numbers(examples)
        z = torch.cat([method.encode(part.to(device)).cpu() for part in x.split(500)])
        has = (examples.labels["train"] == examples.classes.index(name)).numpy()
        found = find_boundary(z.double().numpy(), has, way)
        moved = found.moved(method.encode(drawn.to(device)).cpu(), value)
        return method.decode(moved.to(device)).cpu()
