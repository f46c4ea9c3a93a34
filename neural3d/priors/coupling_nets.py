"""Networks that say how a coupling layer scales and shifts; their last layer is zero at the start, the identity."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn


class VectorNet(nn.Module):
    """(B, inputs) → (B, outputs) through layers of one width."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int):
        super().__init__()
        sizes = [inputs, *[width] * layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.last = nn.Linear(sizes[-1], outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Float[Tensor, "B inputs"]) -> Float[Tensor, "B outputs"]:
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.last(x)


class ConvNet(nn.Module):
    """(B, inputs, H, W) → (B, outputs, H, W): a convolution, residual blocks 3 × 3 and 1 × 1, a convolution."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))
            for _ in range(blocks)
        )
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B outputs H W"]:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(torch.relu(x))
