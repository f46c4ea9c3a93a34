"""Invertible layers, of which flows are made.

Each y = f(x) comes with log |det ∂f/∂x| of every example; `inverse` gives x back. Arrays are (B, C) or (B, C, H, W).
Some depend on what else is seen, of the same height and width: f(x; seen), invertible in x.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neural3d.priors.coupling_nets import ConvNet, VectorNet

Seen = Tensor | None  # (B, S) or (B, S, H, W)


class Bijection(nn.Module, abc.ABC):
    @abc.abstractmethod
    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Float[Tensor, "B"]]:
        """(f(x), log |det|)"""

    @abc.abstractmethod
    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor: ...


class ActNorm(Bijection):
    """y = e^s x + b, one s and b for each channel, which give the first batch mean 0 and variance 1 (Glow, 3.1).

    log |det| = H W Σ s.
    """

    ready: Float[Tensor, ""]

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("ready", torch.zeros(()))

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        if self.training and not self.ready:
            with torch.no_grad():
                over = [d for d in range(x.ndim) if d != 1]
                self.log_scale.copy_(-x.std(over, unbiased=False).clamp(min=1e-6).log())
                self.bias.copy_(-x.mean(over) * self.log_scale.exp())
                self.ready.fill_(1)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        places = x[0, 0].numel()
        log_det = (places * self.log_scale.sum()).expand(len(x))
        return x * self.log_scale.exp().view(shape) + self.bias.view(shape), log_det

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        shape = [1, -1, *[1] * (y.ndim - 2)]
        return (y - self.bias.view(shape)) * (-self.log_scale).exp().view(shape)


class Mixing(Bijection):
    """An invertible 1 × 1 convolution, y = W x at every place, W = P L (U + diag(s)) (Glow, 3.2).

    P: a permutation that stays; L: lower triangular, ones on its diagonal; U: strictly upper triangular.
    log |det| = H W Σ log |s|. The start is a random rotation.
    """

    permutation: Float[Tensor, "C C"]
    sign: Float[Tensor, "C"]

    def __init__(self, channels: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_size = nn.Parameter(upper.diagonal().abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(self.sign).diag()
        return self.lower.tril(-1) + one, self.upper.triu(1) + torch.diag(self.sign * self.log_size.exp())

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        lower, upper = self.factors()
        matrix = self.permutation @ lower @ upper
        y = x @ matrix.T if x.ndim == 2 else torch.einsum("ij,bj...->bi...", matrix, x)
        return y, (x[0, 0].numel() * self.log_size.sum()).expand(len(x))

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        lower, upper = self.factors()
        rows = torch.einsum("ji,bj...->i...b", self.permutation, y).flatten(1)
        solved = torch.linalg.solve_triangular(lower, rows, upper=False, unitriangular=True)
        solved = torch.linalg.solve_triangular(upper, solved, upper=True)
        return solved.view(y.shape[1], *y.shape[2:], len(y)).movedim(-1, 0)


class Coupling(Bijection):
    """Some values scale and shift the others: x_a stays, and with a net that sees x_a alone,

        y_b = x_b e^s(x_a) + t(x_a),   log |det| = Σ s(x_a)                            (RealNVP, eqs. 4 to 6)

    |s| < `limit`.
    """

    def __init__(self, net: nn.Module, limit: float = 2.0):
        super().__init__()
        self.net, self.limit = net, limit

    def affine(self, kept: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        s, t = self.net(kept if seen is None else torch.cat([kept, seen], 1)).chunk(2, 1)
        return self.limit * torch.tanh(s / self.limit), t


class ChannelCoupling(Coupling):
    """a: the first half of the channels, or every other one; `odd` takes the rest instead.

    The net sees the kept channels and makes the others alone: with a mask, which feeds it zeros and throws half of its
    outputs away, vectors were 0.8 nats of 36 behind after as many steps.
    """

    kept: Int[Tensor, "A"]
    free: Int[Tensor, "B"]

    def __init__(
        self, channels: int, make: Callable[[int, int], nn.Module], every_other: bool, odd: bool, limit: float = 2.0
    ):
        place = torch.arange(channels)
        kept = (place % 2 == odd) if every_other else ((place < channels // 2) != odd)
        super().__init__(make(int(kept.sum()), 2 * int((~kept).sum())), limit)
        self.register_buffer("kept", kept.nonzero()[:, 0])
        self.register_buffer("free", (~kept).nonzero()[:, 0])

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        s, t = self.affine(x.index_select(1, self.kept), seen)
        return x.index_copy(1, self.free, x.index_select(1, self.free) * s.exp() + t), s.flatten(1).sum(1)

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        s, t = self.affine(y.index_select(1, self.kept), seen)
        return y.index_copy(1, self.free, (y.index_select(1, self.free) - t) * (-s).exp())


class Checkerboard(Coupling):
    """a: the fields of one colour, by a mask m: the net sees m x (eqs. 7 to 9)."""

    mask: Float[Tensor, "1 1 H W"]

    def __init__(self, shape: list[int], make: Callable[[int, int], nn.Module], odd: bool):
        super().__init__(make(shape[0], 2 * shape[0]))
        place = torch.arange(shape[1])[:, None] + torch.arange(shape[2])
        self.register_buffer("mask", (place % 2 == odd).float()[None, None])

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        s, t = ((1 - self.mask) * part for part in self.affine(self.mask * x, seen))
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        s, t = ((1 - self.mask) * part for part in self.affine(self.mask * y, seen))
        return (y - t) * (-s).exp()


class Injector(Bijection):
    """What is seen alone scales and shifts all values, y = x e^s(seen) + t(seen) (SRFlow, 3.2). |s| < `limit`."""

    def __init__(self, net: nn.Module, limit: float = 2.0):
        super().__init__()
        self.net, self.limit = net, limit

    def _affine(self, seen: Seen) -> tuple[Tensor, Tensor]:
        s, t = self.net(seen).chunk(2, 1)
        return self.limit * torch.tanh(s / self.limit), t

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        s, t = self._affine(seen)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        s, t = self._affine(seen)
        return (y - t) * (-s).exp()


class Beyond(Bijection):
    """What x has beyond the first channels of what is seen, as many as its own. log |det| = 0."""

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        assert seen is not None
        return x - seen[:, : x.shape[1]], x.new_zeros(len(x))

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        assert seen is not None
        return y + seen[:, : y.shape[1]]


class Squeeze(Bijection):
    """Each 2 × 2 of a channel becomes four channels (RealNVP, 3.6). log |det| = 0."""

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        b, c, h, w = x.shape
        parts = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return parts.reshape(b, 4 * c, h // 2, w // 2), x.new_zeros(b)

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        b, c, h, w = y.shape
        parts = y.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return parts.reshape(b, c // 4, 2 * h, 2 * w)


class Regroup(Bijection):
    """Of four groups of channels, a₁ a₂ b₁ b₂, the middle ones change places: a₁ b₁ a₂ b₂. log |det| = 0."""

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        return x.unflatten(1, (2, 2, -1)).transpose(1, 2).flatten(1, 3), x.new_zeros(len(x))

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        return self.forward(y)[0]


class Beside(Bijection):
    """Two flows, the second of which sees the first: (a, b) → (f(a), g(b; f(a))), halves of the channels (C-Flow, 3.2).

    The Jacobian is triangular in blocks, so that log |det| = log |det ∂f/∂a| + log |det ∂g/∂b|.
    """

    def __init__(self, first: list[Bijection], second: list[Bijection]):
        super().__init__()
        self.first, self.second = nn.ModuleList(first), nn.ModuleList(second)

    def forward(self, x: Tensor, seen: Seen = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        log_det = x.new_zeros(len(x))
        for layer in self.first:
            a, own = layer(a)
            log_det = log_det + own
        for layer in self.second:
            b, own = layer(b, a)
            log_det = log_det + own
        return torch.cat([a, b], 1), log_det

    def inverse(self, y: Tensor, seen: Seen = None) -> Tensor:
        a, b = y.chunk(2, 1)
        for layer in reversed(self.second):
            b = layer.inverse(b, a)  # type: ignore[operator]
        for layer in reversed(self.first):
            a = layer.inverse(a)  # type: ignore[operator]
        return torch.cat([a, b], 1)


def coupling(shape: list[int], width: int, layers: int, pattern: str, odd: bool, seen: int = 0) -> Coupling:
    """Of halves, every other channel, or a checkerboard, with a network that suits the shape: convolutions for
    pictures, layers for vectors. seen: channels of what is seen besides."""
    net = ConvNet if len(shape) == 3 else VectorNet

    def make(inputs: int, outputs: int) -> nn.Module:
        return net(inputs + seen, outputs, width, layers)

    if pattern == "checkerboard":
        return Checkerboard(shape, make, odd)
    # Vectors may be guessed far from what is known (poses in a fit), where scales would multiply without measure.
    return ChannelCoupling(shape[0], make, pattern == "every other", odd, 2.0 if net is ConvNet else 0.7)
