"""Pixels in turn by two-dimensional LSTMs: what is above and left of a pixel reaches it through every layer.

Van den Oord, Kalchbrenner, Kavukcuoglu: "Pixel Recurrent Neural Networks", ICML 2016. A 7 × 7 convolution over the
pixels before one gives 2h features; each layer adds what a 1 × 1 convolution makes of the h units of an LSTM:
    (o, f, i, g) = K_is ∗ features + K_ss ∗ units before,   c = σ(f) c before + σ(i) tanh g,   units = σ(o) tanh c
row (section 3.1): before is the row above, K_ss 3 wide: a pixel sees a triangle above it. K_is sees what is left of it.
diagonal (3.2): one LSTM goes to the right: before are the left neighbour, whose c it takes, and the one above. Another
goes to the left, and what it knows of the row above is added. All pixels of a diagonal are one step.
The colours of a pixel come one after another by masks in K_is and the 1 × 1 convolutions (`Masked`). Classes, where
they are known, add to the first features. Drawn pixel by pixel, each layer keeps its units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.priors.pixels import Head, Label, Masked, PixelConfig, PixelPrior, colours_of

REACH = 3  # of the first convolution: 7 × 7


@dataclass(frozen=True)
class PixelRnnConfig(PixelConfig):
    """Settings of `pixelrnn`."""

    horizon: Count = 15_000
    lr: float = 1e-2
    lr_final: float = 1e-4
    cell: Literal["row", "diagonal"] = "row"  # what an LSTM has before a pixel: the row above; the diagonal, both ways
    width: Width = 16  # h, units of an LSTM
    layers: Count = 3  # LSTMs, one after the other


class PixelRnn(PixelPrior):
    """See the module's docstring."""

    Config = PixelRnnConfig

    def __init__(self, config: PixelRnnConfig, scene: Examples):
        super().__init__(config, scene)
        of_features, of_units = (colours_of(n * config.width, self.colours) for n in (2, 1))
        self.above = nn.Conv2d(self.colours, 2 * config.width, (REACH, 2 * REACH + 1), padding=(0, REACH))
        self.left = Masked(torch.arange(self.colours), of_features, REACH + 1, own=False)
        self.of_class = nn.Embedding(len(scene.classes), 2 * config.width) if config.conditional else None
        kind: type[RowLstm | DiagonalLstm] = RowLstm if config.cell == "row" else DiagonalLstm
        lstms = nn.ModuleList(kind(of_features, of_units) for _ in range(config.layers))
        self.lstms: Sequence[RowLstm | DiagonalLstm] = lstms  # type: ignore[assignment]
        self.outs = nn.ModuleList(Masked(of_units, of_features) for _ in range(config.layers))
        self.head = Head(2 * config.width, self.colours, self.choices)

    def told(self, above: Float[Tensor, "B C 2+R W"], label: Label) -> Float[Tensor, "B 2h R W"]:
        """The part of the first features that rows above and the class have."""
        told = self.above(above)
        return told if self.of_class is None else told + self.of_class(label)[:, :, None, None]

    def logits(self, x: Float[Tensor, "B C H W"], label: Label) -> Float[Tensor, "B C n H W"]:
        features = self.told(pad(x, (0, 0, REACH, 0))[:, :, :-1], label) + self.left(pad(x, (REACH, 0)))
        for lstm, out in zip(self.lstms, self.outs, strict=True):
            features = features + out(lstm(features))
        return self.head(features)

    def walk(self, count: int, label: Label) -> Steps:
        return Steps(self, count, label)


def lstm(gates: Float[Tensor, "... 4*h n"], c: Tensor | float) -> tuple[Float[Tensor, "... h n"], Tensor]:
    """(units, c)"""
    h = gates.shape[-2] // 4
    (o, f, i), g = torch.sigmoid(gates[..., : 3 * h, :]).chunk(3, -2), torch.tanh(gates[..., 3 * h :, :])
    c = f * c + i * g
    return o * torch.tanh(c), c


class RowLstm(nn.Module):
    def __init__(self, of_features: Int[Tensor, "2*h"], of_units: Int[Tensor, "h"]):
        super().__init__()
        h = len(of_units)
        self.seen = Masked(of_features, of_units.repeat(4), columns=2)
        self.before = nn.Conv1d(h, 4 * h, 3, padding=1, bias=False)

    def forward(self, features: Float[Tensor, "B 2*h H W"]) -> Float[Tensor, "B h H W"]:
        units: Tensor | None = None
        c: Tensor | float = 0.0
        rows = []
        for seen in self.seen(pad(features, (1, 0))).unbind(2):
            units, c = lstm(seen if units is None else seen + self.before(units), c)
            rows.append(units)
        return torch.stack(rows, 2)

    def start(self, count: int, width: int) -> RowSteps:
        return RowSteps(self, count, width)


class RowSteps:
    """Of the row above, what it tells each pixel; of this row, the units so far."""

    def __init__(self, layer: RowLstm, count: int, width: int):
        self.layer = layer
        self.units = layer.before.weight.new_zeros(count, layer.before.in_channels, width)
        self.c = torch.zeros_like(self.units)

    def enter(self, features: Float[Tensor, "B 2*h 1 W"]) -> None:
        """The row above is complete; its features are not needed."""
        self.told, self.c_above = self.layer.before(self.units), self.c.clone()

    def pixel(self, features: Float[Tensor, "B 2*h 1 2"], j: int) -> Float[Tensor, "B h 1 1"]:
        """features: of the left neighbour and of the pixel."""
        at = slice(j, j + 1)
        units, self.c[..., at] = lstm(self.layer.seen(features)[:, :, 0] + self.told[..., at], self.c_above[..., at])
        self.units[..., at] = units
        return units[:, :, None]

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        self.units, self.c = self.units[rows], self.c[rows]


