"""A field on positions that a code shapes through conditional normalisation.

Notation: x positions, γ(x) their encoding, c a code, h features of a position.

Mescheder, Oechsle, Niemeyer, Nowozin, Geiger: "Occupancy Networks", CVPR 2019, supplementary 1: residual blocks on
features of single points, before each layer
    h ← (1 + α(c)) ⊙ normalised(h) + β(c),   α, β linear in c.
There, `normalised` takes the statistics of a batch. Ours takes those of each point's own features (Ba et al., "Layer
Normalization", 2016): the field is then one function of x, the same for a batch around surfaces, for rays that are
marched and for a grid that becomes a mesh, of which each has statistics of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from neural3d.fields.encodings import positional_encoding, positional_width

OCTAVES = 4  # of γ


class _ConditionalNorm(nn.Module):
    def __init__(self, width: int, code: int):
        super().__init__()
        self.tell = nn.Linear(code, 2 * width)
        nn.init.zeros_(self.tell.bias)

    def forward(self, h: Float[Tensor, "S Q W"], code: Float[Tensor, "S C"]) -> Float[Tensor, "S Q W"]:
        scale, shift = self.tell(code)[:, None].chunk(2, dim=-1)
        return torch.addcmul(shift, layer_norm(h, h.shape[-1:]), 1 + scale)


class _Block(nn.Module):
    """h + linear(relu(norm(linear(relu(norm(h))))))"""

    def __init__(self, width: int, code: int):
        super().__init__()
        self.norm1, self.norm2 = _ConditionalNorm(width, code), _ConditionalNorm(width, code)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.linear2.weight)  # at the start each block changes nothing

    def forward(self, h: Float[Tensor, "S Q W"], code: Float[Tensor, "S C"]) -> Float[Tensor, "S Q W"]:
        return h + self.linear2(relu(self.norm2(self.linear1(relu(self.norm1(h, code))), code)))


class ConditionalField(nn.Module):
    """code: its length. outputs: values at a position. width: of the features. blocks: of two layers each."""

    def __init__(self, code: int, outputs: int, width: int, blocks: int = 5):
        super().__init__()
        self.lift = nn.Linear(positional_width(3, OCTAVES, include_input=True), width)
        self.blocks = nn.ModuleList(_Block(width, code) for _ in range(blocks))
        self.norm, self.tell = _ConditionalNorm(width, code), nn.Linear(width, outputs)

    def forward(self, x: Float[Tensor, "S Q 3"], code: Float[Tensor, "S C"]) -> Float[Tensor, "S Q outputs"]:
        """Differentiable in x, code and parameters."""
        h = self.lift(positional_encoding(x, OCTAVES, include_input=True))
        for block in self.blocks:
            h = block(h, code)
        return self.tell(relu(self.norm(h, code)))
