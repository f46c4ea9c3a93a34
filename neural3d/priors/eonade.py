"""One network for every order: given any of the values and which ones they are, it tells how likely the others are.

Uria, Murray, Larochelle: "A Deep and Tractable Density Estimator", ICML 2014. m: which values are seen. The network
takes [x ⊙ m, m]. A step draws for each example how many are seen, d − 1, uniformly, and which:
    loss = D / (D − d + 1) Σ_{i unseen} −log p(x_i | x_m, m)
This is, over all draws, the mean of −log p(x) over all orders. Afterwards K orders stand for all, as a mixture:
    log p(x) = log (1/K) Σ_o Π_d p(x_{o_d} | x_{o_<d})      (an ensemble: EoNADE)
which sums to one as each of them does. An order takes a pass of the network for each value, its first layer by what
the last value added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from neural3d.config import Count, Width
from neural3d.examples.examples import ExampleBatch, Examples
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli, chosen
from neural3d.priors.base import Exact, PriorConfig


@dataclass(frozen=True)
class EonadeConfig(PriorConfig):
    """Settings of `eonade`."""

    horizon: Count = 100_000
    lr: float = 2e-3
    lr_final: float = 2e-5
    width: Width = 500  # of the hidden layers
    layers: Count = 2
    orders: Count = 16  # that likelihood is a mixture over; each takes as long as the first
    scored: Count = 1000  # examples that eval takes, evenly spread


class Eonade(Exact, Likelihood, Sampling):
    """See the module's docstring."""

    Config = EonadeConfig
    binary = True

    def __init__(self, config: EonadeConfig, scene: Examples):
        super().__init__(config, scene)
        self.scored = config.scored
        self.likelihood = f"exact, of a mixture over {config.orders} orders"
        widths = [config.width] * config.layers
        reach = (2 * self.length) ** -0.5
        self.values = nn.Parameter(torch.empty(self.length, config.width).uniform_(-reach, reach))
        self.seen = nn.Parameter(torch.empty(self.length, config.width).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.zeros(config.width))
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(config.width, self.length)

    def features(self, a: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """What the last layer sees, of what the first one adds up. SiLU for the paper's ReLU, of which three quarters
        of the first layer's came to be zero for every example: losses of few unseen values have large gradients.
        """
        h = silu(a)
        for layer in self.hidden:
            h = silu(layer(h))
        return h

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x = batch.x.flatten(1)
        # Each value seen with probability u, u uniform: their number is uniform too, from 0 to D, and which they are;
        # u spread evenly over the batch, since the loss changes much with it.
        parts = torch.arange(len(x), device=x.device) + torch.rand(len(x), generator=generator, device=x.device)
        m = (torch.rand(x.shape, generator=generator, device=x.device) < (parts / len(x))[:, None]).to(x)
        logits = self.last(self.features((x * m) @ self.values + m @ self.seen + self.bias))
        of_unseen = (bernoulli(logits, x) * (1 - m)).sum(1)
        # All D seen, of D + 1 numbers, is no term of the sum, and 0 here.
        nats = -(of_unseen * (self.length + 1) / (1 - m).sum(1).clamp(min=1)).mean()
        return {"nats": nats}, {"nats": nats.detach()}

    def orders(self) -> list[list[int]]:
        """The same in every run."""
        seeds = range(self.config.orders)
        return [torch.randperm(self.length, generator=torch.Generator().manual_seed(s)).tolist() for s in seeds]

    def in_turn(
        self, count: int, order: Sequence[int], value: Callable[[int, Float[Tensor, "B"]], Float[Tensor, "B"]]
    ) -> None:
        """Walks through one order. value(d, its logit) tells what x_d is, of `count` examples."""
        a = self.bias.expand(count, -1)
        for d in order:
            logit = self.features(a) @ self.last.weight[d] + self.last.bias[d]
            a = a + value(d, logit)[:, None] * self.values[d] + self.seen[d]

    def log_likelihood(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        x = x.flatten(1)
        each = []
        for order in self.orders():
            log_p: list[Tensor] = []

            def value(d: int, logit: Tensor, log_p: list[Tensor] = log_p) -> Tensor:
                log_p.append(bernoulli(logit, x[:, d]))
                return x[:, d]

            self.in_turn(len(x), order, value)
            each.append(torch.stack(log_p).sum(0))
        return torch.stack(each).logsumexp(0) - math.log(len(each))

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """Each by one of the orders, at random."""
        x = torch.zeros(count, self.length, device=self.bias.device)
        of = torch.randint(self.config.orders, (count,), generator=generator, device=x.device)
        for i, order in enumerate(self.orders()):
            own = (of == i).nonzero()[:, 0]

            def value(d: int, logit: Tensor, own: Tensor = own) -> Tensor:
                x[own, d] = chosen(logit, generator, temperature)
                return x[own, d]

            self.in_turn(len(own), order, value)
        return x.view(count, *self.scene.shape)
