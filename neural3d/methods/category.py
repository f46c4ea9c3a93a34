"""What methods share that learn from a folder of shapes and then know a category."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.methods.base import Method
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.samples import sample_surface

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Colors, Field, Mesh


SEEN = 4096  # points of a surface that is given as a mesh


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """NumPy's counterpart, seeded by a draw."""
    seed = torch.randint(1 << 31, (), generator=generator, device=generator.device)
    return np.random.default_rng(int(seed))


class CategoryMethod(Method):
    """Turns what is seen of a shape into a code, and a code into a field; all in the scene frame of the set.

    A code is one tensor; what it means is the method's own.
    """

    takes = ShapeSet
    level: float | None  # of the field's surface, see `geometry.mesh.extract`
    sees: Literal["points", "image", "class"] = "points"  # what a code is made of
    from_photos: ClassVar[bool] = False  # is it learnt from pictures alone, so that captures serve too?
    linear: ClassVar[bool] = False  # are codes vectors, so that there are shapes between two, and new ones?

    @classmethod
    def prepared(cls, scene: ShapeSet) -> ShapeSet:
        if scene.captures and not cls.from_photos:
            raise UserError(f"{scene.path}: these are captures, not meshes; --method dvr learns from photos.")
        return scene

    @abc.abstractmethod
    def code_of(self, seen: Tensor, generator: torch.Generator) -> Tensor:
        """The code that explains what is seen of a shape.

        points: (M, 3) of its surface, which may be noisy and cover only part of it. image: a picture (3, H, W), sRGB on
        white, of the size of training. class: its number in `scene.kinds`, a tensor without dimensions.
        """

    def code_of_mesh(self, mesh: Mesh, generator: torch.Generator) -> Tensor:
        """The code of a surface that is known, whose vertices need not be spread evenly."""
        points, _ = sample_surface(mesh, SEEN, numpy_rng(generator))
        return self.code_of(torch.from_numpy(points.astype(np.float32)).to(generator.device), generator)

    @abc.abstractmethod
    def field(self, code: Tensor) -> Field:
        """The shape as a function of positions."""

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count L"]:
        """Codes of shapes that nobody has seen; only where codes are `linear`."""
        raise NotImplementedError

    def shape(self, code: Tensor, resolution: int) -> Mesh:
        """The surface in the scene frame, closed. resolution: cells along the longest side of the set's box."""
        return self._extract(self.field(code), resolution, None, level=self.level)

    def surface(
        self, resolution: int, crop: Float[Tensor, "2 3"] | None = None, progress: Progress = silent
    ) -> tuple[Mesh, Colors | None]:
        raise UserError(
            "This run knows a category, not one shape: neural3d reconstruct RUN FILE makes a mesh of what is seen."
        )

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        raise UserError(
            "This run knows a category, not one shape: make a mesh by neural3d reconstruct RUN FILE, and look at that."
        )
