"""A signed distance on a hash grid, with colours on a grid of their own, and how sharp its surface is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.fields.mlp import MLP, Precision
from neural3d.fields.sdf import HashSDF
from neural3d.ops.hash_grid import HashGridSpec, hash_grid
from neural3d.ops.spherical_harmonics import spherical_harmonics

BASIS = 16  # harmonics of the direction


class ColoredSDF(HashSDF):
    """c(x, n, d) = sigmoid(MLP(hash_grid(x), n, SH(d))) beside f(x), n = ∇f.

    Colours have all levels of their grid from the start, and see the normal but do not turn it (`methods.neus`: why).
    color_log2_table: entries per level of the colours' grid at most; its levels are as many and as fine as f's.
    sharpness: s at the start, in 1 / unit; its logarithm is a parameter. precision: of the colours' network.
    """

    def __init__(
        self, spec: HashGridSpec, *, color_log2_table: int, width: int, radius: float, sharpness: float,
        precision: Precision,
    ):  # fmt: skip
        super().__init__(spec, width=width, radius=radius)
        self.color_spec = dataclasses.replace(spec, log2_table=color_log2_table)
        self.color_table = nn.Parameter((torch.rand(self.color_spec.entries, 2) * 2 - 1) * 1e-4)
        inputs = self.color_spec.width + 3 + BASIS
        self.color_net = MLP(inputs, 3, width, 2, output_activation="sigmoid", precision=precision)
        self.log_s = nn.Parameter(torch.tensor(math.log(sharpness)))

    def color_groups(self, lr: float, lr_final: float, warmup: int) -> list[dict[str, Any]]:
        """As `param_groups`, which are those of f alone."""
        common = dict(lr=lr, lr_final=lr_final, warmup=warmup, betas=(0.9, 0.99), eps=1e-15)
        return [
            dict(params=[self.color_table], skip_untouched=True, by_rows=True, **common),
            dict(params=list(self.color_net.parameters()), **common),
        ]

    def signed_distance(self, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """In scene units, negative inside."""
        return self(positions)[0]

    @property
    def sharpness(self) -> Float[Tensor, ""]:
        """s: the light is lost within a few 1/s, in scene units, of the surface."""
        return self.log_s.exp()

    def radiance(
        self, positions: Float[Tensor, "S 3"], gradient: Float[Tensor, "S 3"], view_basis: Float[Tensor, "S B"]
    ) -> Float[Tensor, "S 3"]:
        """Colours. gradient: ∇f there. view_basis: harmonics of the directions; 0: the same from all sides."""
        into = self.color_table.grad if self.training else None
        features = hash_grid((positions + 1) / 2, self.color_table, self.color_spec, table_grad=into)
        return self.color_net((torch.cat([features, gradient.detach()], -1), view_basis))

    @torch.no_grad()
    def color(
        self, positions: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"], views: float
    ) -> Float[Tensor, "N 3"]:
        """views: how much colours depend on the direction."""
        return self.radiance(positions, self.with_gradient(positions)[2], spherical_harmonics(directions) * views)
