"""Rays o + t·d with unit directions: where they meet simple shapes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def box_span(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Distances t ≥ 0 at which rays enter and leave an axis-aligned box; enter ≥ leave where they miss it.

    From inside, a ray enters at 0. The slab test: the ray is inside where it is between the planes of all three axes.
    """
    # A component of 0 becomes 1e-12: the planes of that axis then lie behind or beyond every distance in use, and an
    # origin exactly in such a plane gives 0 instead of 0/0.
    safe = torch.where(directions.abs() < 1e-12, directions.new_tensor(1e-12), directions)
    a, b = (box.to(origins)[:, None] - origins) / safe
    enter = torch.minimum(a, b).amax(-1).clamp_min(0)
    return enter, torch.maximum(a, b).amin(-1)
