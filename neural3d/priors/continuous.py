"""Continuous normalising flows: an invertible layer that is the way along a field of velocities.

Grathwohl et al.: "FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models", ICLR 2019. With
    dx/dt = f(x, t; a),   t from 0 to 1,      log |det ∂x(1)/∂x(0)| = ∫ tr(∂f/∂x) dt            (eq. 2)
the way back is the same field from 1 to 0. f is their concat-squash network with one hidden layer, which also sees a:
    f = g₂ ⊙ (W₂ h) + b₂,   h = tanh(g₁ ⊙ (W₁ x) + b₁),   g = σ(G [t, a] + c),   b = B [t, a] + d
    tr(∂f/∂x) = Σ_k (1 − h_k²) g₁_k Σ_i g₂_i W₂_ik W₁_ki
which is exact and one product of matrices, so no estimate of it (Hutchinson's) is needed. Both integrals are taken by
Runge's and Kutta's fourth-order steps of one length, whose error falls as its fourth power.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from neural3d.priors.bijections import Bijection, Seen

Rate = tuple[Float[Tensor, "B L"], Float[Tensor, "B"]]  # of x and of log |det|


class Continuous(Bijection):
    """See the module's docstring. The start is the identity: W₂ and b₂ are zero."""

    def __init__(self, length: int, seen: int, width: int, steps: int):
        super().__init__()
        self.length, self.width, self.steps = length, width, steps
        self.first, self.second = nn.Linear(length, width, bias=False), nn.Linear(width, length, bias=False)
        self.squash = nn.Linear(1 + seen, 2 * (width + length))  # logits of g₁, g₂, then b₁, b₂
        nn.init.zeros_(self.second.weight)
        with torch.no_grad():
            self.squash.weight[-length:] = 0
            self.squash.bias[-length:] = 0

    def rate(self, x: Float[Tensor, "B L"], squash: Float[Tensor, "B 2*(H+L)"]) -> Rate:
        """(f, tr ∂f/∂x)"""
        gates, shifts = squash.chunk(2, 1)
        g1, g2 = torch.sigmoid(gates).split([self.width, self.length], 1)
        b1, b2 = shifts.split([self.width, self.length], 1)
        h = torch.tanh(g1 * self.first(x) + b1)
        through = self.second.weight.T * self.first.weight  # W₂_ik W₁_ki, (H, L)
        trace = ((1 - h.square()) * g1 * linear(g2, through)).sum(1)
        return g2 * self.second(h) + b2, trace

    def along(self, x: Float[Tensor, "B L"], seen: Seen, start: float, end: float) -> Rate:
        """(x and log |det| at `end` of what is x at `start`)"""
        assert seen is not None
        weight, step = self.squash.weight, (end - start) / self.steps
        at_zero = linear(seen, weight[:, 1:], self.squash.bias)
        log_det = x.new_zeros(len(x))
        for i in range(self.steps):
            t = start + i * step
            near, middle, far = (at_zero + (t + share * step) * weight[:, 0] for share in (0, 0.5, 1))
            f1, d1 = self.rate(x, near)
            f2, d2 = self.rate(x + step / 2 * f1, middle)
            f3, d3 = self.rate(x + step / 2 * f2, middle)
            f4, d4 = self.rate(x + step * f3, far)
            x = x + step / 6 * (f1 + 2 * f2 + 2 * f3 + f4)
            log_det = log_det + step / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
        return x, log_det

    def forward(self, x: Float[Tensor, "B L"], seen: Seen = None) -> Rate:
        return self.along(x, seen, 0, 1)

    def inverse(self, y: Float[Tensor, "B L"], seen: Seen = None) -> Float[Tensor, "B L"]:
        return self.along(y, seen, 1, 0)[0]
