"""Rotations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_from_axis_angle(vector: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """The rotation about `vector`'s direction by its length in radians (Rodrigues' formula). Differentiable at zero.

    R = I + sinc(θ) K + ½ sinc²(θ/2) K², with K = [v]× and sinc x = sin x / x.
    """
    zero = torch.zeros_like(vector[..., 0])
    x, y, z = vector.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    # The root's gradient is infinite at 0; there sinc and its slope do not depend on this tiny offset.
    theta = torch.sqrt((vector**2).sum(-1) + 1e-20)[..., None, None]
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    half = torch.sin(theta / 2) / (theta / 2)
    return eye + torch.sin(theta) / theta * cross + 0.5 * half**2 * (cross @ cross)
