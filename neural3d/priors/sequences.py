"""What models of sequences share: each frame told by those before it, such as poses of a moving body.

    p(x_1 … x_T) = Π_t N(x_t; x_{t−1} + δ(before), σ(before)²),   x_0 = 0
Frames come less their mean, over their deviation, each number on its own; log p is of the numbers as they were.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Foretelling, Likelihood, Sampling
from neural3d.methods.players import Player
from neural3d.priors.base import Prior, PriorConfig
from neural3d.priors.optimisers import optimiser

LEAST_LOG = -7.0  # of a standardised frame's deviation: floors of noise that no data asks for


@dataclass(frozen=True)
class SequenceConfig(PriorConfig):
    """Settings of models of sequences."""

    horizon: Count = 5_000
    batch: Count = 32
    clip: float = 1.0  # norm that gradients are scaled down to (Pascanu, Mikolov, Bengio 2013); 0: as they are


class SequencePrior(Prior, Likelihood, Sampling, Foretelling):
    """See the module's docstring."""

    wants = "numbers"
    likelihood = "exact"
    mean: Float[Tensor, "D"]
    deviation: Float[Tensor, "D"]

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        if len(scene.shape) != 2:
            raise UserError(f"{scene.path}: holds no sequences; give a folder of motion clips, or arrays (N, T, D).")
        self.frames, self.width = scene.shape
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("deviation", torch.ones(self.width))

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        flat = source.values.flatten(0, 1)
        self.mean.copy_(flat.mean(0))
        self.deviation.copy_(flat.std(0).clamp(min=1e-4))
        return source

    def players(self) -> list[Player]:
        c = self.config
        group = dict(params=list(self.parameters()), lr=c.lr, lr_final=c.lr_final)
        return [Player([group], self.loss, optimizer=optimiser(c.optimizer, c.momentum, c.decay), clip=c.clip)]

    def standard(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return (x - self.mean) / self.deviation

    @abc.abstractmethod
    def nats(self, y: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        """−log p of standardised sequences, or a bound above it; differentiable."""

    @abc.abstractmethod
    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        """What follows y, which may hold no frame; without a generator, the means."""

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        nats = self.nats(self.standard(batch.x), generator).mean()
        return {"nats": nats / self.length}, {"nats": nats.detach()}

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        return -self.nats(self.standard(x), generator) - self.frames * self.deviation.log().sum()

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count T D"]:
        y = self.mean.new_zeros(count, 0, self.width)
        return self.following(y, self.frames, generator, temperature) * self.deviation + self.mean

    @torch.no_grad()
    def foretell(self, x: Float[Tensor, "B T D"], count: int) -> Float[Tensor, "B count D"]:
        return self.following(self.standard(x), count, None, 1.0) * self.deviation + self.mean


def before(y: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """x_{t−1} of each t."""
    return torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)


def normal_nats(
    y: Float[Tensor, "B T D"], last: Float[Tensor, "B T D"], told: Float[Tensor, "B T 2D"]
) -> Float[Tensor, "B T"]:
    """−log N(y; last + δ, σ²) with (δ, log σ) as told."""
    step, log_size = told.chunk(2, -1)
    log_size = log_size.clamp(min=LEAST_LOG)
    squares = ((y - last - step) * (-log_size).exp()).square()
    return (squares / 2 + log_size + math.log(2 * math.pi) / 2).sum(-1)


def next_frame(
    last: Float[Tensor, "B D"], told: Float[Tensor, "B 2D"], generator: torch.Generator | None, temperature: float
) -> Float[Tensor, "B D"]:
    step, log_size = told.chunk(2, -1)
    if generator is None:
        return last + step
    noise = torch.randn(last.shape, generator=generator, device=last.device)
    return last + step + temperature * log_size.clamp(min=LEAST_LOG).exp() * noise
