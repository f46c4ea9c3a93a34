"""Variational autoencoders: what `vae` and `beta-vae` share.

Kingma & Welling: "Auto-Encoding Variational Bayes", ICLR 2014; Rezende, Mohamed, Wierstra, ICML 2014. With a code z of
known distribution p(z), a decoder p(x|z) and an encoder q(z|x) near p(z|x),
    log p(x) ≥ E_q[log p(x|z)] − KL(q(z|x) ‖ p(z))  =  ELBO,                                                      (3)
and with K codes drawn from q (Burda, Grosse, Salakhutdinov, ICLR 2016)
    log p(x) ≥ E log (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x)  ≥  ELBO.                                                (8)
Codes are normal, z = μ + σ ε, or `latent` categories of `classes` each, drawn by the concrete distribution while
training (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017), whose KL is that of the categories.

Decoders: bernoulli, of images binarised once; gaussian, N(x; μ(z), σ²) with one σ that is learnt, of images of 256
levels with the noise of a level added; logistic, the logistic distribution cut into 256 levels, one scale for each
channel (Kingma et al. 2016, appendix).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot, softplus

from neural3d.config import Count, Layers, Width
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Guiding, Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli
from neural3d.priors.base import Coded, PriorConfig
from neural3d.priors.upsampling import Decoder, Dense, Encoder, Upsampling

TEMPERATURE = 0.66  # of the concrete distribution
LEVELS = 256


@dataclass(frozen=True)
class VariationalConfig(PriorConfig):
    """Settings of `vae`."""

    horizon: Count = 20_000
    lr: float = 3e-3
    lr_final: float = 1e-4
    latent: Width = 50  # numbers, or categories, of a code
    latents: Literal["normal", "categorical"] = "normal"
    classes: Width = 10  # of each category
    decoder: Literal["bernoulli", "gaussian", "logistic"] = "bernoulli"  # what is learnt of pictures: see the module

    coder: Literal["dense", "convolutional"] = "dense"
    width: Width = 200  # of dense layers
    layers: Layers = 2  # of these, each way
    channels: Width = 32  # of the first convolution; doubled at each halving
    depth: Layers = 2  # how often convolutions halve the picture
    upsampling: Upsampling = "transposed"  # see neural3d/priors/upsampling.py; unpooling is for ae alone

    samples: Count = 50  # K: codes for each example in eval; 1: the ELBO


class Variational(Coded, Likelihood, Guiding, Sampling):
    """See the module's docstring."""

    likelihood = "lower bound"

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        c = config
        if c.upsampling == "unpooling":
            raise ValueError("upsampling=unpooling needs the maxima of a picture, which a code does not hold")
        each = 2 * c.latent if c.latents == "normal" else c.latent * c.classes
        length = c.latent if c.latents == "normal" else c.latent * c.classes
        if c.coder == "dense":
            self.encoder: nn.Module = Dense(self.length, each, c.width, c.layers)
            self.decoder: nn.Module = Dense(length, self.length, c.width, c.layers)
        else:
            self.encoder = Encoder(scene.shape, each, c.channels, c.depth)
            self.decoder = Decoder(scene.shape, length, scene.shape[0], c.channels, c.depth, c.upsampling)
        self.log_scale = nn.Parameter(torch.full((scene.shape[0] if len(scene.shape) == 3 else 1,), -1.0))

    @classmethod
    def prepared(cls, scene: Examples, config: Any) -> Examples:
        return cls.as_binary(scene) if config.decoder == "bernoulli" else super().prepared(scene, config)

    # --- codes ---

    def posterior(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B each"]:
        """What q(z|x) is made of: μ and log σ², or the logarithms of categories' chances."""
        told = self.encoder(x)
        return told[0] if isinstance(told, tuple) else told

    def drawn(self, posterior: Tensor, generator: torch.Generator, soft: bool = True) -> tuple[Tensor, Tensor]:
        """(codes z ~ q, log q(z|x) − log p(z) of these). soft: of categories, by the concrete distribution."""
        c = self.config
        if c.latents == "normal":
            mean, log_var = posterior.chunk(2, -1)
            noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
            z = mean + (log_var / 2).exp() * noise
            return z, ((z.square() - noise.square() - log_var) / 2).sum(-1)
        logs = posterior.view(*posterior.shape[:-1], c.latent, c.classes).log_softmax(-1)
        uniform = torch.rand(logs.shape, generator=generator, device=logs.device).clamp(1e-9, 1 - 1e-7)
        gumbel = logs - (-uniform.log()).log()
        hard = one_hot(gumbel.argmax(-1), c.classes).to(logs)
        ratio = (hard * (logs + math.log(c.classes))).sum((-1, -2))
        z = (gumbel / TEMPERATURE).softmax(-1) if soft else hard
        return z.flatten(-2), ratio

    def divergence(self, posterior: Float[Tensor, "B each"]) -> Float[Tensor, "B"]:
        """KL(q(z|x) ‖ p(z)): p(z) = N(0, 1), or all classes alike."""
        c = self.config
        if c.latents == "normal":
            mean, log_var = posterior.chunk(2, -1)
            return (mean.square() + log_var.exp() - 1 - log_var).sum(-1) / 2
        logs = posterior.view(-1, c.latent, c.classes).log_softmax(-1)
        return (logs.exp() * (logs + math.log(c.classes))).sum((-1, -2))

    # --- pictures ---

    def fit(self, z: Float[Tensor, "N L"], x: Float[Tensor, "N ..."], generator: torch.Generator) -> Float[Tensor, "N"]:
        """log p(x|z); with a normal decoder of x with the noise of a level, and per level."""
        told = self.decoder(z).view(len(z), *self.scene.shape)
        kind = self.config.decoder
        if kind == "bernoulli":
            return bernoulli(told, x).flatten(1).sum(1)
        scale = self.log_scale.view(-1, *[1] * (x.ndim - 2))
        if kind == "logistic":
            return discretised_logistic(x, torch.sigmoid(told), scale - 2).flatten(1).sum(1)
        per_level = 0.0
        if self.scene.kind == "images":
            noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x, per_level = (x * (LEVELS - 1) + noise) / LEVELS, self.length * math.log(LEVELS)
        log_p = -((x - told) / scale.exp()).square() / 2 - scale - math.log(2 * math.pi) / 2
        return log_p.flatten(1).sum(1) - per_level

    def mean_of(self, z: Float[Tensor, "N L"]) -> Float[Tensor, "N ..."]:
        """What the decoder holds for likeliest, values from 0 to 1 of pictures."""
        told = self.decoder(z).view(len(z), *self.scene.shape)
        return told if self.config.decoder == "gaussian" else torch.sigmoid(told)

    def terms(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """(−log p(x|z) for a z ~ q, KL), each (B,)."""
        posterior = self.posterior(x)
        z, _ = self.drawn(posterior, generator)
        return -self.fit(z, x, generator), self.divergence(posterior)

    def energy(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """−ELBO."""
        misfit, divergence = self.terms(x, generator)
        return misfit + divergence

    @torch.no_grad()
    def score(self, x: Float[Tensor, "B ..."], generator: torch.Generator) -> Float[Tensor, "B"]:
        """The bound by `samples` codes, (8) above."""
        posterior = self.posterior(x)
        logs = []
        for _ in range(self.config.samples):
            z, ratio = self.drawn(posterior, generator, soft=False)
            logs.append(self.fit(z, x, generator) - ratio)
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """The decoder's means. temperature: of the codes' deviation; of categories, there is none."""
        c, device = self.config, self.log_scale.device
        if c.latents == "normal":
            z = temperature * torch.randn(count, c.latent, generator=generator, device=device)
        else:
            classes = torch.randint(c.classes, (count, c.latent), generator=generator, device=device)
            z = one_hot(classes, c.classes).float().flatten(1)
        return self.mean_of(z)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B L"]:
        """The likeliest code: μ, or the chances of the classes."""
        c, posterior = self.config, self.posterior(x)
        if c.latents == "normal":
            return posterior[:, : c.latent]
        return posterior.view(-1, c.latent, c.classes).softmax(-1).flatten(1)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B ..."]:
        return self.mean_of(z)


def discretised_logistic(
    x: Float[Tensor, "..."], mean: Float[Tensor, "..."], log_scale: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """log of the share of a logistic distribution that falls on x's level, of 256 from 0 to 1; the ends get the tails.

    With a = (x + ½δ − μ)/s and b = (x − ½δ − μ)/s: log(σ(a) − σ(b)), as log σ(a) + log σ(−b) + log(1 − e^(b − a)).
    """
    half = 0.5 / (LEVELS - 1)
    scale = log_scale.exp()
    a, b = (x + half - mean) / scale, (x - half - mean) / scale
    middle = logsigmoid(a) + logsigmoid(-b) + torch.log(-torch.expm1(b - a))
    return torch.where(x < half, -softplus(-a), torch.where(x > 1 - half, -softplus(b), middle))
