"""`pca`: principal components, and the normal distribution that goes with them.

Tipping & Bishop: "Probabilistic Principal Component Analysis", J. R. Stat. Soc. B 1999. With the sample covariance's
eigenvalues λ_1 ≥ λ_2 ≥ … and axes U, x = μ + W z + ε, ε ~ N(0, σ² I), is likeliest for
    σ² = mean of λ_j, j > L,      W = U_L (Λ_L − σ² I)^½                            (eqs. 7 and 8)
    −2 log p(x) = D log 2π + Σ_{j≤L} log λ_j + (D − L) log σ² + Σ_{j≤L} c_j²/λ_j + (‖x − μ‖² − ‖c‖²)/σ²,  c = Uᵀ(x − μ)
It is there at once: the trainer's one step only measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Width
from neural3d.errors import UserError
from neural3d.examples.examples import Examples, ExampleSource
from neural3d.methods.abilities import Coding, Sampling
from neural3d.methods.players import Player
from neural3d.priors.base import PriorConfig
from neural3d.priors.density import Density

LEAST = 1e-8  # variance


@dataclass(frozen=True)
class PcaConfig(PriorConfig):
    """Settings of `pca`; of the shared ones none matters."""

    horizon: Count = 1
    latent: Width = 32  # L: components


class Pca(Density, Sampling, Coding):
    """See the module's docstring."""

    Config = PcaConfig
    axes: Float[Tensor, "L D"]
    variances: Float[Tensor, "L"]

    def __init__(self, config: PcaConfig, scene: Examples):
        super().__init__(config, scene)
        count = min(config.latent, self.length, scene.counts["train"] - 1)
        if count < 1:
            raise UserError(f"{scene.path}: principal components take two examples or more.")
        self.middle = nn.Parameter(torch.zeros(self.length))  # μ
        self.noise = nn.Parameter(torch.ones(()))  # σ²
        self.register_buffer("axes", torch.zeros(count, self.length))
        self.register_buffer("variances", torch.ones(count))

    def players(self) -> list[Player]:
        return [Player([dict(params=list(self.parameters()), lr=0.0, lr_final=0.0)], self.loss)]

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        generator = torch.Generator(device).manual_seed(0)
        y = self.continuous(source.values.float() * source.scale, generator).flatten(1).double()
        middle = y.mean(0)
        if len(y) > self.length:  # by the covariance, which is smaller
            variances, columns = torch.linalg.eigh((y - middle).T @ (y - middle) / len(y))
            variances, axes = variances.flip(0), columns.T.flip(0)
        else:
            _, size, axes = torch.linalg.svd(y - middle, full_matrices=False)
            variances = size.square() / len(y)
        count = len(self.axes)
        rest = (y - middle).square().sum() / len(y) - variances[:count].sum()
        with torch.no_grad():
            self.middle.copy_(middle)
            self.axes.copy_(axes[:count])
            self.variances.copy_(variances[:count].clamp(min=LEAST))
            self.noise.fill_(max(LEAST, float(rest) / max(1, self.length - count)))
        return source

    def log_density(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        offset = y.flatten(1) - self.middle
        c = offset @ self.axes.T
        left = self.length - len(self.axes)
        beside = (offset.square().sum(1) - c.square().sum(1)) / self.noise
        squares = (c.square() / self.variances).sum(1) + beside
        logs = self.length * math.log(2 * math.pi) + self.variances.log().sum() + left * self.noise.log()
        return -(logs + squares) / 2

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """temperature: of all deviations."""
        device = self.axes.device
        z = torch.randn(count, len(self.axes), generator=generator, device=device)
        noise = torch.randn(count, self.length, generator=generator, device=device) * self.noise.sqrt()
        along = z * (self.variances - self.noise).clamp(min=0).sqrt()
        y = self.middle + temperature * (along @ self.axes + noise)
        return self.examples(y.view(count, *self.scene.shape))

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B L"]:
        """Coordinates along the axes."""
        return (self._middling(x).flatten(1) - self.middle) @ self.axes.T

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "B L"]) -> Float[Tensor, "B ..."]:
        y = (self.middle + z @ self.axes).view(len(z), *self.scene.shape)
        return (y * 256 - 0.5) / 255 if self.pictures else self.examples(y)

    def _middling(self, x: Tensor) -> Tensor:
        """y of examples, pictures in the middle of their levels."""
        return (x * 255 + 0.5) / 256 if self.pictures else (x - self.mean) / self.deviation