class DiagonalLstm(nn.Module):
    """One goes to the right, one to the left: this one sees pictures turned round, and its channels come second."""

    def __init__(self, of_features: Int[Tensor, "2*h"], of_units: Int[Tensor, "h"]):
        super().__init__()
        self.h = len(of_units)
        self.seen = Masked(of_features, of_units.repeat(4))
        self.seen_turned = nn.Conv2d(len(of_features), 4 * self.h, 1)
        self.before = nn.Conv1d(2 * self.h, 8 * self.h, 2, groups=2, bias=False)  # above and beside

    def forward(self, features: Float[Tensor, "B 2*h H W"]) -> Float[Tensor, "B h H W"]:
        height, width = features.shape[2:]
        seen = torch.stack([self.seen(features), self.seen_turned(features.flip(3))], 1)
        # Row i moves i to the right: what a diagonal held is a column.
        row, column = (torch.arange(n, device=seen.device) for n in (height, height + width - 1))
        from_ = column - row[:, None]
        inside = ((from_ >= 0) & (from_ < width)).to(seen)
        skewed = seen.gather(4, from_.clamp(0, width - 1).expand(*seen.shape[:3], -1, -1))
        units: Tensor | None = None
        c: Tensor | float = 0.0
        columns = []
        for d, now in enumerate(skewed.unbind(4)):
            if units is not None:
                now = now + self.before(pad(units.flatten(1, 2), (1, 0))).unflatten(1, (2, -1))
            units, c = lstm(now, c)
            units, c = units * inside[:, d], c * inside[:, d]
            columns.append(units)
        straight = row[:, None] + torch.arange(width, device=seen.device)
        both = torch.stack(columns, 4)
        right, left = both.gather(4, straight.expand(*both.shape[:3], -1, -1)).unbind(1)
        return right + pad(left.flip(3), (0, 0, 1, 0))[:, :, :-1]

    def start(self, count: int, width: int) -> DiagonalSteps:
        return DiagonalSteps(self, count, width)


class DiagonalSteps:
    """Of the LSTM that goes to the right, the units of the row above, and of this row so far, behind a zero; of the
    one that goes to the left, those of the row above.
    """

    def __init__(self, layer: DiagonalLstm, count: int, width: int):
        self.layer, self.top = layer, True
        self.left = layer.before.weight.new_zeros(count, layer.h, width)
        self.right, self.c = self.left.new_zeros(2, count, layer.h, 1 + width)
        self.of_right, self.of_left = layer.before.weight.chunk(2)

    def enter(self, features: Float[Tensor, "B 2*h 1 W"]) -> None:
        """The row above is complete: the LSTM that goes to the left takes it."""
        self.above = self.right[..., 1:].clone()
        if not self.top:
            seen = self.layer.seen_turned(features)[:, :, 0]
            beside = c = torch.zeros_like(self.left[..., :1])
            for j in reversed(range(seen.shape[2])):
                at = slice(j, j + 1)
                before = conv1d(torch.cat([self.left[..., at], beside], 2), self.of_left)
                beside, c = lstm(seen[..., at] + before, c)
                self.left[..., at] = beside
        self.top = False

    def pixel(self, features: Float[Tensor, "B 2*h 1 2"], j: int) -> Float[Tensor, "B h 1 1"]:
        at, next_ = slice(j, j + 1), slice(j + 1, j + 2)
        before = conv1d(torch.cat([self.above[..., at], self.right[..., at]], 2), self.of_right)
        units, self.c[..., next_] = lstm(self.layer.seen(features[..., 1:])[:, :, 0] + before, self.c[..., at])
        self.right[..., next_] = units
        return (units + self.left[..., at])[:, :, None]

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        self.left, self.right, self.c = self.left[rows], self.right[rows], self.c[rows]


class Steps:
    """As `Walk`: of the row so far, the features that each layer is given, and what its LSTM keeps."""

    def __init__(self, model: PixelRnn, count: int, label: Label):
        self.model, self.label, self.row = model, label, -1
        weight = model.above.weight
        self.x = weight.new_zeros(count, model.colours, REACH + model.height, model.width)
        self.kept: list[RowSteps | DiagonalSteps] = [layer.start(count, model.width) for layer in model.lstms]
        self.features = [weight.new_zeros(count, len(weight), 1, 1 + model.width) for _ in model.lstms]

    def logits(self, x: Float[Tensor, "B C H W"], i: int, j: int) -> Float[Tensor, "B C n"]:
        self.x[:, :, REACH:] = x
        if i != self.row:
            self.row = i
            self.told = self.model.told(self.x[:, :, i : i + REACH], self.label)
            for kept, features in zip(self.kept, self.features, strict=True):
                kept.enter(features[..., 1:])
        left = pad(x[:, :, i : i + 1, : j + 1], (REACH, 0))[..., -1 - REACH :]
        features = self.told[..., j : j + 1] + self.model.left(left)
        for n, (kept, out) in enumerate(zip(self.kept, self.model.outs, strict=True)):
            self.features[n][..., 1 + j] = features[..., 0]
            features = features + out(kept.pixel(self.features[n][..., j : j + 2], j))
        return self.model.head(features)[..., 0, 0]

    def go_on(self, rows: Int[Tensor, "B"]) -> None:
        self.features = [features[rows] for features in self.features]
        for kept in self.kept:
            kept.go_on(rows)
