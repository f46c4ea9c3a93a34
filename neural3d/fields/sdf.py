"""Signed distance fields: a ball of given radius plus what a network adds to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.fields.encodings import fourier_features, random_frequencies
from neural3d.fields.mlp import MLP
from neural3d.ops.hash_grid import HashGridSpec, hash_grid, hash_grid_position_gradient


class HashSDF(nn.Module):
    """f(x), g(x) = MLP(hash_grid(x)) with ‖x‖ − radius added to f: at the start the surface is a sphere.

    (Sphere initialisation after Atzmon & Lipman, "SAL", CVPR 2020; here the sphere is written out instead of being
    hidden in the weights, because hash-grid features vanish at the start.) Positions are in [-1, 1]³.
    smooth: softplus instead of ReLU in the network. Losses on ∂f/∂x (eikonal) work with both; with softplus ∂f/∂x has
        no jumps within a cell of the grid, with ReLU it costs a third.
    features: width of g, which a colour network sees.
    """

    def __init__(
        self, spec: HashGridSpec, *, width: int = 64, hidden_layers: int = 1, features: int = 0,
        radius: float = 0.5, smooth: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.spec, self.radius = spec, radius
        self.table = nn.Parameter((torch.rand(spec.entries, spec.features) * 2 - 1) * 1e-4)
        self.net = MLP(
            spec.width, 1 + features, width, hidden_layers, bias=True, twice_differentiable=smooth,
            hidden_activation="softplus" if smooth else "relu",
        )  # fmt: skip

    def param_groups(self, lr: float, lr_final: float) -> list[dict[str, Any]]:
        """For `neural3d.ops.adam.Adam`."""
        common = dict(lr=lr, lr_final=lr_final, betas=(0.9, 0.99), eps=1e-15)
        return [
            dict(params=[self.table], skip_untouched=True, by_rows=True, **common),
            dict(params=list(self.net.parameters()), **common),
        ]

    def show_levels(self, count: float) -> None:
        """Only the `count` coarsest levels are seen, the last of them in part: coarse to fine (Li et al. 2023)."""
        weights = tuple(min(1.0, max(0.0, count - level)) for level in range(self.spec.levels))
        if weights != self.spec.level_weights:
            self.spec = dataclasses.replace(self.spec, level_weights=weights)

    @property
    def finest_resolution(self) -> float:
        """Cells along the cube [-1, 1]³ of the finest level that is shown."""
        weights = self.spec.level_weights or (1.0,) * self.spec.levels
        return max(scale for scale, weight in zip(self.spec.scales, weights) if weight > 0)

    def forward(self, x: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N G"]]:
        """(signed distance, features)."""
        into = self.table.grad if self.training else None  # else normals of a picture would train the table
        out = self.net(hash_grid((x + 1) / 2, self.table, self.spec, table_grad=into))
        return out[:, 0] + _ball(x, self.radius)[0], out[:, 1:]

    def with_gradient(
        self, x: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N G"], Float[Tensor, "N 3"]]:
        """(signed distance, features, ∂f/∂x), all differentiable in the parameters.

        The chain rule by hand, so that no second derivative with respect to positions is computed.
        """
        training = torch.is_grad_enabled() and self.table.requires_grad
        if training and self.table.grad is None:  # from the first step on, so that sums have the same order in all
            self.table.grad = torch.zeros_like(self.table)
        into = self.table.grad if training else None
        unit = (x + 1) / 2
        encoded = hash_grid(unit, self.table, self.spec, table_grad=into)
        if self.net.twice_differentiable:
            with torch.enable_grad():
                if not encoded.requires_grad:
                    encoded.requires_grad_()
                out = self.net(encoded)
                (v_encoded,) = torch.autograd.grad(out[:, 0].sum(), encoded, create_graph=training)
        else:
            out, v_encoded = self.net.with_gradient(encoded)
        v_unit = hash_grid_position_gradient(unit, self.table, v_encoded, self.spec, table_grad=into)
        ball, radial = _ball(x, self.radius)
        return out[:, 0] + ball, out[:, 1:], v_unit / 2 + radial


class FourierSDF(nn.Module):
    """f(x), g(x) = MLP(x, γ(x)) with ‖x‖ − radius added to f; γ: random Fourier features (Tancik et al. 2020).

    Smooth everywhere, where `HashSDF` has kinks between cells, and slower. sigma: of the frequencies, cycles per unit.
    """

    frequencies: Tensor

    def __init__(
        self, *, frequencies: int = 64, sigma: float = 1.0, width: int = 128, hidden_layers: int = 3,
        features: int = 0, radius: float = 0.5,
    ):  # fmt: skip
        super().__init__()
        self.radius = radius
        self.register_buffer("frequencies", random_frequencies(frequencies, 3, sigma))
        self.net = MLP(
            3 + 2 * frequencies, 1 + features, width, hidden_layers, bias=True, twice_differentiable=True,
            hidden_activation="softplus",
        )  # fmt: skip
        with torch.no_grad():
            self.net.weights[-1].mul_(1e-2)  # the sphere alone at the start

    def param_groups(self, lr: float, lr_final: float) -> list[dict[str, Any]]:
        """For `neural3d.ops.adam.Adam`."""
        return [dict(params=list(self.net.parameters()), lr=lr, lr_final=lr_final, betas=(0.9, 0.99))]

    def forward(self, x: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N G"]]:
        """(signed distance, features)."""
        out = self.net(torch.cat([x, fourier_features(x, self.frequencies)], -1))
        return out[:, 0] + _ball(x, self.radius)[0], out[:, 1:]

    def with_gradient(
        self, x: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N G"], Float[Tensor, "N 3"]]:
        """(signed distance, features, ∂f/∂x), all differentiable in the parameters."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value, features = self(x)
            (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        return value, features, gradient


def _ball(x: Float[Tensor, "N 3"], radius: float) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
    """‖x‖ − radius and its gradient; 1e-12 keeps the gradient finite at the centre."""
    distance = (x.square().sum(-1) + 1e-12).sqrt()
    return distance - radius, x / distance[:, None]
