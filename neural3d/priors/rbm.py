"""`rbm`: a restricted Boltzmann machine, binary units v that are seen and h that are not.

Smolensky 1986; Hinton: "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002.
    p(v, h) ∝ exp(bᵀv + cᵀh + vᵀW h),   p(v) ∝ exp(−F(v)),   F(v) = −bᵀv − Σ_j log(1 + e^(c_j + (vᵀW)_j))
Given either, units of the other are independent. ∂(−log p)/∂θ = E_data ∂F/∂θ − E_model ∂F/∂θ; the model's part comes
from chains of Gibbs steps that start at the batch (contrastive divergence) or go on from the last step (persistent:
Tieleman, ICML 2008). Units are centred, (v − α)ᵀW (h − ½) with α the means of the data: the same machine with other
biases, b − W ½ and c − Wᵀα, which learns several nats more in as many steps (Montavon & Müller 2012, as in `dbm`).
log Z by annealed importance sampling, from units as frequent as in the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from neural3d.config import Count, Width
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.priors.base import PriorConfig
from neural3d.priors.boltzmann import Machine, drawn, kept, log_odds, log_partition


@dataclass(frozen=True)
class RbmConfig(PriorConfig):
    """Settings of `rbm`."""

    horizon: Count = 30_000
    lr: float = 3e-3
    lr_final: float = 3e-5
    hidden: Width = 500  # units h
    gibbs: Count = 5  # steps of the chains for each step of training
    persistent: bool = True  # chains go on; else they start at the batch

    ais_chains: Count = 100  # for log Z
    ais_steps: Count = 20_000  # of fewer, the estimate is too low: of 500 hidden units on MNIST 3 nats at 5,000
    draw_steps: Count = 1000  # of the chains that samples and completions come from


class Rbm(Machine):
    """See the module's docstring."""

    Config = RbmConfig
    likelihood = "estimate, by annealed importance sampling"
    chains: Float[Tensor, "batch D"]
    base: Float[Tensor, "D"]  # biases of p_0
    mean: Float[Tensor, "D"]  # α

    def __init__(self, config: RbmConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        self.weight = nn.Parameter(0.01 * torch.randn(self.length, c.hidden))
        self.visible_bias = nn.Parameter(torch.zeros(self.length))
        self.hidden_bias = nn.Parameter(torch.zeros(c.hidden))
        self.register_buffer("chains", (torch.rand(min(c.batch, scene.counts["train"]), self.length) < 0.5).float())
        self.register_buffer("base", torch.zeros(self.length))
        self.register_buffer("mean", torch.full((self.length,), 0.5))

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        self.mean.copy_(source.values.float().mean(0).flatten())
        self.base.copy_(log_odds(self.mean))
        with torch.no_grad():
            self.visible_bias.copy_(self.base)
        return source

    def biases(self) -> tuple[Tensor, Tensor]:
        """(b, c) of the machine without centres."""
        return self.visible_bias - self.weight.sum(1) / 2, self.hidden_bias - self.mean @ self.weight

    def free_energy(self, v: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """F."""
        b, c = self.biases()
        return -v @ b - softplus(c + v @ self.weight).sum(1)

    def gibbs(
        self,
        v: Float[Tensor, "B D"],
        biases: tuple[Tensor, Tensor],
        generator: torch.Generator,
        beta: float = 1.0,
        known: Tensor | None = None,
    ) -> Float[Tensor, "B D"]:
        """One step of a chain, h then v, which leaves p_β ∝ exp((1 − β) baseᵀv + β bᵀv) Π_j (1 + e^(β a_j)) as it is,
        a = c + vᵀW; with what is known, given that.
        """
        b, c = biases
        h = drawn(beta * (c + v @ self.weight), generator)
        bias = (1 - beta) * self.base + beta * b
        return kept(drawn(bias + beta * (h @ self.weight.T), generator), v, known)

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        data = batch.x.flatten(1)
        with torch.no_grad():
            v, biases = self.chains if self.config.persistent else data, self.biases()
            for _ in range(self.config.gibbs):
                v = self.gibbs(v, biases, generator)
            if self.config.persistent:
                self.chains.copy_(v)
        difference = self.free_energy(data).mean() - self.free_energy(v).mean()
        return {"difference": difference}, {"difference": difference.detach()}

    @torch.no_grad()
    def partition(self, generator: torch.Generator) -> float:
        """log Z."""
        config = self.config
        b, c = self.biases()
        difference = b - self.base

        def step(v: Tensor, before: float, after: float) -> tuple[Tensor, Tensor]:
            a = c + v @ self.weight
            change = (softplus(after * a) - softplus(before * a)).sum(1) + (after - before) * (v @ difference)
            h = drawn(after * a, generator)
            return change, drawn(self.base + after * (difference + h @ self.weight.T), generator)

        start = drawn(self.base.expand(config.ais_chains, -1), generator)
        log_start = float(softplus(self.base.double()).sum()) + config.hidden * math.log(2)
        return log_partition(start, log_start, step, config.ais_steps)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        return -self.free_energy(x.flatten(1)) - self.log_partition_once(generator)

    def chain(
        self, v: Float[Tensor, "B D"], known: Tensor | None, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B D"]:
        """Half of the steps warm up from p_0: chains that start at p_1 stay where they are."""
        steps, biases = self.config.draw_steps, self.biases()
        for k in range(steps):
            beta = min(1.0, 2 * (k + 1) / steps)
            v = self.gibbs(v, biases, generator, beta, known)
        if temperature != 1:
            for _ in range(steps):
                v = self._cold(v, biases, generator, max(temperature, 1e-3))
        return v

    def _cold(
        self, v: Float[Tensor, "B D"], biases: tuple[Tensor, Tensor], generator: torch.Generator, temperature: float
    ) -> Float[Tensor, "B D"]:
        b, c = biases
        h = drawn((c + v @ self.weight) / temperature, generator)
        return drawn((b + h @ self.weight.T) / temperature, generator)
