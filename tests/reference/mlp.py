"""A fully connected network, written out layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def activate(name: str, z: Tensor) -> Tensor:
    return {"none": lambda: z, "relu": z.relu, "sigmoid": z.sigmoid, "exp": z.exp}[name]()


def mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    *,
    hidden_activation: str = "relu",
    output_activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """Returns the output and, for each row, how near the closest unit is to the kink of a ReLU.

    Near is relative, |z| / (Σ |x| |w| + |b|): below some 1e-6 float32 cannot tell the sign of z.
    """
    nearest = x.new_full((x.shape[0],), torch.inf)
    for i, weight in enumerate(weights):
        z, size = x @ weight.T, x.detach().abs() @ weight.detach().abs().T
        if biases is not None:
            z, size = z + biases[i], size + biases[i].detach().abs()
        name = output_activation if i == len(weights) - 1 else hidden_activation
        if name == "relu":
            nearest = torch.minimum(nearest, (z.detach().abs() / size).amin(-1))
        x = activate(name, z)
    return x, nearest
