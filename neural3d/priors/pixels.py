"""What models share that go through a picture pixel by pixel, row by row, within a pixel from red to green to blue.

    p(x) = Π_{i,j,c} p(x_ijc | all before it)
A value is zero or one, by one logit, or a level of 256, by a softmax over all of them, which treats levels as unlike as
names. Of a model that knows classes, p(x) = Σ_k p(k) p(x | k), k as often as among the training examples.

What is missing of a picture is drawn given what comes before it; of several such answers, as they grow, those go on to
which what is known behind was likelier: a particle filter (Gordon, Salmond, Smith 1993), right with many particles.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, logsigmoid

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Completing, Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli, chosen
from neural3d.priors.base import Exact, PriorConfig

LEVELS = 256
PARTICLES = 4  # answers that grow side by side
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

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        """With these of the pictures in place of all, some of them several times; between two rows of pixels."""


class PixelPrior(Exact, Likelihood, Sampling, Completing):
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

    @torch.no_grad()
    def complete(
        self,
        x: Float[Tensor, "B C H W"],
        known: Bool[Tensor, "B C H W"],
        generator: torch.Generator,
        pull: Float[Tensor, "B"] | float = 0.0,
    ) -> Float[Tensor, "B C H W"]:
        """As `Completing.complete`. pull: how strongly values keep to what x holds where it is not known, by the factor
        exp(−pull (value − x)² / 2); 0: x says nothing there.

        With q(v) ∝ p(v | before) exp(−pull (v − x)² / 2), what is drawn from q weighs by its sum, and what is known by
        p(v | before); particles are drawn anew between rows where their weights have become uneven.
        """
        if self.config.conditional:
            raise UserError(f"{self.scene.path}: what is missing is filled in by priors without conditional=true.")
        count, k = len(x), PARTICLES
        x, known = x.repeat_interleave(k, 0), known.repeat_interleave(k, 0)
        pulls = torch.as_tensor(pull, device=x.device).expand(count).repeat_interleave(k)[:, None]
        levels = torch.linspace(0, 1, max(2, self.choices), device=x.device)
        guess, x = x.clone(), torch.where(known, x, 0)
        log_weight = x.new_zeros(count, k)
        walk = self.walk(count * k, None)
        for i in range(self.height):
            for j in range(self.width):
                for c in range(self.colours):
                    here = known[:, c, i, j]
                    log_p = log_chances(walk.logits(2 * x - 1, i, j)[:, c])
                    at = (x[:, c, i, j] * (len(levels) - 1)).round().long()
                    log_q = log_p - pulls / 2 * (levels - guess[:, c, i, j, None]).square()
                    drawn = torch.multinomial(torch.softmax(log_q, -1), 1, generator=generator)[:, 0]
                    weighs = torch.where(here, log_p.gather(1, at[:, None])[:, 0], log_q.logsumexp(-1))
                    log_weight += weighs.view(count, k)
                    x[:, c, i, j] = torch.where(here, x[:, c, i, j], levels[drawn])
            rows, log_weight = drawn_anew(log_weight, generator)
            x = x[rows]
            walk.go_on(rows)
        best = torch.multinomial(torch.softmax(log_weight, -1), 1, generator=generator)
        return x.view(count, k, *x.shape[1:])[torch.arange(count), best[:, 0]]

    def value(self, logits: Float[Tensor, "B n"], generator: torch.Generator, temperature: float) -> Float[Tensor, "B"]:
        if self.choices == 1:
            return chosen(logits[:, 0], generator, temperature)
        probability = torch.softmax(logits / max(temperature, 1e-6), -1)
        return torch.multinomial(probability, 1, generator=generator)[:, 0] / (LEVELS - 1)


def log_chances(logits: Float[Tensor, "B n"]) -> Float[Tensor, "B levels"]:
    """log p of each level; of one logit, of zero and one."""
    return torch.log_softmax(logits, -1) if logits.shape[1] > 1 else logsigmoid(torch.cat([-logits, logits], 1))


def drawn_anew(
    log_weight: Float[Tensor, "B K"], generator: torch.Generator
) -> tuple[Int[Tensor, "B*K"], Float[Tensor, "B K"]]:
    """(which of all particles go on, their weights): the same where 1 / Σ w² > K / 2, else so often as they weigh."""
    count, k = log_weight.shape
    weight = torch.softmax(log_weight, -1)
    uneven = 1 / weight.square().sum(1, keepdim=True) <= k / 2
    offset = torch.rand(count, 1, generator=generator, device=weight.device)
    places = (torch.arange(k, device=weight.device) + offset) / k
    chosen_ = torch.searchsorted(weight.cumsum(1), places).clamp(max=k - 1)
    rows = torch.where(uneven, chosen_, torch.arange(k, device=weight.device))
    rows = rows + k * torch.arange(count, device=weight.device)[:, None]
    return rows.flatten(), torch.where(uneven, 0, log_weight)


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
