"""`glow`: a flow whose channels are mixed by invertible 1 × 1 convolutions.

Kingma & Dhariwal: "Glow: Generative Flow with Invertible 1×1 Convolutions", NeurIPS 2018: at each scale a squeeze, then
steps of ActNorm, W = P L (U + diag s) and a coupling by halves of the channels, see neural3d/priors/bijections.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from neural3d.config import Count, Layers, Width
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Bijection, Mixing, Squeeze, coupling
from neural3d.priors.flow import Flow


@dataclass(frozen=True)
class GlowConfig(PriorConfig):
    """Settings of `glow`."""

    scales: Count = 2  # of pictures, each of half the size, as far as these can be halved
    steps: Count = 8  # of each scale
    width: Width = 64  # of the couplings' networks
    blocks: Layers = 1  # residual blocks, or layers, of each


class Glow(Flow):
    """See the module's docstring."""

    Config = GlowConfig

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c = self.config
        layers: list[Bijection] = []
        if self.pictures:
            shape = [4 * shape[0], shape[1] // 2, shape[2] // 2]
            layers.append(Squeeze())
        for _ in range(c.steps):
            layers += [ActNorm(shape[0]), Mixing(shape[0]), coupling(shape, c.width, c.blocks, "halves", False)]
        return layers
