"""What all priors share: what they learn from, how they learn, and what they are asked for."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource, as_numbers
from neural3d.methods.abilities import Coding, Teaching
from neural3d.methods.base import Method
from neural3d.methods.players import Player
from neural3d.priors.optimisers import Name, optimiser

if TYPE_CHECKING:
    from jaxtyping import Float

AT_ONCE = 500  # examples that are coded together


@dataclass(frozen=True)
class PriorConfig:
    """Settings of every prior."""

    horizon: Count = 10_000  # step at which learning rates reach their final value
    batch: Count = 100  # examples per step
    patch: int = 0  # learn from square pieces of so many pixels of the pictures of a folder; 0: from whole ones
    optimizer: Name = "adam"  # see neural3d/priors/optimisers.py; lbfgs: where all examples are one batch
    momentum: float = 0.9  # of momentum and nesterov
    decay: float = 0.0  # of adamw: share by which weights shrink at each step, over the rate
    lr: float = 1e-3
    lr_final: float = 1e-5


class Prior(Method):
    """A model of how likely examples are. What it can do it says by `Likelihood` and `Sampling` (methods.abilities)."""

    takes = Examples
    binary: ClassVar[bool] = False  # learns from zeros and ones alone: images are binarised once
    pairs: ClassVar[bool] = False  # learns from NAME_a.png and NAME_b.png, one behind the other in the channels
    wants: ClassVar[Literal["images", "numbers", "any"]] = "any"
    sequences: ClassVar[bool] = False  # of motion clips it learns windows, else poses

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        self.length = scene.length

    @classmethod
    def prepared(cls, scene: Examples, config: Any) -> Examples:
        if scene.kind != cls.wants and cls.wants != "any":
            raise UserError(f"{scene.path}: holds {scene.kind}, but this prior learns from {cls.wants}.")
        return cls.as_binary(scene) if cls.binary else scene

    @staticmethod
    def as_binary(scene: Examples) -> Examples:
        if scene.kind != "images":
            raise UserError(f"{scene.path}: holds numbers, but this prior learns from pictures, as zeros and ones.")
        return scene.binarised()

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        return ExampleSource(scene, device)

    @property
    def batch_size(self) -> int:
        return self.config.batch

    def players(self) -> list[Player]:
        c = self.config
        group = dict(params=list(self.parameters()), lr=c.lr, lr_final=c.lr_final)
        return [Player([group], self.loss, optimizer=optimiser(c.optimizer, c.momentum, c.decay))]

    @abc.abstractmethod
    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `methods.players.Loss`."""


class Exact(Prior):
    """A prior whose likelihood is a formula, and is what it learns by: the mean of −log p(x), in nats."""

    likelihood = "exact"

    @abc.abstractmethod
    def log_likelihood(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        """log p(x) in nats, differentiable."""

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        nats = -self.log_likelihood(batch.x).mean()
        return {"nats": nats}, {"nats": nats.detach()}

    def energy(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """As `Guiding.energy`."""
        return -self.log_likelihood(x)

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """As `Likelihood.score`."""
        return self.log_likelihood(x)


class Coded(Prior, Coding, Teaching):
    """A prior whose codes are data for another."""

    def lessons(self, data: Callable[[], Any]) -> dict[str, np.ndarray]:
        """As `Teaching.lessons`: the codes of all examples."""
        examples = type(self).prepared(data(), self.config)
        assert examples.values is not None
        device, scale = next(self.parameters()).device, as_numbers(examples)
        return {
            split: torch.cat([self.encode(x.to(device).float() * scale) for x in values.split(AT_ONCE)]).cpu().numpy()
            for split, values in examples.values.items()
        }
