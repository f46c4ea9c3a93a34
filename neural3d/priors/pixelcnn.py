"""Pixels in turn by masked convolutions: all pixels of a training picture at once.

Van den Oord, Kalchbrenner, Kavukcuoglu: "Pixel Recurrent Neural Networks", ICML 2016 (masks); van den Oord et al.:
"Conditional Image Generation with PixelCNN Decoders", NeurIPS 2016, section 2 (gates, two stacks, classes).
Convolutions over the pixels above and left of one, repeated, never reach some above and to the right: the blind spot.
So there are two stacks. v sees the rows above, to both sides; h the row to its left, and v:
    u^l = A^l ∗ v^{l−1} + a_k,   v^l = g(u^l),   h^l = h^{l−1} + C^l g(B^l ∗ h^{l−1} + D^l u^l + b_k)
g: tanh of half the channels times σ of the others. a_k, b_k: of class k, where classes are known. A takes the rows
above and, but in the first layer, its own, where v knows no more than those above. B takes what is left and the pixel
itself, of the latter the colours that come before (`Masked`).
Drawn pixel by pixel, v is kept of each row and h of each pixel, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.priors.pixels import Head, Label, Masked, PixelConfig, PixelPrior, colours_of

FIRST_REACH = 3  # pixels to each side that the first layer sees: 7 × 7, as published


@dataclass(frozen=True)
class PixelCnnConfig(PixelConfig):
    """Settings of `pixelcnn`."""

    horizon: Count = 25_000
    lr: float = 2e-3  # at 1e-2, the best of short runs, nine in ten of v's signals are ±1 after 15,000 steps
    lr_final: float = 2e-5
    width: Width = 16  # channels of each stack
    layers: Count = 7
    reach: Count = 1  # pixels to each side that layers but the first see: 3 × 3


class PixelCnn(PixelPrior):
    """See the module's docstring."""

    Config = PixelCnnConfig

    def __init__(self, config: PixelCnnConfig, scene: Examples):
        super().__init__(config, scene)
        classes = len(scene.classes) if config.conditional else 0
        layers = nn.ModuleList(
            Gated(self.colours, config.width, FIRST_REACH if i == 0 else config.reach, classes, first=i == 0)
            for i in range(config.layers)
        )
        self.layers: Sequence[Gated] = layers  # type: ignore[assignment]
        self.head = Head(config.width, self.colours, self.choices)

    def logits(self, x: Float[Tensor, "B C H W"], label: Label) -> Float[Tensor, "B C n H W"]:
        v = h = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            above = pad(v, (0, 0, layer.reach, 0))[:, :, : self.height + layer.rows - 1]
            u = layer.down(above, label)
            h = layer.along(pad(h, (layer.reach, 0)), u, label)
            v = gate(u)
        return self.head(h)

    def walk(self, count: int, label: Label) -> Steps:
        return Steps(self, count, label)


class Gated(nn.Module):
    """A layer of both stacks, given also what lies above or left of what it is asked for, zeros beyond the border.

    rows: of v that it sees, from `reach` above the row that is asked for; to this row, if not the first layer.
    """

    def __init__(self, colours: int, width: int, reach: int, classes: int, first: bool):
        super().__init__()
        self.first, self.reach = first, reach
        self.rows = reach if first else reach + 1
        of_inputs = torch.arange(colours) if first else colours_of(width, colours)
        of_width = colours_of(width, colours)
        self.vertical = nn.Conv2d(len(of_inputs), 2 * width, (self.rows, 2 * reach + 1), padding=(0, reach))
        self.horizontal = Masked(of_inputs, of_width.repeat(2), reach + 1, own=not first)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = Masked(of_width, of_width)
        self.of_class = nn.Embedding(classes, 4 * width) if classes else None

    def down(self, above: Float[Tensor, "B in rows+R-1 W"], label: Label) -> Float[Tensor, "B 2*width R W"]:
        """u, before its gate."""
        return self._told(self.vertical(above), label, 0)

    def along(
        self, left: Float[Tensor, "B in R reach+W"], u: Float[Tensor, "B 2*width R W"], label: Label
    ) -> Float[Tensor, "B width R W"]:
        h = self.out(gate(self._told(self.horizontal(left) + self.across(u), label, 1)))
        return h if self.first else h + left[..., self.reach :]

    def _told(self, x: Float[Tensor, "B 2*width R W"], label: Label, stack: int) -> Tensor:
        if self.of_class is None:
            return x
        return x + self.of_class(label).chunk(2, 1)[stack][:, :, None, None]


def gate(x: Float[Tensor, "B 2*width H W"]) -> Float[Tensor, "B width H W"]:
    signal, share = x.chunk(2, 1)
    return (2 * torch.sigmoid(2 * signal) - 1) * torch.sigmoid(share)  # torch's tanh takes four times as long


class Steps:
    """As `Walk`: v of all rows so far and h of the row so far, as each layer is given them."""

    def __init__(self, model: PixelCnn, count: int, label: Label):
        self.model, self.label, self.row = model, label, -1
        self.v, self.h = [], []
        for layer in model.layers:
            weight = layer.vertical.weight
            self.v.append(weight.new_zeros(count, weight.shape[1], layer.reach + model.height, model.width))
            self.h.append(weight.new_zeros(count, weight.shape[1], 1, layer.reach + model.width))

    def logits(self, x: Float[Tensor, "B C H W"], i: int, j: int) -> Float[Tensor, "B C n"]:
        layers = self.model.layers
        if i != self.row:
            self._enter(x, i)
        self.h[0][:, :, 0, layers[0].reach :] = x[:, :, i]
        for n, layer in enumerate(layers):
            h = layer.along(self.h[n][..., j : j + layer.reach + 1], self.u[n][..., j : j + 1], self.label)
            if n + 1 < len(layers):
                self.h[n + 1][..., layers[n + 1].reach + j] = h[..., 0]
        return self.model.head(h)[..., 0, 0]

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        self.v = [v[rows] for v in self.v]

    def _enter(self, x: Float[Tensor, "B C H W"], i: int) -> None:
        """The rows above row i are known: v of row i."""
        layers = self.model.layers
        if i:
            self.v[0][:, :, layers[0].reach + i - 1] = x[:, :, i - 1]
        self.row, self.u = i, []
        for n, layer in enumerate(layers):
            self.u.append(layer.down(self.v[n][:, :, i : i + layer.rows], self.label))
            if n + 1 < len(layers):
                self.v[n + 1][:, :, layers[n + 1].reach + i] = gate(self.u[n])[:, :, 0]
