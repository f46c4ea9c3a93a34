"""What models share that go through a picture pixel by pixel, row by row, within a pixel from red to green to blue.

    p(x) = Π_{i,j,c} p(x_ijc | all before it)
A value is zero or one, by one logit, or a level of 256, by a softmax over all of them, which treats levels as unlike as
names. Of a model that knows classes, p(x) = Σ_k p(k) p(x | k), k as often as among the training examples.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli, chosen
from neural3d.priors.base import Exact, PriorConfig

LEVELS = 256
Label = Int[Tensor, "B"] | None  # classes of examples, of a model that knows any


@dataclass(frozen=True)
class PixelConfig(PriorConfig):
    """Settings of models of pixels in turn."""

    batch: Count = 16
    values: Literal["binary", "levels"] = "binary"  # zeros and ones, or 256 levels
    conditional: bool = False  # learns what each class looks like, of examples with labels


class Walk(Protocol):
    """A picture on its way, with what of it need not be computed anew for each pixel."""

    def logits(self, x: Float[Tensor, "B C H W"], i: int, j: int) -> Float[Tensor, "B C n"]:
        """Of pixel (i, j), where all before are known; asked for each in turn, and once for each colour."""


class PixelPrior(Exact, Likelihood, Sampling):
    """See the module's docstring. Networks see values from −1 to 1."""

    wants = "images"
    shares: Float[Tensor, "classes"]

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        self.colours, self.height, self.width = scene.shape
        self.choices = 1 if config.values == "binary" else LEVELS  # logits of a value
        if config.conditional:
            if not scene.classes:
                raise UserError(f"{scene.path}: its examples have no labels; leave out conditional=true.")
            self.classes = scene.classes
            self.register_buffer("shares", torch.full((len(scene.classes),), 1 / len(scene.classes)))

    @classmethod
    def prepared(cls, scene: Examples, config: Any) -> Examples:
        scene = super().prepared(scene, config)
        return cls.as_binary(scene) if config.values == "binary" else scene

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        if self.config.conditional:
            counts = torch.bincount(source.labels, minlength=len(self.shares))
            self.shares.copy_(counts / counts.sum())
        return source

    @abc.abstractmethod
    def logits(self, x: Float[Tensor, "B C H W"], label: Label) -> Float[Tensor, "B C n H W"]:
        """n: one of being 1, or one for each level."""

    @abc.abstractmethod
    def walk(self, count: int, label: Label) -> Walk: ...

    def log_p(self, x: Float[Tensor, "B C H W"], label: Label) -> Float[Tensor, "B"]:
        logits = self.logits(2 * x - 1, label)
        if self.choices == 1:
            return bernoulli(logits[:, :, 0], x).flatten(1).sum(1)
        level = (x * (LEVELS - 1)).round().long()
        return -cross_entropy(logits.movedim(2, 1), level, reduction="none").flatten(1).sum(1)

    def log_likelihood(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
        if not self.config.conditional:
            return self.log_p(x, None)
        known = self.shares.nonzero()[:, 0]
        each = [self.log_p(x, k.expand(len(x))) + self.shares[k].log() for k in known]
        return torch.stack(each).logsumexp(0)

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        nats = -self.log_p(batch.x, batch.label if self.config.conditional else None).mean()
        return {"nats": nats}, {"nats": nats.detach()}

    @torch.no_grad()
    def draw(
        self, count: int, generator: torch.Generator, temperature: float = 1.0, label: int | None = None
    ) -> Float[Tensor, "count C H W"]:
        """label: the class of all; None: of any, as often as among the training examples."""
        of_each = None
        if self.config.conditional:
            shares = self.shares if label is None else torch.eye(len(self.shares)).to(self.shares)[label]
            of_each = torch.multinomial(shares, count, replacement=True, generator=generator)
        x = torch.zeros(count, self.colours, self.height, self.width, device=next(self.parameters()).device)
        walk = self.walk(count, of_each)
        for i in range(self.height):
            for j in range(self.width):
                for c in range(self.colours):
                    x[:, c, i, j] = self.value(walk.logits(2 * x - 1, i, j)[:, c], generator, temperature)
        return x

    def value(self, logits: Float[Tensor, "B n"], generator: torch.Generator, temperature: float) -> Float[Tensor, "B"]:
        if self.choices == 1:
            return chosen(logits[:, 0], generator, temperature)
        probability = torch.softmax(logits / max(temperature, 1e-6), -1)
        return torch.multinomial(probability, 1, generator=generator)[:, 0] / (LEVELS - 1)


class Masked(nn.Conv2d):
    """A convolution along a row, its last column the pixel itself, of which channels see the colours before their own.

    of_inputs, of_outputs: to which colour each channel belongs. own: they see their own colour too, which all but the
    first layer may: there it is the value that is to be told.
    """

    mask: Float[Tensor, "out in 1 columns"]

    def __init__(
        self, of_inputs: Int[Tensor, "in"], of_outputs: Int[Tensor, "out"], columns: int = 1, own: bool = True
    ):
        super().__init__(len(of_inputs), len(of_outputs), (1, columns))
        mask = torch.ones_like(self.weight)
        mask[:, :, 0, -1] = (of_outputs[:, None] >= of_inputs + (0 if own else 1)).to(mask)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out H W"]:
        return conv2d(x, self.weight * self.mask, self.bias)


def colours_of(channels: int, colours: int) -> Int[Tensor, "channels"]:
    """Equal shares, as far as that goes: red's channels first."""
    return torch.arange(channels) * colours // channels


class Head(nn.Module):
    """From features to logits, each of its colour: ReLU, 1×1, ReLU, 1×1."""

    def __init__(self, width: int, colours: int, choices: int):
        super().__init__()
        of_hidden, of_logits = colours_of(width, colours), colours_of(colours * choices, colours)
        self.hidden, self.last = Masked(of_hidden, of_hidden), Masked(of_hidden, of_logits)
        self.colours = colours

    def forward(self, h: Float[Tensor, "B width H W"]) -> Float[Tensor, "B C n H W"]:
        return self.last(torch.relu(self.hidden(torch.relu(h)))).unflatten(1, (self.colours, -1))
