"""`m2`: codes of all that a class does not tell, of examples of which few have labels.

Kingma, Rezende, Mohamed, Welling: "Semi-supervised Learning with Deep Generative Models", NIPS 2014, their model M2: an
example x is made of a class y, each as likely, and of z ~ N(0, 1) that knows nothing of it, p(x | y, z); q(y | x) tells
the class, q(z | x, y) the code.
    log p(x, y) ≥ E_q(z|x,y) log p(x | y, z) + log p(y) − KL(q(z | x, y) ‖ p(z)) = −L(x, y)                        (6)
    log p(x) ≥ Σ_y q(y | x) (−L(x, y) − log q(y | x)) = −U(x)                                                      (7)
    loss = mean U of examples without + mean (L(x, y) − α log q(y | x)) of those with a label                      (9)
What z nevertheless knows of the class is held down as by Louizos et al., "The Variational Fair Autoencoder", ICLR 2016:
    loss += λ mean_y ‖mean ψ(z) of class y − mean ψ(z) of all‖²,   ψ(z) = √(2/D) cos(W z + b)           (their eq. 9)
with W normal and b uniform, drawn at each step: how far distributions are apart by the kernel e^(−‖z − z'‖²/2). Classes
are those that labels tell, else the likeliest ones.
Each batch is half of examples with labels, half of any without theirs; both halves weigh the same, where the paper
weighs them by how many there are. Eval's bound is that of several codes, summed over all classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from neural3d.config import Count
from neural3d.errors import UserError
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.methods.abilities import Classifying, Labelled
from neural3d.priors.upsampling import Dense
from neural3d.priors.variational import Variational, VariationalConfig

FEATURES = 500  # of ψ


@dataclass(frozen=True)
class M2Config(VariationalConfig):
    """Settings of `m2`; its coders are dense, its codes normal."""

    horizon: Count = 10_000
    lr: float = 1e-3
    labelled: Count = 1000  # how many labels it sees, as many of each class, the first ones
    label_weight: float = 25.0  # α
    independence: float = 300.0  # λ; 0: M2 as it is
    samples: Count = 10


class M2(Variational, Labelled, Classifying):
    """See the module's docstring. A code is z with the chances of the classes behind."""

    Config = M2Config

    def __init__(self, config: M2Config, scene: Examples):
        super().__init__(config, scene)
        c, self.classes = config, scene.classes
        if c.coder != "dense" or c.latents != "normal":
            raise ValueError("m2 has coder=dense and latents=normal alone")
        count = len(self.classes)
        self.encoder = Dense(self.length + count, 2 * c.latent, c.width, c.layers)
        self.decoder = Dense(c.latent + count, self.length, c.width, c.layers)
        self.classifier = Dense(self.length, count, c.width, c.layers)

    @classmethod
    def prepared(cls, scene: Examples, config: M2Config) -> Examples:
        if len(scene.classes) < 2:
            raise UserError(f"{scene.path}: its examples have no labels of two classes or more, which m2 learns from.")
        return super().prepared(scene, config)

    def source(self, scene: Examples, device: torch.device) -> HalfLabelled:
        return HalfLabelled(scene, device, max(1, self.config.labelled // len(self.classes)))

    def bound(
        self, x: Float[Tensor, "B ..."], y: Float[Tensor, "B K"], generator: torch.Generator, own: bool = False
    ) -> Float[Tensor, "B"]:
        """−L(x, y) by one code of each, y with a 1 for its class. own: with log q / p of that code instead of KL."""
        posterior = self.encoder(torch.cat([x.flatten(1), y], 1))
        z, ratio = self.drawn(posterior, generator)
        beside = ratio if own else self.divergence(posterior)
        return self.fit(torch.cat([z, y], 1), x, generator) - beside - math.log(len(self.classes))

    def of_every_class(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator, own: bool = False
    ) -> Float[Tensor, "B K"]:
        count = len(self.classes)
        y = torch.eye(count, device=x.device, dtype=x.dtype).repeat(len(x), 1)
        return self.bound(x.repeat_interleave(count, 0), y, generator, own).view(-1, count)

    def energy(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """U(x)"""
        logs = self.classifier(x).log_softmax(1)
        return (logs.exp() * (logs - self.of_every_class(x, generator))).sum(1)

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        known = batch.label >= 0
        x, label = batch.x[known], batch.label[known]
        y = torch.eye(len(self.classes), device=x.device)[label]
        told = self.classifier(x)
        nats = self.energy(batch.x[~known], generator).mean()
        told_of_all = self.classifier(batch.x).detach().argmax(1)
        every = torch.eye(len(self.classes), device=x.device)[torch.where(known, batch.label, told_of_all)]
        drawn, _ = self.drawn(self.encoder(torch.cat([batch.x.flatten(1), every], 1)), generator)
        terms = {
            "unlabelled": nats,
            "labelled": -self.bound(x, y, generator).mean(),
            "classes": self.config.label_weight * cross_entropy(told, label),
            "dependence": self.config.independence * dependence(drawn, every, generator),
        }
        return terms, {"nats": nats.detach(), "accuracy": (told.argmax(1) == label).float().mean()}

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        logs = [self.of_every_class(x, generator, own=True).logsumexp(1) for _ in range(self.config.samples)]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    @torch.no_grad()
    def classify(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        """As `Classifying.classify`: q(y | x)."""
        return self.classifier(x).softmax(1)

    @torch.no_grad()
    def draw(
        self, count: int, generator: torch.Generator, temperature: float = 1.0, label: int | None = None
    ) -> Float[Tensor, "count ..."]:
        """The decoder's means. temperature: deviation of z."""
        classes, device = len(self.classes), self.log_scale.device
        z = temperature * torch.randn(count, self.config.latent, generator=generator, device=device)
        each = torch.randint(classes, (count,), generator=generator, device=device)
        y = torch.eye(classes, device=device)[each if label is None else torch.full_like(each, label)]
        return self.mean_of(torch.cat([z, y], 1))

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B L+K"]:
        """z's mean where the class is the likeliest, and the chances of all."""
        chances = self.classify(x)
        y = torch.eye(len(self.classes), device=x.device, dtype=x.dtype)[chances.argmax(1)]
        mean = self.encoder(torch.cat([x.flatten(1), y], 1))[:, : self.config.latent]
        return torch.cat([mean, chances], 1)


def dependence(z: Float[Tensor, "B L"], y: Float[Tensor, "B K"], generator: torch.Generator) -> Float[Tensor, ""]:
    """The mean over the classes there are of the squared distance that is λ's; y holds a 1 for each one's class."""
    w = torch.randn(z.shape[1], FEATURES, generator=generator, device=z.device)
    b = 2 * math.pi * torch.rand(FEATURES, generator=generator, device=z.device)
    features = math.sqrt(2 / FEATURES) * torch.cos(z @ w + b)
    counts = y.sum(0)
    of_classes = (y.T @ features)[counts > 0] / counts[counts > 0][:, None]
    return (of_classes - features.mean(0)).square().sum(1).mean()


class HalfLabelled(ExampleSource):
    """Batches of which the first half has labels, of the first `each` examples of every class; the rest has none."""

    def __init__(self, examples: Examples, device: torch.device, each: int):
        super().__init__(examples, device)
        of_classes = [(self.labels == k).nonzero()[:each, 0] for k in range(len(examples.classes))]
        self.known = torch.cat(of_classes)

    def draw(self, count: int, generator: torch.Generator) -> ExampleBatch:
        half = max(1, count // 2)
        rest = super().draw(max(1, count - half), generator)
        some = torch.randint(len(self.known), (half,), generator=generator, device=self.values.device)
        chosen = self.known[some]
        x = torch.cat([self.values[chosen].float() * self.scale, rest.x])
        return ExampleBatch(x, torch.cat([self.labels[chosen], torch.full_like(rest.label, -1)]))
