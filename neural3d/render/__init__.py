"""Renderers turn a representation and a camera into pictures."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass
class RenderOut:
    """One rendered view.

    rgb is what the camera sees, on the background the method was asked for; sRGB in [0, 1].
    depth is the distance along the camera's z axis in scene units, 0 where alpha is 0.
    normal is unit length in the scene frame, 0 where alpha is 0.
    """

    rgb: Float[Tensor, "height width 3"]
    alpha: Float[Tensor, "height width 1"]
    depth: Float[Tensor, "height width 1"]
    normal: Float[Tensor, "height width 3"]
