"""Binary values in order, each given those before by hidden units that are carried from one value to the next.

Larochelle & Murray: "The Neural Autoregressive Distribution Estimator", AISTATS 2011:
    p(x) = Π_d Bernoulli(x_d; σ(b_d + V_d h_d)),   h_d = σ(c + Σ_{j<d} W_j x_j)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.ops.nade import nade
from neural3d.priors.autoregressive import bernoulli, chosen
from neural3d.priors.base import Exact, PriorConfig
from neural3d.priors.optimisers import Name


@dataclass(frozen=True)
class NadeConfig(PriorConfig):
    """Settings of `nade`."""

    horizon: Count = 15_000
    optimizer: Name = "adamw"
    decay: float = 0.1  # without, it learns its examples by heart
    lr: float = 1e-2
    lr_final: float = 1e-4
    width: Width = 500  # hidden units


class Nade(Exact, Likelihood, Sampling):
    """See the module's docstring."""

    Config = NadeConfig
    binary = True

    def __init__(self, config: NadeConfig, scene: Examples):
        super().__init__(config, scene)
        reach = self.length**-0.5
        self.w = nn.Parameter(torch.empty(self.length, config.width).uniform_(-reach, reach))
        self.v = nn.Parameter(torch.empty(self.length, config.width).uniform_(-reach, reach))
        self.b = nn.Parameter(torch.zeros(self.length))
        self.c = nn.Parameter(torch.zeros(config.width))

    def logits(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Of each value being 1, given those before it; without a gradient to these."""
        return nade(x > 0.5, self.w, self.v, self.b, self.c)

    def log_likelihood(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        x = x.flatten(1)
        return bernoulli(self.logits(x), x).sum(1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        a = self.c.expand(count, -1)
        x = []
        for w, v, b in zip(self.w, self.v, self.b):
            x.append(chosen(torch.sigmoid(a) @ v + b, generator, temperature))
            a = a + x[-1][:, None] * w
        return torch.stack(x, 1).view(count, *self.scene.shape)
