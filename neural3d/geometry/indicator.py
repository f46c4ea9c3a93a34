"""The inside of a surface that is known by points and normals only: its indicator, blurred.

Notation: vectors μᵢ (outward, as long as the area they stand for) at points xᵢ; χ is 1 inside, 0 outside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Indicator:
    """χ of the solid whose surface has vectors μᵢ at points xᵢ, blurred by a Gaussian.

    ∇χ = −Σ μᵢ δ(x − xᵢ) in the least-squares sense, so Δχ = −∇·Σ μᵢ δ: the Poisson equation of Kazhdan, Bolitho &
    Hoppe (SGP 2006), here solved by FFT on a periodic grid around the points. width: the Gaussian's standard deviation;
    one per point where density varies: each point is then shared by two grids, whose widths are powers of two.
    """

    HALF = 1.25  # half the side of the periodic box, so that the shape, within 0.9, is far from its copies

    def __init__(self, points: Float[np.ndarray, "N 3"], width: float | Float[np.ndarray, "N"], cells: int = 64):
        side = 2 * self.HALF
        self.cells, self.cell = cells, side / cells
        self.corner, self.weight = self._corners(torch.from_numpy(points))
        k = 2 * math.pi * torch.fft.fftfreq(cells, side / cells)
        last = 2 * math.pi * torch.fft.rfftfreq(cells, side / cells)
        self.k = torch.stack(torch.meshgrid(k, k, last, indexing="ij"))
        self.k2 = (self.k**2).sum(0)
        self.k2[0, 0, 0] = 1  # the mean of χ, which `grid` sets by what lies outside
        self.outside = torch.zeros(cells, cells, cells)
        for face in self._faces(self.outside):
            face += 1 / (3 * cells**2)
        self.levels = [(self._gain(w), share) for w, share in _levels(width)]

    def _gain(self, width: float) -> Tensor:
        return torch.exp(-0.5 * width**2 * self.k2) / self.k2 / self.cell**3

    def grid(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "n n n"]:
        """χ − χ outside."""
        chi = self._back(1j * self._divergence(vectors))
        return chi - torch.stack(self._faces(chi)).mean((1, 2)).mean()  # in two steps: else threads share the sum

    def at(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """χ at the points: 1/2 where they lie on the surface."""
        return self._gather(self.grid(vectors))

    def sample(self, chi: Float[Tensor, "n n n"], places: Float[np.ndarray, "M 3"]) -> Float[Tensor, "M"]:
        """A grid's values between its points, trilinearly."""
        corner, weight = self._corners(torch.from_numpy(places))
        return (chi.flatten()[corner] * weight).sum(1)

    def adjoint(self, charges: Float[Tensor, "N"]) -> Float[Tensor, "N 3"]:
        """The transpose of `at`: minus the field of electric charges at the points."""
        spectrum = torch.fft.rfftn(self._splat(charges) - charges.sum() * self.outside)
        parts = []
        for gain, share in self.levels:
            field = torch.stack([self._gather(self._back(-1j * k * spectrum * gain)) for k in self.k], -1)
            parts.append(field if share is None else share[:, None] * field)
        return torch.stack(parts).sum(0)

    def ascent(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """−∇χ at the points."""
        divergence = self._divergence(vectors)
        return torch.stack([self._gather(self._back(k * divergence)) for k in self.k], -1)

    @staticmethod
    def _faces(grid: Float[Tensor, "n n n"]) -> list[Float[Tensor, "n n"]]:
        """Those of the periodic box, which lie outside of the shape."""
        return [grid[0], grid[:, 0], grid[:, :, 0]]

    def _divergence(self, vectors: Tensor) -> Tensor:
        """Blurred; without the factor i."""
        total = torch.zeros((), dtype=torch.complex64)
        for gain, share in self.levels:
            kept = vectors if share is None else share[:, None] * vectors
            for k, v in zip(self.k, kept.unbind(-1)):
                total = total + k * gain * torch.fft.rfftn(self._splat(v))
        return total

    def _back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum, s=(self.cells,) * 3)

    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Grid points (N, 8) around each point, and their weights in trilinear interpolation."""
        u = (points.double() + self.HALF) / self.cell
        cell = u.floor()
        bits = torch.tensor([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
        at = (cell.long()[:, None] + bits) % self.cells
        share = (u - cell)[:, None]
        weight = torch.where(bits.bool(), share, 1 - share).prod(-1)
        return (at[..., 0] * self.cells + at[..., 1]) * self.cells + at[..., 2], weight.float()

    def _splat(self, values: Float[Tensor, "N"]) -> Float[Tensor, "n n n"]:
        out = torch.zeros(self.cells**3)
        return out.index_add_(0, self.corner.flatten(), (self.weight * values[:, None]).flatten()).reshape(
            (self.cells,) * 3
        )

    def _gather(self, grid: Float[Tensor, "n n n"]) -> Float[Tensor, "N"]:
        return (grid.flatten()[self.corner] * self.weight).sum(1)


def _levels(width: float | Float[np.ndarray, "N"]) -> list[tuple[float, Float[Tensor, "N"] | None]]:
    """Widths, and which share of each point has that one: its own width lies between two neighbouring ones."""
    if np.ndim(width) == 0:
        return [(float(width), None)]
    smallest = float(np.min(width))
    level = torch.from_numpy(np.log2(width / smallest)).float()
    count = int(level.max().ceil()) + 1
    return [(smallest * 2**i, (1 - (level - i).abs()).clamp(min=0)) for i in range(count)]


def winding_matrix(
    points: Float[np.ndarray, "N 3"], width: Float[np.ndarray, "N"], at: Float[np.ndarray, "M 3"]
) -> Float[Tensor, "M N 3"]:
    """K with χ(at) = Σ K · μ, summed exactly instead of on a grid.

    K = S(r / w) d / 4π r³, d = xᵢ − at, r = |d|: Gauss's formula, each point a Gaussian of standard deviation w, which
    holds the share S(u) = erf(u / √2) − √(2 / π) u exp(−u² / 2) of its mass within u of these.
    """
    x, w = torch.from_numpy(points).float(), torch.from_numpy(width).float()
    rows = []
    for some in torch.from_numpy(at).float().split(64):
        d = x - some[:, None]
        r = d.norm(dim=-1) + 1e-6  # 1e-6: at a point itself d is 0, and so is its share
        u = r / w
        share = torch.erf(u / math.sqrt(2)) - math.sqrt(2 / math.pi) * u * torch.exp(-0.5 * u**2)
        rows.append(d * (share / (4 * math.pi * r**3))[..., None])
    return torch.cat(rows)
