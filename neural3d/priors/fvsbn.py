"""A fully visible sigmoid belief network: each binary value is a logistic regression on those before it.

Neal: "Connectionist learning of belief networks", Artificial Intelligence 1992; Frey, Hinton, Dayan 1996:
    p(x) = Π_d Bernoulli(x_d; σ(b_d + Σ_{j<d} W_dj x_j))
No hidden units, so −log p is convex in W and b, and L-BFGS finds the one minimum of all examples:
--set optimizer=lbfgs lr=1 batch=50000.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli, drawn_in_turn
from neural3d.priors.base import Exact, PriorConfig


@dataclass(frozen=True)
class FvsbnConfig(PriorConfig):
    """Settings of `fvsbn`."""

    horizon: Count = 15_000
    lr: float = 1e-2
    lr_final: float = 1e-4


class Fvsbn(Exact, Likelihood, Sampling):
    """See the module's docstring."""

    Config = FvsbnConfig
    binary = True

    def __init__(self, config: FvsbnConfig, scene: Examples):
        super().__init__(config, scene)
        self.weight = nn.Parameter(torch.zeros(self.length, self.length))
        self.bias = nn.Parameter(torch.zeros(self.length))

    def logits(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Of each value being 1, given those before it."""
        return nn.functional.linear(x, self.weight.tril(-1), self.bias)

    def log_likelihood(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        x = x.flatten(1)
        return bernoulli(self.logits(x), x).sum(1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        x = torch.zeros(count, self.length, device=self.bias.device)
        x = drawn_in_turn(self.logits, x, range(self.length), generator, temperature)
        return x.view(count, *self.scene.shape)
