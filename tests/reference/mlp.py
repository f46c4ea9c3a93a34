"""A fully connected network, written out layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def activate(name: str, z: Tensor) -> Tensor:
    return {"none": lambda: z, "relu": z.relu, "sigmoid": z.sigmoid, "exp": z.exp}[name]()


def nearest_bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


def rounded(x: Tensor) -> Tensor:
    """x in bfloat16, with the gradient of x itself."""
    return x + (nearest_bfloat16(x) - x).detach()


def mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    *,
    hidden_activation: str = "relu",
    output_activation: str = "none",
    precision: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Returns the output and, for each row, how near the closest unit is to the kink of a ReLU.

    Near is relative, |z| / (Σ |x| |w| + |b|): below some 1e-6 float32 cannot tell the sign of z.
    precision: for "bfloat16", the operands of every product are rounded: x, weights, and the gradient of every z.
    """
    to_operand = rounded if precision == "bfloat16" else lambda t: t
    nearest = x.new_full((x.shape[0],), torch.inf)
    for i, weight in enumerate(weights):
        x, weight = to_operand(x), to_operand(weight)
        z, size = x @ weight.T, x.detach().abs() @ weight.detach().abs().T
        if biases is not None:
            z, size = z + biases[i], size + biases[i].detach().abs()
        if precision == "bfloat16" and z.requires_grad:
            z.register_hook(nearest_bfloat16)
        name = output_activation if i == len(weights) - 1 else hidden_activation
        if name == "relu":
            nearest = torch.minimum(nearest, (z.detach().abs() / size).amin(-1))
        x = activate(name, z)
    return x, nearest
