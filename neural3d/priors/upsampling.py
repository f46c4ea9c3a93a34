"""Four ways to twice the size, and networks that shrink pictures to codes and make pictures of codes.

nearest     each value four times, then a convolution                       (Odena et al. 2016: no checkerboards)
nails       each value in the corner of a bed of zeros, then a convolution  ("bed of nails")
unpooling   each value where the maximum of its 2 × 2 was, then a convolution   (Zeiler & Fergus 2014; SegNet)
transposed  the transpose of a convolution of stride 2                      (Dumoulin & Visin 2016)
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_unpool2d

from neural3d.errors import UserError

Upsampling = Literal["nearest", "nails", "unpooling", "transposed"]


class Up(nn.Module):
    """(B, inputs, H, W) → (B, outputs, 2H, 2W)."""

    def __init__(self, kind: Upsampling, inputs: int, outputs: int):
        super().__init__()
        self.kind = kind
        if kind == "transposed":
            self.layer: nn.Module = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        else:
            self.layer = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "B C H W"], maxima: Int[Tensor, "B C H W"] | None = None
    ) -> Float[Tensor, "B D 2H 2W"]:
        """maxima: of unpooling alone, the places that max-pooling reported."""
        if self.kind == "nearest":
            x = interpolate(x, scale_factor=2, mode="nearest")
        elif self.kind == "nails":
            bed = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
            bed[..., ::2, ::2] = x
            x = bed
        elif self.kind == "unpooling":
            assert maxima is not None
            x = max_unpool2d(x, maxima, [2, 2])
        return self.layer(x)


class Encoder(nn.Module):
    """A picture (C, H, W) to `outputs` numbers: convolutions that halve its size `depth` times, then one layer."""

    def __init__(self, shape: list[int], outputs: int, channels: int, depth: int, pool: bool = False):
        super().__init__()
        require_halves(shape, depth)
        widths = [shape[0], *(channels << i for i in range(depth))]
        pairs = list(itertools.pairwise(widths))
        self.pool = nn.MaxPool2d(2, return_indices=True) if pool else None
        step = dict(kernel_size=3, padding=1) if pool else dict(kernel_size=4, stride=2, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, **step) for a, b in pairs)  # type: ignore[arg-type]
        self.inner = [widths[-1], shape[1] >> depth, shape[2] >> depth]
        self.last = nn.Linear(int(torch.Size(self.inner).numel()), outputs)

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B outputs"], list[Int[Tensor, "..."]]]:
        """(the numbers, where maxima were, from the first halving on)"""
        maxima = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            if self.pool is not None:
                x, places = self.pool(x)
                maxima.append(places)
        return self.last(x.flatten(1)), maxima


class Decoder(nn.Module):
    """The way back: a layer, then sizes that double. `outputs` channels."""

    def __init__(self, shape: list[int], inputs: int, outputs: int, channels: int, depth: int, kind: Upsampling):
        super().__init__()
        require_halves(shape, depth)
        widths = [*(channels << i for i in range(depth))][::-1]
        self.inner = [widths[0], shape[1] >> depth, shape[2] >> depth]
        self.first = nn.Linear(inputs, int(torch.Size(self.inner).numel()))
        self.layers = nn.ModuleList(Up(kind, a, b) for a, b in zip(widths, [*widths[1:], outputs]))

    def forward(self, z: Float[Tensor, "B inputs"], maxima: list[Tensor] | None = None) -> Float[Tensor, "B D H W"]:
        x = self.first(z).view(-1, *self.inner)
        for i, layer in enumerate(self.layers):
            x = layer(torch.relu(x), maxima[-1 - i] if maxima else None)
        return x


class Dense(nn.Sequential):
    """Layers of one width with x σ(x) between (SiLU); none: one linear map. Takes any shape, as vectors."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int):
        sizes = [inputs, *[width] * layers, outputs]
        parts: list[nn.Module] = [nn.Flatten()]
        for a, b in itertools.pairwise(sizes):
            parts += [nn.Linear(a, b), nn.SiLU()]
        super().__init__(*parts[:-1])


def require_halves(shape: list[int], depth: int) -> None:
    if len(shape) != 3 or any(side % (1 << depth) for side in shape[1:]):
        size = " × ".join(map(str, shape[::-1]))
        raise UserError(
            f"convolutions halve pictures {depth} times, which {size} does not allow; set depth, or coder=dense."
        )
