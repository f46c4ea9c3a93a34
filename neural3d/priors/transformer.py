"""`transformer`: values in turn, each told by attention to all before it.

Vaswani et al.: "Attention Is All You Need", NeurIPS 2017, its decoder alone as in Radford et al. 2018 and, of pictures,
Parmar et al., "Image Transformer", ICML 2018. Of the sequence x_1 … x_T (row by row, within a pixel by colours)
    h⁰_t = E(x_{t−1}) + position_t,   E(x_0): a start, that of the class where classes are known
    h ← h + W_o [softmax(Q_i K_iᵀ / √d) V_i]_i,   t sees no later place              (multi-head attention, eq. 1)
    h ← h + W_2 gelu(W_1 h)                                                          (eq. 2)
with layers normalised before each part (Xiong et al. 2020), and p(x_t | before) from h^L_t. Positions are sinusoids
(3.5) of row, column and colour. Drawn value by value, keys and values of what has been are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.priors.pixels import LEVELS, Label, PixelConfig, PixelPrior

Cache = tuple[Tensor, Tensor]  # keys and values, (B, heads, t, d) each


@dataclass(frozen=True)
class TransformerConfig(PixelConfig):
    """Settings of `transformer`."""

    horizon: Count = 10_000
    width: Width = 64  # of h; a multiple of the heads
    layers: Count = 4
    heads: Count = 4


class Transformer(PixelPrior):
    """See the module's docstring."""

    Config = TransformerConfig

    def __init__(self, config: TransformerConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        if c.width % c.heads:
            raise ValueError(f"width {c.width} is no multiple of {c.heads} heads")
        self.entries = 2 if self.choices == 1 else LEVELS
        self.embed = nn.Embedding(self.entries + max(1, len(scene.classes) if c.conditional else 1), c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads) for _ in range(c.layers))
        self.head = nn.Linear(c.width, self.choices)
        places = torch.cartesian_prod(*(torch.arange(n) for n in (self.height, self.width, self.colours)))
        self.places: Tensor
        self.register_buffer("places", sinusoids(places.view(-1, 3), c.width), persistent=False)

    def tokens(self, x: Float[Tensor, "B C H W"]) -> Int[Tensor, "B T"]:
        """Of values from −1 to 1, as networks of pixels see them, in the order of the sequence."""
        return ((x + 1) / 2 * (self.entries - 1)).round().long().permute(0, 2, 3, 1).flatten(1)

    def start(self, count: int, label: Label) -> Int[Tensor, "B"]:
        device = self.head.weight.device
        return self.entries + (torch.zeros(count, dtype=torch.int64, device=device) if label is None else label)

    def logits(self, x: Float[Tensor, "B C H W"], label: Label) -> Float[Tensor, "B C n H W"]:
        before = torch.cat([self.start(len(x), label)[:, None], self.tokens(x)[:, :-1]], 1)
        h = self.embed(before) + self.places
        for block in self.blocks:
            h, _ = block(h)
        told = self.head(layer_norm(h, h.shape[-1:]))
        return told.view(len(x), self.height, self.width, self.colours, -1).permute(0, 3, 4, 1, 2)

    def walk(self, count: int, label: Label) -> Steps:
        return Steps(self, count, label)


class Block(nn.Module):
    """Attention, then two layers; both added to what they saw."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, h: Float[Tensor, "B T width"], kept: Cache | None = None
    ) -> tuple[Float[Tensor, "B T width"], Cache]:
        """(the new h, its keys and values behind those that were kept, all of which h may see)"""
        parts = self.ask(self.first(h)).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        if kept is not None:
            k, v = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)
        seen = scaled_dot_product_attention(q, k, v, is_causal=kept is None)
        h = h + self.out(seen.transpose(1, 2).flatten(2))
        return h + self.narrow(gelu(self.wide(self.second(h)))), (k, v)


class Steps:
    """As `Walk`: each call reads the value that the last one led to."""

    def __init__(self, model: Transformer, count: int, label: Label):
        self.model, self.t = model, 0
        self.now = model.start(count, label)
        empty = model.head.weight.new_zeros(count, model.config.heads, 0, model.config.width // model.config.heads)
        self.kept: list[Cache] = [(empty, empty)] * len(model.blocks)

    def logits(self, x: Float[Tensor, "B C H W"], i: int, j: int) -> Float[Tensor, "B C n"]:
        model = self.model
        if self.t:
            self.now = model.tokens(x)[:, self.t - 1]
        h = (model.embed(self.now) + model.places[self.t])[:, None]
        for n, block in enumerate(model.blocks):
            h, self.kept[n] = block(h, self.kept[n])
        self.t += 1
        told = model.head(layer_norm(h, h.shape[-1:]))
        return told.expand(-1, model.colours, -1)

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        self.kept = [(k[rows], v[rows]) for k, v in self.kept]


def sinusoids(places: Int[Tensor, "T axes"], width: int) -> Float[Tensor, "T width"]:
    """Sines and cosines of each axis at wavelengths from 2π to 10⁴ · 2π, the axes in equal shares of the width."""
    share = width // places.shape[1] // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(share) / max(1, share))
    angles = places[:, :, None] * rates
    values = torch.cat([angles.sin(), angles.cos()], -1).flatten(1)
    return torch.nn.functional.pad(values, (0, width - values.shape[1]))
