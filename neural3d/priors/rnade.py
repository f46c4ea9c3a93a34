"""Real values in order, each a mixture of Gaussians given by those before it: NADE for numbers.

Uria, Murray, Larochelle: "RNADE: The Real-Valued Neural Autoregressive Density-Estimator", NeurIPS 2013:
    a_1 = c,   a_{d+1} = a_d + y_d W_d,   h_d = max(0, ρ_d a_d)
    p(y_d | y_<d) = Σ_k α_dk N(y_d; μ_dk, σ_dk²),   α = softmax(V^α h + b^α), μ = V^μ h + b^μ, σ = exp(V^σ h + b^σ)
ρ_d keeps the units of later values, sums of more terms, in the range of the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Sampling
from neural3d.priors.base import PriorConfig
from neural3d.priors.density import Density


@dataclass(frozen=True)
class RnadeConfig(PriorConfig):
    """Settings of `rnade`."""

    horizon: Count = 10_000
    width: Width = 50  # hidden units
    components: Count = 10  # Gaussians of each value


class Rnade(Density, Sampling):
    """See the module's docstring."""

    Config = RnadeConfig

    def __init__(self, config: RnadeConfig, scene: Examples):
        super().__init__(config, scene)
        length, width = self.length, config.width
        self.w = nn.Parameter(torch.randn(length, width) * length**-0.5)
        self.c = nn.Parameter(torch.randn(width))
        self.rho = nn.Parameter(torch.ones(length))
        self.v = nn.Parameter(torch.randn(length, width, 3 * config.components) * 0.1 * width**-0.5)
        b = torch.zeros(length, 3, config.components)
        b[:, 1] = torch.linspace(-1, 1, config.components) if config.components > 1 else 0.0
        self.b = nn.Parameter(b.flatten(1))

    def sums(self, y: Float[Tensor, "B D"]) -> Float[Tensor, "B D H"]:
        """a of each value, of those before it."""
        return self.c + pad((y[:, :, None] * self.w)[:, :-1], (0, 0, 1, 0)).cumsum(1)

    def mixtures(self, a: Float[Tensor, "B d H"], d: slice) -> tuple[Tensor, ...]:
        """(log α up to a constant, μ, log σ), each (B, d, K), of the values d."""
        h = torch.relu(self.rho[d, None] * a)
        return (torch.einsum("bdh,dhk->bdk", h, self.v[d]) + self.b[d]).chunk(3, -1)

    def log_density(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        y = y.flatten(1)
        log_alpha, mean, log_sigma = self.mixtures(self.sums(y), slice(None))
        z = (y[:, :, None] - mean) * torch.exp(-log_sigma)
        each = log_alpha.log_softmax(-1) - log_sigma - z**2 / 2 - math.log(2 * math.pi) / 2
        return each.logsumexp(-1).sum(1)

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """temperature: of α, and of the variances."""
        a = self.c.expand(count, 1, -1)
        y = []
        for d in range(self.length):
            log_alpha, mean, log_sigma = (x[:, 0] for x in self.mixtures(a, slice(d, d + 1)))
            alpha = torch.softmax(log_alpha / max(temperature, 1e-6), -1)
            k = torch.multinomial(alpha, 1, generator=generator)
            noise = torch.randn(count, 1, generator=generator, device=a.device)
            y.append(mean.gather(1, k) + math.sqrt(temperature) * log_sigma.gather(1, k).exp() * noise)
            a = a + y[-1][:, None] * self.w[d]
        return self.examples(torch.cat(y, 1).view(count, *self.scene.shape))
