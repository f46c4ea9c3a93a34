"""`srflow`: what a picture twice as large may look like, all answers and their likelihood.

Lugmayr, Danelljan, Van Gool, Timofte: "SRFlow: Learning the Super-Resolution Space with Normalizing Flow", ECCV 2020.
A flow as Glow's of the large picture y, whose layers see features g of the small one, the averages of each 2 × 2:
    each step: ActNorm, a 1 × 1 mixing, an injector (all of y by g), a coupling (half of y by the other half and g)
    log p(y | small) = log N(f(y; g); 0, 1) + log |det ∂f/∂y|                         (eq. 2)
f⁻¹ of normal numbers are answers; of smaller ones (temperature) likelier and smoother ones. It is learnt on small
pictures and serves any size. Here g is a few residual blocks learnt with the flow, not a network trained before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from neural3d.config import Count, Layers, Width
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Likelihood, Upscaling
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Bijection, Injector, Mixing, Squeeze, coupling
from neural3d.priors.coupling_nets import ConvNet
from neural3d.priors.density import LEVELS
from neural3d.priors.flow import Scales, log_normal


@dataclass(frozen=True)
class SrFlowConfig(PriorConfig):
    """Settings of `srflow`."""

    scales: Count = 2  # each of half the size
    steps: Count = 6  # of each scale
    width: Width = 48  # of the couplings' networks
    blocks: Layers = 1  # residual blocks of each
    features: Width = 24  # channels of g
    feature_blocks: Layers = 3  # residual blocks that make them


class SrFlow(Scales, Likelihood, Upscaling):
    """See the module's docstring. Its likelihood is that of the large picture given the small one."""

    Config = SrFlowConfig
    wants = "images"
    factor = 2

    def __init__(self, config: SrFlowConfig, scene: Examples):
        super().__init__(config, scene)
        self.likelihood = "lower bound, by uniform dequantisation; of pictures given their half size"
        net = ConvNet(scene.shape[0], config.features, 2 * config.features, config.feature_blocks)
        torch.nn.init.normal_(net.last.weight, std=0.05)  # couplings start as the identity, features do not
        self.see = net

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c = self.config
        shape = [4 * shape[0], shape[1] // 2, shape[2] // 2]
        layers: list[Bijection] = [Squeeze()]
        for i in range(c.steps):
            injector = Injector(ConvNet(c.features, 2 * shape[0], c.width, c.blocks))
            among = coupling(shape, c.width, c.blocks, "halves", i % 2 == 1, seen=c.features)
            layers += [ActNorm(shape[0]), Mixing(shape[0]), injector, among]
        return layers

    def seen(self, low: Float[Tensor, "B C h w"]) -> list[Float[Tensor, "B S h w"]]:
        """g of each scale."""
        features = [self.see(2 * low - 1)]
        for _ in range(len(self.scales) - 1):
            features.append(avg_pool2d(features[-1], 2))
        return features

    def log_density(self, y: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
        """Given the averages of each 2 × 2 of the levels, which y holds in the middle of theirs."""
        levels = (y * LEVELS).floor() / (LEVELS - 1)
        z, log_det = self.to_normal(y, self.seen(avg_pool2d(levels, self.factor)))
        return log_det + log_normal(z)

    @torch.no_grad()
    def upscale(
        self, low: Float[Tensor, "B C h w"], generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B C 2*h 2*w"]:
        channels, height, width = low.shape[1:]
        halved = 1 << (len(self.scales) - 1)
        if channels != self.scene.shape[0] or height % halved or width % halved:
            raise UserError(f"pictures of {width} × {height} pixels and {channels} channels cannot be scaled up by it.")
        z = temperature * torch.randn(len(low), low[0].numel() * 4, generator=generator, device=low.device)
        return self.examples(self.from_normal(z, self.seen(low), [channels, 2 * height, 2 * width]))
