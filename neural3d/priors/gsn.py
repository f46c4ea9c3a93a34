"""`gsn`: a generative stochastic network, a denoising autoencoder as the transition of a Markov chain.

Bengio, Laufer, Alain, Yosinski: "Deep Generative Stochastic Networks Trainable by Backprop", ICML 2014; Bengio, Yao,
Alain, Vincent: "Generalized Denoising Auto-Encoders as Generative Models", NeurIPS 2013. A step spoils x, x̃ ~ C(x̃|x):
a share of the values becomes 0 or 1 at random; and draws x from P_θ(x|x̃), values independent given x̃. Where P_θ is the
true posterior, the chain's distribution is that of the data. Walkback training: from x the chain is run for `walkback`
steps, and each spoilt x̃ on the way learns to come back to x.

The true P(x|x̃) is not independent. It comes nearer to that the less is spoilt, and the slower the chain then mixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.config import Count, Layers, Width
from neural3d.examples.examples import ExampleBatch, Examples
from neural3d.methods.abilities import Completing, Denoising, Sampling
from neural3d.priors.autoregressive import bernoulli
from neural3d.priors.base import Prior, PriorConfig
from neural3d.priors.boltzmann import drawn, kept
from neural3d.priors.upsampling import Dense


@dataclass(frozen=True)
class GsnConfig(PriorConfig):
    """Settings of `gsn`."""

    horizon: Count = 20_000
    width: Width = 1000  # of the hidden layers
    layers: Layers = 2
    spoilt: float = 0.4  # share of the values that a step spoils
    walkback: Count = 4  # steps of the chain for each example
    draw_steps: Count = 200  # of the chains that samples and completions come from


class Gsn(Prior, Sampling, Completing, Denoising):
    """See the module's docstring."""

    Config = GsnConfig
    binary = True

    def __init__(self, config: GsnConfig, scene: Examples):
        super().__init__(config, scene)
        self.net = Dense(self.length, self.length, config.width, config.layers)

    def spoil(self, x: Float[Tensor, "B D"], generator: torch.Generator) -> Float[Tensor, "B D"]:
        hit, bit = torch.rand(2, *x.shape, generator=generator, device=x.device)
        return torch.where(hit < self.config.spoilt, (bit < 0.5).to(x), x)

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x = batch.x.flatten(1)
        now, losses = x, []
        for _ in range(self.config.walkback):
            logits = self.net(2 * self.spoil(now, generator) - 1)
            losses.append(-bernoulli(logits, x).sum(1).mean())
            now = drawn(logits.detach(), generator)
        loss = torch.stack(losses).mean()
        return {"walkback": loss}, {"first": losses[0].detach()}

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """Ends of chains that start at random values. temperature: of the transitions' chances."""
        x = (torch.rand(count, self.length, generator=generator, device=self._device) < 0.5).float()
        return self._chain(x, None, generator, temperature).view(count, *self.scene.shape)

    @torch.no_grad()
    def complete(
        self, x: Float[Tensor, "B ..."], known: Bool[Tensor, "B ..."], generator: torch.Generator
    ) -> Float[Tensor, "B ..."]:
        return self._chain(x.flatten(1), known.flatten(1), generator).view_as(x)

    @torch.no_grad()
    def denoise(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The chance of each value to have been 1."""
        return torch.sigmoid(self.net(2 * x.flatten(1) - 1)).view_as(x)

    def _chain(
        self, x: Float[Tensor, "B D"], known: Tensor | None, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B D"]:
        """What is known is put back after each step, and is not spoilt: P_θ then has more to go by than in training."""
        for _ in range(self.config.draw_steps):
            seen = kept(self.spoil(x, generator), x, known)
            x = kept(drawn(self.net(2 * seen - 1) / max(temperature, 1e-3), generator), x, known)
        return x

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device
