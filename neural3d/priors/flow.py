"""Normalising flows: what `realnvp` and `glow` share.

An invertible f takes examples to numbers of which each is normal on its own, so that
    log p(y) = log N(f(y); 0, 1) + log |det ∂f/∂y|                                  (change of variables)
and f⁻¹ of normal numbers are examples. Pictures of 256 levels come as densities (neural3d/priors/density.py), to the
whole line by logit(α + (1 − 2α) y); after each scale half of the channels are done (Dinh, Sohl-Dickstein, Bengio:
"Density estimation using Real NVP", ICLR 2017, 3.6 and 4.1).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Coding, Sampling
from neural3d.priors.bijections import Bijection, Seen
from neural3d.priors.density import Density

ALPHA = 0.05


class Scales(Density):
    """f and f⁻¹ of the module's docstring."""

    def __init__(self, config: Any, scene: Examples):
        super().__init__(config, scene)
        self.scales = nn.ModuleList()
        shape = list(scene.shape)
        count = halvings(shape, config.scales) if self.pictures else 1
        for i in range(count):
            layers = self.layers_of(shape, i)
            self.scales.append(nn.ModuleList(layers))
            if self.pictures:
                shape = [4 * shape[0] // (2 if i + 1 < count else 1), shape[1] // 2, shape[2] // 2]

    @abc.abstractmethod
    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        """The layers of one scale, that `shape` comes into; of pictures one of them a Squeeze."""

    def to_normal(
        self, y: Float[Tensor, "B ..."], seen: Sequence[Seen] = ()
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """(z, log |det|), differentiable. seen: what the layers of each scale see besides."""
        x, log_det = y, y.new_zeros(len(y))
        if self.pictures:
            inner = ALPHA + (1 - 2 * ALPHA) * y
            x = inner.log() - (-inner).log1p()
            slopes = math.log(1 - 2 * ALPHA) - inner.log() - (-inner).log1p()
            log_det = slopes.flatten(1).sum(1)
        done = []
        for i, layers in enumerate(self.scales):
            for layer in layers:  # type: ignore[attr-defined]
                x, own = layer(x, seen[i] if seen else None)
                log_det = log_det + own
            if i + 1 < len(self.scales):
                x, ready = x.chunk(2, 1)
                done.append(ready.flatten(1))
        return torch.cat([*done, x.flatten(1)], 1), log_det

    def from_normal(
        self, z: Float[Tensor, "B D"], seen: Sequence[Seen] = (), shape: list[int] | None = None
    ) -> Float[Tensor, "B ..."]:
        """f⁻¹. shape: of the result, where it is not that of the examples."""
        shapes = self._shapes(shape or self.scene.shape)
        parts = list(z.split([int(torch.Size(s).numel()) for s in shapes], 1))
        x = parts.pop().view(-1, *shapes.pop())
        for i, layers in reversed(list(enumerate(self.scales))):
            if i + 1 < len(self.scales):
                x = torch.cat([x, parts.pop().view(-1, *shapes.pop())], 1)
            for layer in reversed(layers):  # type: ignore[call-overload]
                x = layer.inverse(x, seen[i] if seen else None)
        return (torch.sigmoid(x) - ALPHA) / (1 - 2 * ALPHA) if self.pictures else x

    def _shapes(self, shape: list[int]) -> list[list[int]]:
        """Of the parts of z."""
        shapes = []
        for i in range(len(self.scales)):
            if self.pictures:
                shape = [4 * shape[0], shape[1] // 2, shape[2] // 2]
            if i + 1 < len(self.scales):
                shape = [shape[0] // 2, *shape[1:]]
                shapes.append(list(shape))
        return [*shapes, list(shape)]


class Flow(Scales, Sampling, Coding):
    """A code is z = f(y), as one vector."""

    def log_density(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        z, log_det = self.to_normal(y)
        return log_det + log_normal(z)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """temperature: deviation of z."""
        z = torch.randn(count, self.length, generator=generator, device=self.mean.device)
        return self.examples(self.from_normal(temperature * z))

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        y = (x * 255 + 0.5) / 256 if self.pictures else (x - self.mean) / self.deviation
        return self.to_normal(y)[0]

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B ..."]:
        return self.examples(self.from_normal(z))


def log_normal(z: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """log N(z; 0, 1)"""
    return -(z.square() + math.log(2 * math.pi)).sum(1) / 2


def halvings(shape: list[int], most: int) -> int:
    """How often a picture's sides can be halved, at least once. Raises ValueError where they cannot."""
    count = 0
    while count < most and all(side % (2 << count) == 0 for side in shape[1:]):
        count += 1
    if count == 0:
        raise ValueError(f"pictures of {shape[2]} × {shape[1]} pixels cannot be halved; cut them to even sides")
    return count
