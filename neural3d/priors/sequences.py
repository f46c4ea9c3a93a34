"""What models of sequences share: each frame told by those before it, such as poses of a moving body.

    p(x_1 … x_T) = Π_t N(x_t; x_{t−1} + a (x_{t−1} − x_{t−2}) − b x_{t−1} + s δ(before), (s σ(before))²)
What was before the first frame is 0. s is how much each number usually changes from frame to frame (of the first frame
1), a how much of the last change goes on, b how fast a number goes back to its mean, both learnt, from least squares
on: networks tell what is left, δ and log σ, and see the last change beside the last frame, in units of s. Frames come
less their mean, over their deviation, each number on its own; log p is of the numbers as they were.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Foretelling, Guiding, Likelihood, Sampling
from neural3d.methods.players import Player
from neural3d.priors.base import Prior, PriorConfig
from neural3d.priors.optimisers import optimiser

STILL = 0.1  # of the usual deviation, or change: numbers that hardly vary are not blown up beyond this
FAR = 3.0  # deviations from where on networks see less and less of a difference


@dataclass(frozen=True)
class SequenceConfig(PriorConfig):
    """Settings of models of sequences."""

    horizon: Count = 5_000
    batch: Count = 32
    clip: float = 1.0  # norm that gradients are scaled down to (Pascanu, Mikolov, Bengio 2013); 0: as they are
    floor: float = 0.01  # least deviation of a frame's numbers, of their usual one: what never changes is no certainty
    noise: float = 0.3  # of what training sees of the past, per number and usual change: it learns to find back


class SequencePrior(Prior, Likelihood, Guiding, Sampling, Foretelling):
    """See the module's docstring."""

    wants = "numbers"
    likelihood = "exact"
    mean: Float[Tensor, "D"]
    deviation: Float[Tensor, "D"]
    change: Float[Tensor, "D"]  # s
    least: Float[Tensor, ""]  # σ of numbers as they were
    sequences = True

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        if len(scene.shape) != 2:
            raise UserError(f"{scene.path}: holds no sequences; give a folder of motion clips, or arrays (N, T, D).")
        self.frames, self.width = scene.shape
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("deviation", torch.ones(self.width))
        self.register_buffer("change", torch.ones(self.width))
        self.register_buffer("least", torch.ones(()))
        self.share = nn.Parameter(torch.ones(self.width))  # a
        self.pull = nn.Parameter(torch.zeros(self.width))  # b

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        flat = source.values.flatten(0, 1)
        self.mean.copy_(flat.mean(0))
        usual = flat.var(0).mean().sqrt()
        self.least.copy_(self.config.floor * usual)
        self.deviation.copy_(flat.std(0).clamp(min=float(STILL * usual)))
        steps = source.values[:, 1:] - source.values[:, :-1]
        changes = steps.square().mean((0, 1))
        self.change.copy_(changes.sqrt().clamp(min=float(STILL * changes.mean().sqrt())) / self.deviation)
        with torch.no_grad():  # per number: next step ≈ a · last step − b · frame
            seen = torch.stack([steps[:, :-1], -(source.values - self.mean)[:, 1:-1]], -1).flatten(0, 1).movedim(1, 0)
            found = torch.linalg.lstsq(seen.double().cpu(), steps[:, 1:].flatten(0, 1).T[..., None].double().cpu())
            self.share.copy_(found.solution[:, 0, 0])
            self.pull.copy_(found.solution[:, 1, 0])
        return source

    def players(self) -> list[Player]:
        c = self.config
        group = dict(params=list(self.parameters()), lr=c.lr, lr_final=c.lr_final)
        return [Player([group], self.loss, optimizer=optimiser(c.optimizer, c.momentum, c.decay), clip=c.clip)]

    def standard(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return (x - self.mean) / self.deviation

    @abc.abstractmethod
    def nats(
        self, y: Float[Tensor, "B T D"], generator: torch.Generator, past: Float[Tensor, "B T D"] | None = None
    ) -> Float[Tensor, "B"]:
        """−log p of standardised sequences, or a bound above it; differentiable. past: what is seen of y; None: y."""

    @abc.abstractmethod
    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        """What follows y, which may hold no frame; without a generator, the means."""

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        y = self.standard(batch.x)
        past = None
        if self.config.noise:
            noise = torch.randn(y.shape, generator=generator, device=y.device)
            past = y + self.config.noise * self.change * noise
        nats = self.nats(y, generator, past).mean()
        return {"nats": nats / self.length}, {"nats": nats.detach()}

    def energy(self, x: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        """−log p of sequences of any length, or a bound above it."""
        return self.nats(self.standard(x), generator) + x.shape[1] * self.deviation.log().sum()

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        return -self.energy(x, generator)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count T D"]:
        y = self.mean.new_zeros(count, 0, self.width)
        return self.following(y, self.frames, generator, temperature) * self.deviation + self.mean

    @torch.no_grad()
    def foretell(
        self,
        x: Float[Tensor, "B T D"],
        count: int,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Float[Tensor, "B count D"]:
        return self.following(self.standard(x), count, generator, temperature) * self.deviation + self.mean

    # --- what networks see, and what their words mean ---

    def seen(self, frames: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 2D+1"]:
        """Of each frame, of which the first is the nothing before all: itself, its change, whether it is one at all."""
        there, change = torch.ones_like(frames[..., :1]), torch.zeros_like(frames)
        there[:, :1] = 0
        change[:, 2:] = (frames[:, 2:] - frames[:, 1:-1]) / self.change
        return torch.cat([frames, change, there], -1)

    def told(
        self, seen: Float[Tensor, "B T 2D+1"], words: Float[Tensor, "B T 2D"]
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """(mean, log deviation) of the frames after those seen, by a network's words (δ, log σ)."""
        last, change, there = seen.split([self.width, self.width, 1], -1)
        step, log_size = words.chunk(2, -1)
        unit = torch.where(there > 0, self.change, torch.ones_like(self.change))
        least = (self.least / self.deviation).log()
        return (1 - self.pull) * last + unit * (self.share * change + step), torch.maximum(log_size + unit.log(), least)

    def next_frame(
        self,
        seen: Float[Tensor, "B T 2D+1"],
        words: Float[Tensor, "B T 2D"],
        generator: torch.Generator | None,
        temperature: float,
    ) -> Float[Tensor, "B D"]:
        """The one after the last of those seen."""
        mean, log_size = (x[:, -1] for x in self.told(seen, words))
        if generator is None:
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + temperature * log_size.exp() * noise


def silent(layer: nn.Module) -> nn.Module:
    """A last layer that says nothing yet: frames go on as they did."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def bounded(seen: Tensor) -> Tensor:
    """What networks see of numbers that may be unlike any learnt from."""
    return FAR * torch.tanh(seen / FAR)


def before(y: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """x_{t−1} of each t."""
    return torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)


def normal_nats(
    y: Float[Tensor, "B T D"], mean: Float[Tensor, "B T D"], log_size: Float[Tensor, "B T D"]
) -> Float[Tensor, "B T"]:
    squares = ((y - mean) * (-log_size).exp()).square()
    return (squares / 2 + log_size + math.log(2 * math.pi) / 2).sum(-1)
