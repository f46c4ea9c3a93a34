"""What Boltzmann machines share: units drawn in turn, and their partition function by annealed importance sampling.

Salakhutdinov & Murray: "On the Quantitative Analysis of Deep Belief Networks", ICML 2008. With p_β(v) ∝ f_β(v), from a
known p_0 to p_1 = f_1 / Z by 0 = β_0 < … < β_K = 1, and chains v_1 → … → v_K of which step k leaves p_{β_k} as it is,
the mean of w = Π_k f_{β_k}(v_k) / f_{β_{k−1}}(v_k) is Z / Z_0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHANCES = 1e-3  # nothing is taken to be rarer, where a mean over the data becomes a bias


def drawn(logits: Float[Tensor, "..."], generator: torch.Generator) -> Float[Tensor, "..."]:
    """1 with probability σ(logits), else 0."""
    return (torch.rand(logits.shape, generator=generator, device=logits.device) < torch.sigmoid(logits)).to(logits)


def kept(new: Tensor, old: Tensor, known: Bool[Tensor, "..."] | None) -> Tensor:
    """What is known stays."""
    return new if known is None else torch.where(known, old, new)


def log_odds(mean: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
    """The biases of units that are 1 as often as in the data, on their own."""
    mean = mean.clamp(CHANCES, 1 - CHANCES)
    return mean.log() - (-mean).log1p()


def log_partition(
    start: Float[Tensor, "chains D"],
    log_start: float,
    log_f: Callable[[Tensor, float], Float[Tensor, "chains"]],
    step: Callable[[Tensor, float], Tensor],
    steps: int,
) -> float:
    """log Z of p_1. start: drawn from p_0, whose partition function is e^log_start. log_f(v, β), step(v, β)."""
    v, logs = start, torch.zeros(len(start), device=start.device, dtype=torch.float64)
    betas = [k / steps for k in range(steps + 1)]
    for before, after in itertools.pairwise(betas):
        logs += (log_f(v, after) - log_f(v, before)).double()
        v = step(v, after)
    return log_start + float(logs.logsumexp(0)) - math.log(len(start))
