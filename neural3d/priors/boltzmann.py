"""What Boltzmann machines share: units drawn in turn, and their partition function by annealed importance sampling.

Salakhutdinov & Murray: "On the Quantitative Analysis of Deep Belief Networks", ICML 2008. With p_β(v) ∝ f_β(v), from a
known p_0 to p_1 = f_1 / Z by 0 = β_0 < … < β_K = 1, and chains v_1 → … → v_K of which step k leaves p_{β_k} as it is,
the mean of w = Π_k f_{β_k}(v_k) / f_{β_{k−1}}(v_k) is Z / Z_0.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.methods.abilities import Completing, Likelihood, Sampling
from neural3d.priors.base import Prior

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
    step: Callable[[Tensor, float, float], tuple[Float[Tensor, "chains"], Tensor]],
    steps: int,
) -> float:
    """log Z of p_1. start: drawn from p_0, whose partition function is e^log_start.

    step(v, β_{k−1}, β_k): log f_{β_k}(v) − log f_{β_{k−1}}(v), and where the chain goes from v; both need the same
    products with the weights, which take most of the time.
    """
    v, logs = start, torch.zeros(len(start), device=start.device, dtype=torch.float64)
    betas = [k / steps for k in range(steps + 1)]
    for before, after in itertools.pairwise(betas):
        change, v = step(v, before, after)
        logs += change.double()
    return log_start + float(logs.logsumexp(0)) - math.log(len(start))


class Machine(Prior, Likelihood, Sampling, Completing):
    """Chains start from seen units as frequent as in the data, of which `base` are the biases."""

    binary = True
    base: Float[Tensor, "D"]
    log_z: float | None = None  # as long as parameters stay

    @abc.abstractmethod
    def partition(self, generator: torch.Generator) -> float:
        """log Z."""

    @abc.abstractmethod
    def chain(
        self, v: Float[Tensor, "B D"], known: Tensor | None, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B D"]:
        """The end of one that starts at v, where what is known stays."""

    def train(self, mode: bool = True) -> Self:
        self.log_z = None
        return super().train(mode)

    def log_partition_once(self, generator: torch.Generator) -> float:
        if self.log_z is None:
            self.log_z = self.partition(generator)
        return self.log_z

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """Ends of chains, in the end by p(v)^(1 / temperature)."""
        v = drawn(self.base.expand(count, -1), generator)
        return self.chain(v, None, generator, temperature).view(count, *self.scene.shape)

    @torch.no_grad()
    def complete(
        self, x: Float[Tensor, "B ..."], known: Bool[Tensor, "B ..."], generator: torch.Generator
    ) -> Float[Tensor, "B ..."]:
        where = known.flatten(1)
        v = kept(drawn(self.base.expand(len(x), -1), generator), x.flatten(1), where)
        return self.chain(v, where, generator).view_as(x)
