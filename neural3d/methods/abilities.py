"""What a run can do, one small protocol each. Whoever needs one asks for it, by `Run.able`, and not for a type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut

if TYPE_CHECKING:
    from neural3d.fields.gaussians import Gaussians
    from neural3d.geometry.mesh import Colors, Mesh


@runtime_checkable
class Renderable(Protocol):
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        """One view, without gradients. background: (3,) sRGB; None: its own."""


@runtime_checkable
class Meshable(Protocol):
    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        """(the bare surface in the scene frame, closed and without floating pieces; its colours, if it has any)

        So that what will be thrown away by simplification need not be coloured first.
        resolution: cells along the longest side. crop: box in the capture's frame and units; None: the scene's bounds.
        Raises UserError where no surface is inside.
        """

    def mesh(self, resolution: int, crop: Float[Tensor, "2 3"] | None = None) -> Mesh:
        """The surface with vertex colours, if it has any."""
        mesh, color = self.surface(resolution, crop)
        return mesh if color is None else mesh.colored(color)


@runtime_checkable
class Trimmable(Protocol):
    def trim(self, open_: bool) -> None:
        """Has the surface end where it knows no points, or close it, whatever training found. Raises UserError."""


@runtime_checkable
class Splatted(Protocol):
    def gaussians(self) -> tuple[Gaussians, bool]:
        """(the splats in the scene frame, whether they are made for the 2D filter of Mip-Splatting)"""


@runtime_checkable
class Exposed(Protocol):
    def gains(self) -> Float[Tensor, "V 3"] | None:
        """By how much each training photo is brighter than its like, in sRGB; None where that is not learnt."""


@runtime_checkable
class Conditional(Protocol):
    """Knows many things. Which one is meant, a code or a pose says: one tensor, whose meaning is the method's own."""

    def subject(self, code: Tensor) -> Any:
        """The one that is meant, as a run on it alone would be: Renderable, Meshable, or both."""


