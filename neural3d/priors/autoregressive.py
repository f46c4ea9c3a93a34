"""What models share that draw one value after another, each given those before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def bernoulli(logits: Float[Tensor, "..."], x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log p(x) of values that are 1 with probability σ(logits), else 0."""
    return x * logits + logsigmoid(-logits)


def drawn_in_turn(
    logits: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B D"],
    order: Iterable[int],
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Float[Tensor, "B D"]:
    """Binary values drawn at the places of `order`, one after the other; what x holds elsewhere stays as it is.

    logits: (B, D) → (B, D). The simple way, a pass of the network for each value.
    """
    x = x.clone()
    for d in order:
        x[:, d] = chosen(logits(x)[:, d], generator, temperature)
    return x


def chosen(logits: Float[Tensor, "B"], generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "B"]:
    """1 with probability σ(logits / temperature); the likelier of the two at temperature 0."""
    probability = torch.sigmoid(logits / max(temperature, 1e-6))
    return (torch.rand(logits.shape, generator=generator, device=logits.device) < probability).to(logits)
