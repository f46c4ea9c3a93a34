"""`ae`: autoencoders, plain and denoising.

Hinton & Salakhutdinov, Science 2006: z = f(x), x ≈ g(z), by the least mean of ‖x − g(f(x))‖². A code of fewer numbers
than x has must keep what matters; of more it may copy x, unless it sees x spoilt: Vincent et al., "Extracting and
Composing Robust Features with Denoising Autoencoders", ICML 2008, learn x from x̃ = x with noise added, or with a share
of its values set to 0. Without hidden layers the best linear code is that of `pca` (Baldi & Hornik 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Layers, Width
from neural3d.examples.examples import ExampleBatch, Examples
from neural3d.methods.abilities import Denoising
from neural3d.priors.base import Coded, PriorConfig
from neural3d.priors.upsampling import Decoder, Dense, Encoder, Upsampling


@dataclass(frozen=True)
class AeConfig(PriorConfig):
    """Settings of `ae`."""

    horizon: Count = 10_000
    latent: Width = 32  # numbers of a code
    noise: float = 0.0  # deviation of the noise that is added to what the encoder sees, of values 0 to 1
    masked: float = 0.0  # share of the values that the encoder sees as 0

    coder: Literal["dense", "convolutional"] = "dense"
    width: Width = 256  # of dense layers
    layers: Layers = 1  # of these, each way; 0: a linear code
    channels: Width = 32  # of the first convolution; doubled at each halving
    depth: Layers = 2  # how often convolutions halve the picture
    upsampling: Upsampling = "nearest"  # see neural3d/priors/upsampling.py


class Ae(Coded, Denoising):
    """See the module's docstring."""

    Config = AeConfig

    def __init__(self, config: AeConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        if c.coder == "dense":
            self.encoder: nn.Module = Dense(self.length, c.latent, c.width, c.layers)
            self.decoder: nn.Module = Dense(c.latent, self.length, c.width, c.layers)
        else:
            self.encoder = Encoder(scene.shape, c.latent, c.channels, c.depth, pool=c.upsampling == "unpooling")
            self.decoder = Decoder(scene.shape, c.latent, scene.shape[0], c.channels, c.depth, c.upsampling)

    def _through(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """g(f(x)); with unpooling the decoder is also told where maxima were."""
        if self.config.coder == "dense":
            return self.decoder(self.encoder(x)).view_as(x)
        return self.decoder(*self.encoder(x))

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        seen = self._spoilt(batch.x, generator)
        error = (self._through(seen) - batch.x).square().mean()
        return {"error": error}, {"error": error.detach()}

    def _spoilt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        c = self.config
        if c.noise:
            x = x + c.noise * torch.randn(x.shape, generator=generator, device=x.device)
        if c.masked:
            x = x * (torch.rand(x.shape, generator=generator, device=x.device) >= c.masked)
        return x

    @torch.no_grad()
    def denoise(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        return self._through(x)

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B L"]:
        return self.encoder(x) if self.config.coder == "dense" else self.encoder(x)[0]

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B ..."]:
        """Of a code alone, so not with unpooling, which raises."""
        if self.config.upsampling == "unpooling" and self.config.coder == "convolutional":
            raise ValueError("with upsampling=unpooling a code is not enough to make a picture of")
        return self.decoder(z).view(len(z), *self.scene.shape)
