"""`dbm`: a deep Boltzmann machine, seen units v below two layers h¹ and h² that are not seen.

Salakhutdinov & Hinton: "Deep Boltzmann Machines", AISTATS 2009:
    p(v, h¹, h²) ∝ exp(bᵀv + c¹ᵀh¹ + c²ᵀh² + vᵀW¹h¹ + h¹ᵀW²h²)
    ∂(−log p)/∂θ ≈ E_q ∂E/∂θ − E_chains ∂E/∂θ
    q(h|v) = Π of means that solve  μ¹ = σ(c¹ + W¹ᵀv + W²μ²), μ² = σ(c² + W²ᵀμ¹)
with chains that go on from step to step. log p(v) ≥ E_q[−E] + H(q) − log Z; log Z by annealed importance sampling over
h¹, v and h² summed out.

The paper trains layer by layer before it trains all; here units are centred instead, (v − α)ᵀW¹(h¹ − β¹) and so on
with means α and β, which lets all layers learn at once (Montavon & Müller: "Deep Boltzmann Machines and the Centering
Trick", 2012). As β follows the means, biases follow β, so that the distribution stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from neural3d.config import Count, Width
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.players import Player
from neural3d.priors.base import PriorConfig
from neural3d.priors.boltzmann import Machine, drawn, kept, log_odds, log_partition

FOLLOW = 0.01  # share by which β goes to the means of a batch
Biases = tuple[Tensor, Tensor, Tensor]  # of v, h¹, h²


@dataclass(frozen=True)
class DbmConfig(PriorConfig):
    """Settings of `dbm`."""

    horizon: Count = 25_000
    lr: float = 1e-3
    lr_final: float = 1e-5
    first: Width = 500  # units h¹
    second: Width = 500  # units h²
    gibbs: Count = 5  # steps of the chains for each step of training
    mean_field: Count = 10  # rounds for q

    ais_chains: Count = 100  # for log Z
    ais_steps: Count = 20_000  # of fewer, the estimate is too low: of 500 hidden units on MNIST 3 nats at 5,000
    draw_steps: Count = 1000  # of the chains that samples and completions come from


class Dbm(Machine):
    """See the module's docstring."""

    Config = DbmConfig
    likelihood = "estimate of a lower bound, by mean field and annealed importance sampling"
    chains: Float[Tensor, "batch D"]
    chains_second: Float[Tensor, "batch H2"]
    base: Float[Tensor, "D"]
    mean: Float[Tensor, "D"]  # α
    mean_first: Float[Tensor, "H1"]  # β¹
    mean_second: Float[Tensor, "H2"]
    latest: Float[Tensor, "H1+H2"]  # means of the last batch

    def __init__(self, config: DbmConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        self.lower = nn.Parameter(0.01 * torch.randn(self.length, c.first))
        self.upper = nn.Parameter(0.01 * torch.randn(c.first, c.second))
        self.visible_bias = nn.Parameter(torch.zeros(self.length))
        self.first_bias = nn.Parameter(torch.zeros(c.first))
        self.second_bias = nn.Parameter(torch.zeros(c.second))
        batch = min(c.batch, scene.counts["train"])
        self.register_buffer("chains", (torch.rand(batch, self.length) < 0.5).float())
        self.register_buffer("chains_second", (torch.rand(batch, c.second) < 0.5).float())
        self.register_buffer("base", torch.zeros(self.length))
        self.register_buffer("mean", torch.full((self.length,), 0.5))
        self.register_buffer("mean_first", torch.full((c.first,), 0.5))
        self.register_buffer("mean_second", torch.full((c.second,), 0.5))
        self.register_buffer("latest", torch.full((c.first + c.second,), 0.5))

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        mean = source.values.float().mean(0).flatten()
        self.mean.copy_(mean)
        self.base.copy_(log_odds(mean))
        with torch.no_grad():
            self.visible_bias.copy_(self.base)
        return source

    def biases(self) -> Biases:
        """Those of the machine without centres, to which it is equal but for a constant."""
        b = self.visible_bias - self.lower @ self.mean_first
        first = self.first_bias - self.mean @ self.lower - self.upper @ self.mean_second
        return b, first, self.second_bias - self.mean_first @ self.upper

    def energy(self, v: Float[Tensor, "B D"], h1: Float[Tensor, "B H1"], h2: Float[Tensor, "B H2"]) -> Tensor:
        """(B,), centred."""
        alone = v @ self.visible_bias + h1 @ self.first_bias + h2 @ self.second_bias
        middle = h1 - self.mean_first
        tied = ((v - self.mean) @ self.lower * middle).sum(1) + (middle @ self.upper * (h2 - self.mean_second)).sum(1)
        return -alone - tied

    def gibbs(
        self,
        v: Tensor,
        h2: Tensor,
        biases: Biases,
        generator: torch.Generator,
        known: Tensor | None = None,
        cold: float = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step of a chain, (v, h¹, h²): h¹ given the others, then these given h¹. cold: divides logits."""
        b, first, second = biases
        h1 = drawn((first + v @ self.lower + h2 @ self.upper.T) / cold, generator)
        v = kept(drawn((b + h1 @ self.lower.T) / cold, generator), v, known)
        return v, h1, drawn((second + h1 @ self.upper) / cold, generator)

    def posterior(self, v: Float[Tensor, "B D"], biases: Biases) -> tuple[Tensor, Tensor]:
        """The means (μ¹, μ²) of q."""
        _, first, second = biases
        from_below = first + v @ self.lower
        h2 = self.mean_second.expand(len(v), -1)
        for _ in range(self.config.mean_field):
            h1 = torch.sigmoid(from_below + h2 @ self.upper.T)
            h2 = torch.sigmoid(second + h1 @ self.upper)
        return h1, h2

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        data = batch.x.flatten(1)
        with torch.no_grad():
            biases = self.biases()
            h1, h2 = self.posterior(data, biases)
            v, second = self.chains, self.chains_second
            for _ in range(self.config.gibbs):
                v, first, second = self.gibbs(v, second, biases, generator)
            self.chains.copy_(v)
            self.chains_second.copy_(second)
            self.latest.copy_(torch.cat([h1.mean(0), h2.mean(0)]))
        difference = self.energy(data, h1, h2).mean() - self.energy(v, first, second).mean()
        return {"difference": difference}, {"difference": difference.detach()}

    @torch.no_grad()
    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        c = self.config
        first, second = self.latest.split([c.first, c.second])
        by_first, by_second = FOLLOW * (first - self.mean_first), FOLLOW * (second - self.mean_second)
        self.visible_bias.add_(self.lower @ by_first)
        self.first_bias.add_(self.upper @ by_second)
        self.second_bias.add_(by_first @ self.upper)
        self.mean_first.add_(by_first)
        self.mean_second.add_(by_second)

    # --- likelihood ---

    @torch.no_grad()
    def partition(self, generator: torch.Generator) -> float:
        """log Z, by f_β(h¹), sums over v and h² of the machine's exponential. p_0: v as frequent as in the data, hidden
        units even.
        """
        c = self.config
        b, first, second = self.biases()

        def step(h1: Tensor, before: float, after: float) -> tuple[Tensor, Tensor]:
            below, above = b - self.base + h1 @ self.lower.T, second + h1 @ self.upper

            def log_f(beta: float) -> Tensor:
                return softplus(self.base + beta * below).sum(1) + softplus(beta * above).sum(1)

            change = (after - before) * (h1 @ first) + log_f(after) - log_f(before)
            v, h2 = drawn(self.base + after * below, generator), drawn(after * above, generator)
            return change, drawn(after * (first + v @ self.lower + h2 @ self.upper.T), generator)

        start = drawn(torch.zeros(c.ais_chains, c.first, device=b.device), generator)
        log_start = float(softplus(self.base.double()).sum()) + (c.first + c.second) * math.log(2)
        return log_partition(start, log_start, step, c.ais_steps)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        v, biases = x.flatten(1), self.biases()
        b, first, second = biases
        h1, h2 = self.posterior(v, biases)
        value = v @ b + h1 @ first + h2 @ second + (v @ self.lower * h1).sum(1) + (h1 @ self.upper * h2).sum(1)
        return value + entropy(h1) + entropy(h2) - self.log_partition_once(generator)

    # --- samples ---

    def chain(self, v: Tensor, known: Tensor | None, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        biases = self.biases()
        h2 = drawn(torch.zeros(len(v), self.config.second, device=v.device), generator)
        for _ in range(self.config.draw_steps):
            v, _, h2 = self.gibbs(v, h2, biases, generator, known, max(temperature, 1e-3))
        return v


def entropy(mean: Float[Tensor, "B H"]) -> Float[Tensor, "B"]:
    """Of independent binary units, in nats."""
    return torch.special.entr(mean).add(torch.special.entr(1 - mean)).sum(1)
