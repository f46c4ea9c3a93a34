"""`srflow`: what a picture twice as large may look like, all answers and their likelihood.

Lugmayr, Danelljan, Van Gool, Timofte: "SRFlow: Learning the Super-Resolution Space with Normalizing Flow", ECCV 2020.
A flow as Glow's of the large picture y, whose layers see features g of the small one, the averages of each 2 × 2:
    each step: ActNorm, a 1 × 1 mixing, an injector (all of y by g), a coupling (half of y by the other half and g)
    log p(y | small) = log N(f(y; g); 0, 1) + log |det ∂f/∂y|                         (eq. 2)
f⁻¹ of normal numbers are answers; of smaller ones (temperature) likelier and smoother ones. It is learnt on small
pictures and serves any size. Two things differ: g is a few residual blocks learnt with the flow, not a network trained
before; and the flow is of what y has beyond the small picture's bicubic interpolation, which g holds too, so that what
is known without learning need not be learnt.

Large pictures are made in tiles. An answer is told by its normal numbers, each of which has its place in the picture:
tiles take theirs, and what margins beyond a tile's own part show of its neighbours, so that they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle

from neural3d.config import Count, Layers, Width
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Likelihood, Upscaling
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Beyond, Bijection, Injector, Mixing, Squeeze, coupling
from neural3d.priors.coupling_nets import ConvNet
from neural3d.priors.density import LEVELS
from neural3d.priors.flow import ALPHA, Scales, log_normal

TILE, MARGIN = 96, 16  # pixels of the small picture that are made at a time, and those around that are looked at


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
        self.unit = 1 << (len(self.scales) - 1)

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c = self.config
        shape = [4 * shape[0], shape[1] // 2, shape[2] // 2]
        layers: list[Bijection] = [Squeeze(), *([Beyond()] if scale == 0 else [])]
        seen = c.features + 4 * self.scene.shape[0]
        for i in range(c.steps):
            injector = Injector(ConvNet(seen, 2 * shape[0], c.width, c.blocks))
            among = coupling(shape, c.width, c.blocks, "halves", i % 2 == 1, seen=seen)
            layers += [ActNorm(shape[0]), Mixing(shape[0]), injector, among]
        return layers

    def seen(self, low: Float[Tensor, "B C h w"]) -> list[Float[Tensor, "B S h w"]]:
        """g of each scale: first the interpolation, each 2 × 2 of its pixels as channels."""
        between = interpolate(low, scale_factor=self.factor, mode="bicubic", align_corners=False).clamp(0, 1)
        between = torch.logit(ALPHA + (1 - 2 * ALPHA) * (between * (LEVELS - 1) + 0.5) / LEVELS)  # as y in `Scales`
        features = [torch.cat([pixel_unshuffle(between, self.factor), self.see(2 * low - 1)], 1)]
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
        if channels != self.scene.shape[0] or height % self.unit or width % self.unit:
            raise UserError(f"pictures of {width} × {height} pixels and {channels} channels cannot be scaled up by it.")
        large = [channels, self.factor * height, self.factor * width]
        z = [
            temperature * torch.randn(len(low), *part, generator=generator, device=low.device)
            for part in self._shapes(large)
        ]
        result = low.new_empty(len(low), *large)
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                rows, columns = _with_margin(top, height), _with_margin(left, width)
                own = [
                    part[..., _scaled(rows, part.shape[2], height), _scaled(columns, part.shape[3], width)]
                    for part in z
                ]
                seen = low[..., rows, columns]
                shape = [channels, self.factor * seen.shape[2], self.factor * seen.shape[3]]
                made = self.from_normal(torch.cat([part.flatten(1) for part in own], 1), self.seen(seen), shape)
                i, j = self.factor * (top - rows.start), self.factor * (left - columns.start)
                part = result[..., self.factor * top :, self.factor * left :]
                part = part[..., : self.factor * TILE, : self.factor * TILE]
                part.copy_(made[..., i : i + part.shape[2], j : j + part.shape[3]])
        return self.examples(result)


def _with_margin(start: int, length: int) -> slice:
    """Of a tile's rows or columns."""
    return slice(max(0, start - MARGIN), min(length, start + TILE + MARGIN))


def _scaled(part: slice, length: int, of: int) -> slice:
    """The same part of another length."""
    return slice(part.start * length // of, part.stop * length // of)
