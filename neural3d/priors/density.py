"""Models of a density: what makes one of pictures of 256 levels, and of vectors of any unit.

Pictures: with v a level and u uniform in [0, 1), y = (v + u) / 256 has a density where v has chances, and
    log P(v) ≥ E_u log p(y) − D log 256       (Theis, van den Oord, Bethge, ICLR 2016, eq. 9)
Vectors: y is x less the mean of each number, over its deviation; log p(x) = log p(y) − Σ log deviation.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Guiding, Likelihood
from neural3d.priors.base import Prior

LEVELS = 256
CONSTANT = 1e-3  # of the largest deviation: numbers that vary less are taken to, or nothing else would be likely


class Density(Prior, Likelihood, Guiding):
    """Learns by the mean of −log p; see the module's docstring."""

    mean: Float[Tensor, "..."]  # of vectors
    deviation: Float[Tensor, "..."]

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        self.pictures = scene.kind == "images"
        self.likelihood = "lower bound, by uniform dequantisation" if self.pictures else "exact"
        self.register_buffer("mean", torch.zeros(scene.shape))
        self.register_buffer("deviation", torch.ones(scene.shape))

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        if not self.pictures:
            self.mean.copy_(source.values.mean(0))
            deviation = source.values.std(0)
            self.deviation.copy_(deviation.clamp(min=max(1e-6, CONSTANT * float(deviation.max()))))
        return source

    def continuous(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B ..."]:
        """y of examples."""
        if not self.pictures:
            return (x - self.mean) / self.deviation
        noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (x * (LEVELS - 1) + noise) / LEVELS

    def examples(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The way back: pictures on their levels."""
        if not self.pictures:
            return y * self.deviation + self.mean
        return (y * LEVELS).floor().clamp(0, LEVELS - 1) / (LEVELS - 1)

    @abc.abstractmethod
    def log_density(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        """log p(y), differentiable."""

    def log_likelihood(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        of_unit = self.length * math.log(LEVELS) if self.pictures else self.deviation.log().sum()
        return self.log_density(self.continuous(x, generator)) - of_unit

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        nats = -self.log_likelihood(batch.x, generator).mean()
        return {"nats": nats}, {"nats": nats.detach()}

    def energy(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        return -self.log_likelihood(x, generator)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        return self.log_likelihood(x, generator)
