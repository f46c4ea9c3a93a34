"""`realnvp`: a flow of coupling layers.

Dinh, Sohl-Dickstein, Bengio: "Density estimation using Real NVP", ICLR 2017. Pictures: at each scale three couplings by
checkerboards, a squeeze, three by channels; the last scale has four checkerboards more. Vectors: couplings by halves
that take turns, with Glow's invertible matrices before each (worth 1.6 nats of 35, for principal coordinates of MNIST).
Where the paper has batch normalisation pictures have ActNorm (Glow): no example depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

from neural3d.config import Count, Layers, Width
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Bijection, Mixing, Squeeze, coupling
from neural3d.priors.flow import Flow


@dataclass(frozen=True)
class RealNvpConfig(PriorConfig):
    """Settings of `realnvp`."""

    scales: Count = 2  # of pictures, each of half the size, as far as these can be halved
    couplings: Count = 6  # of vectors
    width: Width = 32  # of the couplings' networks; vectors take four times as much
    blocks: Layers = 2  # residual blocks, or layers, of each


class RealNvp(Flow):
    """See the module's docstring."""

    Config = RealNvpConfig

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c = self.config
        if not self.pictures:
            n = shape[0]
            steps = [coupling(shape, 4 * c.width, c.blocks, "every other", i % 2 == 1) for i in range(c.couplings)]
            return [layer for step in steps for layer in (Mixing(n), step)]
        squeezed = [4 * shape[0], shape[1] // 2, shape[2] // 2]
        layers: list[Bijection] = []
        for i in range(3):
            layers += [coupling(shape, c.width, c.blocks, "checkerboard", i % 2 == 1), ActNorm(shape[0])]
        layers.append(Squeeze())
        for i in range(3):
            layers += [coupling(squeezed, 2 * c.width, c.blocks, "halves", i % 2 == 1), ActNorm(squeezed[0])]
        if scale + 1 == c.scales:
            for i in range(4):
                layers += [coupling(squeezed, 2 * c.width, c.blocks, "checkerboard", i % 2 == 1), ActNorm(squeezed[0])]
        return layers
