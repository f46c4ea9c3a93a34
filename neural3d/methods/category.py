"""What methods share that learn from a folder of shapes and then know a category."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.methods.abilities import Meshable, Reconstructive
from neural3d.methods.base import Method
from neural3d.progress import Progress, silent
from neural3d.render.extraction import surface_within
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.samples import sample_surface

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Colors, Field, Mesh


SEEN = 4096  # points of a surface that is given as a mesh


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """NumPy's counterpart, seeded by a draw."""
    seed = torch.randint(1 << 31, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


@dataclass
class Member(Meshable):
    """One shape of a category. field, level: see `geometry.mesh.extract`; device: of the field's positions."""

    scene: ShapeSet
    field: Field
    level: float | None
    device: torch.device
    color: Colors | None = None

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        mesh = surface_within(
            self.scene, self.field, resolution, crop, device=self.device, level=self.level, progress=progress
        )
        return mesh, self.color


class CategoryMethod(Method, Reconstructive):
    """Turns what is seen of a shape into a code, and a code into a shape; all in the scene frame of the set."""

    takes = ShapeSet
    level: float | None  # of the field's surface, see `geometry.mesh.extract`
    sees: Literal["points", "image", "class"] = "points"
    from_photos: ClassVar[bool] = False  # is it learnt from pictures alone, so that captures serve too?

    @classmethod
    def prepared(cls, scene: ShapeSet, config: Any) -> ShapeSet:
        if scene.captures and not cls.from_photos:
            raise UserError(f"{scene.path}: these are captures, not meshes; --method dvr learns from photos.")
        return scene

    def code_of_mesh(self, mesh: Mesh, generator: torch.Generator) -> Tensor:
        """From points spread evenly on it."""
        points, _ = sample_surface(mesh, SEEN, numpy_rng(generator))
        return self.code_of(torch.from_numpy(points.astype(np.float32)).to(generator.device), generator)

    @abc.abstractmethod
    def field(self, code: Tensor) -> Field:
        """The shape as a function of positions."""

    def subject(self, code: Tensor) -> Member:
        return Member(self.scene, self.field(code), self.level, code.device)