@runtime_checkable
class Reconstructive(Conditional, Protocol):
    sees: Literal["points", "image", "class"]  # what a code is made of

    def code_of(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """The code that explains what is seen of a shape.

        points: (M, 3) of its surface, which may be noisy and cover only part of it. image: a picture (3, H, W), sRGB on
        white, of the size of training. class: its number in `scene.kinds`, a tensor without dimensions.
        """

    def code_of_mesh(self, mesh: Mesh, generator: torch.Generator) -> Tensor:
        """The code of a surface that is known, whose vertices need not be spread evenly."""


@runtime_checkable
class Generative(Conditional, Protocol):
    """Codes are vectors, on whose straight lines lie subjects too."""

    energy: Callable[[Float[Tensor, "S L"]], Float[Tensor, "S"]] | None
    """−log p of codes by a prior, in place of the normal distribution of the codes that are known."""

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count L"]:
        """Codes of subjects that nobody has seen."""


@runtime_checkable
class Likelihood(Protocol):
    likelihood: str  # what `score` gives: "exact", "lower bound" or "estimate"
    scored: int | None = None  # how many examples are enough for an evaluation, where each takes long

    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """log p(x) of examples, in nats; images as numbers from 0 to 1, of densities as those of 256 levels."""


Energy = Callable[[Tensor, torch.Generator], Tensor]  # (B, …) → (B,): −log p, see `Guiding`


@runtime_checkable
class Guided(Protocol):
    """Follows a prior of pieces of photos where no photo is: the run that its setting `prior` names, as the trainer
    opens it. Other settings: prior_weight, patches (how many at a step), patch_size (pixels along a side).
    """

    config: Any
    guide: Energy | None = None

    def guided(self, energy: Energy, shape: list[int]) -> None:
        """From now on follows this one. shape: of what it knows. Raises UserError where patches are of another."""
        size = self.config.patch_size
        if shape != [3, size, size]:
            seen = " × ".join(map(str, shape))
            raise UserError(f"prior: it has learnt {seen} values, but patches are 3 × {size} × {size}; set patch_size.")
        self.guide = energy

    def unlikely(self, rgb: Float[Tensor, "patches*size*size 3"], generator: torch.Generator) -> Float[Tensor, ""]:
        """−log p of the patches, the mean per value in nats, times `prior_weight`."""
        assert self.guide is not None
        c = self.config
        pictures = rgb.view(c.patches, c.patch_size, c.patch_size, 3).movedim(-1, 1)
        nats = self.guide(pictures.clamp(0, 1), generator).mean()
        return c.prior_weight * nats / pictures[0].numel()


@runtime_checkable
class Guiding(Protocol):
    def energy(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """−log p(x), or a bound above it, in nats; differentiable, so that what is looked for can be made likelier."""


@runtime_checkable
class Sampling(Protocol):
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """New examples; images as numbers from 0 to 1. temperature: below 1, likelier and less varied ones."""


@runtime_checkable
class Coding(Protocol):
    """Knows a code for each example, and an example for each code."""

    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B L"]: ...

    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B ..."]: ...


@runtime_checkable
class Upscaling(Protocol):
    factor: int
    unit: int  # of which the small pictures' sides are multiples

    def upscale(
        self, low: Float[Tensor, "B C h w"], generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B C factor*h factor*w"]:
        """One of the pictures, `factor` times as large, that these may be averages of; values from 0 to 1."""


@runtime_checkable
class Foretelling(Protocol):
    def foretell(
        self,
        x: Float[Tensor, "B T D"],
        count: int,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Float[Tensor, "B count D"]:
        """Frames that follow those that are seen: the likeliest, or, with a generator, drawn ones."""


@runtime_checkable
class Teaching(Protocol):
    """What it has learnt of its training data is data for a prior."""

    def lessons(self, data: Callable[[], Any]) -> dict[str, np.ndarray]:
        """Vectors (N, L) float32 or pictures (N, 1, h, w) uint8 of each split. data: loads what it has learnt from."""


@runtime_checkable
class Completing(Protocol):
    def complete(
        self, x: Float[Tensor, "B ..."], known: Bool[Tensor, "B ..."], generator: torch.Generator
    ) -> Float[Tensor, "B ..."]:
        """Examples whose missing values are drawn given those that are known."""


@runtime_checkable
class Denoising(Protocol):
    def denoise(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """Examples without the noise that was in them."""


@runtime_checkable
class Labelled(Protocol):
    """Samples of the class that is asked for. A method that may learn without has no `classes` where it did."""

    classes: list[str]

    def draw(
        self, count: int, generator: torch.Generator, temperature: float = 1.0, label: int | None = None
    ) -> Float[Tensor, "count ..."]:
        """As `Sampling.draw`. label: an index into `classes`; None: of any, as often as among the training examples."""


@runtime_checkable
class Classifying(Protocol):
    classes: list[str]

    def classify(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        """How likely each of the classes is for an example."""


@runtime_checkable
class Steered(Protocol):
    """Samples with attributes that are asked for, in the attributes' own units, and examples changed in some."""

    attributes: list[str]

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        temperature: float = 1.0,
        asked: Mapping[str, float] | None = None,
    ) -> Float[Tensor, "count ..."]:
        """As `Sampling.draw`. asked: values of some attributes, or all."""

    def edited(
        self, x: Float[Tensor, "B ..."], asked: Mapping[str, float], own: Float[Tensor, "B A"] | None = None
    ) -> Float[Tensor, "B ..."]:
        """The same with other values of these attributes. own: all that they have now; None: to be found out."""


@runtime_checkable
class Paired(Protocol):
    """Knows pairs (a, b) of pictures: what b may belong to an a, and in which style. Pictures may be of any size."""

    def answers(
        self, a: Float[Tensor, "B C h w"], generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B C h w"]:
        """One of the b of each a; values from 0 to 1."""

    def restyled(
        self, a: Float[Tensor, "B C h w"], pair: tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]
    ) -> Float[Tensor, "B C h w"]:
        """The b of a, in the style that the second has given the first of a pair."""


DEEDS: dict[Any, tuple[str, str]] = {  # what each lets a run do, and the command that asks for it
    Renderable: ("render pictures", "render {run}"),
    Meshable: ("give a mesh", "export {run} mesh.glb"),
    Trimmable: ("trim its surface where it has no points", "export {run} mesh.glb --open yes"),
    Splatted: ("give splats", "export {run} splats.ply"),
    Reconstructive: ("make a shape of what is seen of it", "reconstruct {run} FILE shape.glb"),
    Likelihood: ("tell how likely examples are", "eval {run}"),
    Sampling: ("make new examples", "sample {run} --out FOLDER"),
    Steered: ("make examples with attributes that are asked for", "sample {run} --set NAME=VALUE --out FOLDER"),
    Paired: ("answer a picture with its other one", "sample {run} --given PICTURE --out FOLDER"),
    Denoising: ("take noise out of examples", "denoise FOLDER --prior {run} --out FOLDER"),
    Completing: ("fill in what is missing of examples", "denoise FOLDER --prior {run} --out FOLDER"),
    Teaching: ("be learnt from by a prior", "train {run} --method realnvp"),
    Generative: ("make new shapes, or shapes between two", "reconstruct {run} --samples 5 --out shapes"),
}


def cannot(run: Path, method: object, ability: type) -> UserError:
    """What a run is told that is asked for an ability it does not have."""
    name = shlex.quote(str(run))
    others = [
        f"{deed} (neural3d {how.format(run=name)})" for kind, (deed, how) in DEEDS.items() if isinstance(method, kind)
    ]
    can = ", ".join(others) or "only be trained further: no command asks for what it has learnt"
    return UserError(f"{run}: this run cannot {DEEDS[ability][0]}; it can {can}.")
