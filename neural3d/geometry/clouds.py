"""What a point cloud tells before anything is fitted: its spacing, its noise, which way its normals point.

Notation: points xᵢ (N, 3) on and around a closed surface whose inside has the indicator χ; normals nᵢ point outward.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Float
from torch import Tensor

PLANE_NEIGHBOURS = 60  # of the planes that give normals; noise wants many
NOISE_NEIGHBOURS = (16, 32, 64, 128, 256)  # tried in turn until a neighbourhood is flat rather than round
NOISE_SAMPLE = 1500  # points at which noise is measured
FLAT = 0.5  # thickness over width up to which a neighbourhood counts as flat
DAMPINGS = (10.0, 30.0, 100.0)  # of the least-norm system, in shares of its diagonal
WIDTHS = (0.06, 0.045)  # of the Gaussian that blurs χ while normals are turned; points span 1.8
SHARPENINGS = 4  # times that normals follow the field they make
JUDGING_WIDTH = 0.05  # blur of the χ by which tries are compared


def spacing(points: Float[np.ndarray, "N 3"], neighbours: int = 8) -> float:
    """Typical distance between neighbours: k points in a disc of radius r have the spacing r √(π / k)."""
    distance = scipy.spatial.cKDTree(points).query(points, k=neighbours + 1)[0][:, -1]
    return float(np.median(distance)) * math.sqrt(math.pi / neighbours)


def noise(points: Float[np.ndarray, "N 3"]) -> float:
    """Standard deviation of the points' distance from the surface.

    Heights above the plane through a point's neighbours are fitted by a quadratic; what it leaves over, averaged over
    the degrees of freedom, is noise and whatever of the shape is no quadratic at that scale. The scale is the smallest
    one at which neighbourhoods are flat: below, noise spreads the neighbours in all directions alike.
    """
    tree = scipy.spatial.cKDTree(points)
    some = points[np.linspace(0, len(points) - 1, min(len(points), NOISE_SAMPLE)).astype(int)]
    for k in NOISE_NEIGHBOURS:
        near = points[tree.query(some, k=min(k, len(points)))[1]]
        near = near - near.mean(1, keepdims=True)
        spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
        if np.median(spread[:, 0] / spread[:, 1]) < FLAT**2:
            break
    near = near @ axes / np.sqrt(spread[:, None, 2:] / near.shape[1])  # in units of the neighbourhood's width
    h, u, v = near.transpose(2, 0, 1)
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    normal_matrix = np.einsum("nki,nkj->nij", basis, basis) + 1e-9 * np.eye(6)  # neighbours on one line
    solution = np.linalg.solve(normal_matrix, np.einsum("nki,nk->ni", basis, h)[..., None])[..., 0]
    left = h - np.einsum("nki,ni->nk", basis, solution)
    variance = (left**2).sum(1) / max(1, near.shape[1] - 6) * spread[:, 2] / near.shape[1]
    return float(np.sqrt(np.median(variance)))


def plane_normals(points: Float[np.ndarray, "N 3"], neighbours: int) -> Float[np.ndarray, "N 3"]:
    """Unit normals, of either sign, of the planes through each point's neighbours (Hoppe et al., SIGGRAPH 1992)."""
    near = points[scipy.spatial.cKDTree(points).query(points, k=min(neighbours, len(points)))[1]]
    near = near - near.mean(1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]


class Indicator:
    """χ, blurred, of the solid whose surface has vectors μᵢ (outward, as long as their share of the area) at points xᵢ.

    ∇χ = −Σ μᵢ δ(x − xᵢ) in the least-squares sense, so Δχ = −∇·Σ μᵢ δ: the Poisson equation of Kazhdan, Bolitho &
    Hoppe (SGP 2006), here solved by FFT on a periodic grid around the points, and blurred by a Gaussian.
    """

    HALF = 1.5  # half the side of the periodic box, so that the shape, within 1, is far from its copies
    CELLS = 64

    def __init__(self, points: Float[np.ndarray, "N 3"], width: float):
        n, side = self.CELLS, 2 * self.HALF
        self.corner, self.weight = self._corners(torch.from_numpy(points))
        k = 2 * math.pi * torch.fft.fftfreq(n, side / n, dtype=torch.float64)
        last = 2 * math.pi * torch.fft.rfftfreq(n, side / n, dtype=torch.float64)
        self.k = torch.stack(torch.meshgrid(k, k, last, indexing="ij"))
        self.k2 = (self.k**2).sum(0)
        self.k2[0, 0, 0] = 1  # the mean of χ, which `at` sets by what lies outside
        faces = torch.zeros(n, n, n, dtype=torch.float64)
        faces[0] = faces[:, 0] = faces[:, :, 0] = 1
        self.outside = faces / faces.sum()
        self.blur(width)

    def blur(self, width: float) -> None:
        """Sets the Gaussian's standard deviation."""
        cell = (2 * self.HALF / self.CELLS) ** 3
        self.gain = torch.exp(-0.5 * width**2 * self.k2) / self.k2 / cell

    def grid(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "n n n"]:
        """χ − χ outside."""
        chi = self._back(1j * self._divergence(vectors) * self.gain)
        return chi - (chi * self.outside).sum()

    def at(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """χ at the points: 1/2 where they lie on the surface."""
        return self._gather(self.grid(vectors))

    def adjoint(self, charges: Float[Tensor, "N"]) -> Float[Tensor, "N 3"]:
        """The transpose of `at`: minus the field of electric charges at the points."""
        spectrum = torch.fft.rfftn(self._splat(charges) - charges.sum() * self.outside)
        return torch.stack([self._gather(self._back(-1j * k * spectrum * self.gain)) for k in self.k], -1)

    def ascent(self, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """−∇χ at the points."""
        divergence = self._divergence(vectors) * self.gain
        return torch.stack([self._gather(self._back(k * divergence)) for k in self.k], -1)

    def _divergence(self, vectors: Tensor) -> Tensor:
        return sum(k * torch.fft.rfftn(self._splat(v)) for k, v in zip(self.k, vectors.unbind(-1)))  # type: ignore

    def _back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum, s=(self.CELLS,) * 3)

    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Grid points (N, 8) around each point, and their weights in trilinear interpolation."""
        u = (points.double() + self.HALF) * (self.CELLS / (2 * self.HALF))
        cell = u.floor()
        bits = torch.tensor([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
        at = (cell.long()[:, None] + bits) % self.CELLS
        share = (u - cell)[:, None]
        weight = torch.where(bits.bool(), share, 1 - share).prod(-1)
        return (at[..., 0] * self.CELLS + at[..., 1]) * self.CELLS + at[..., 2], weight

    def _splat(self, values: Float[Tensor, "N"]) -> Float[Tensor, "n n n"]:
        out = torch.zeros(self.CELLS**3, dtype=torch.float64)
        return out.index_add_(0, self.corner.flatten(), (self.weight * values[:, None]).flatten()).reshape(
            (self.CELLS,) * 3
        )

    def _gather(self, grid: Float[Tensor, "n n n"]) -> Float[Tensor, "N"]:
        return (grid.flatten()[self.corner] * self.weight).sum(1)


def outward_normals(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Unit normals of the planes through each point's neighbours, on the side to which `outward_vectors` point."""
    normals = plane_normals(points, PLANE_NEIGHBOURS)
    inward = (normals * outward_vectors(points).numpy()).sum(1) < 0
    return np.where(inward[:, None], -normals, normals)


def outward_vectors(points: Float[np.ndarray, "N 3"]) -> Float[Tensor, "N 3"]:
    """Unit vectors that point out of the shape at each point, smooth along it, without any start or tree.

    First the shortest vectors μ for which χ is 1/2 at all points, μ = Aᵀ ξ with (A Aᵀ + damping) ξ = 1/2 (Lin, Xiao,
    Shi & Wang, "Surface Reconstruction from Point Clouds without Normals by Parametrizing the Gauss Formula", 2022),
    by conjugate gradients. Then μ ← −∇χ / |∇χ| a few times: normals agree with the field they make (Lin, Shi & Liu,
    "Fast and Globally Consistent Normal Orientation based on the Winding Number Normal Consistency", 2024).

    Which blur and damping suit is tried: χ varies more where parts are inside out, so the try counts in which it varies
    least over the points, in shares of its median.
    """
    judge = Indicator(points, JUDGING_WIDTH)
    least, vectors = math.inf, torch.empty(0)
    for width in WIDTHS:
        chi = Indicator(points, width)
        for damping in DAMPINGS:
            found = _sharpened(chi, _least_vectors(chi, damping))
            value = judge.at(found)
            variation = float(value.std() / value.median().abs())
            if variation < least:
                least, vectors = variation, found
    return vectors


def _least_vectors(chi: Indicator, damping: float) -> Float[Tensor, "N 3"]:
    """μ of `outward_vectors`. damping: in shares of the diagonal of A Aᵀ."""
    half = torch.full((len(chi.corner),), 0.5, dtype=torch.float64)
    one = torch.zeros_like(half)
    one[len(one) // 2] = 1
    damping = damping * float(one @ chi.at(chi.adjoint(one)))
    charges = _conjugate_gradients(lambda v: chi.at(chi.adjoint(v)) + damping * v, half, steps=20)
    return chi.adjoint(charges)


def _sharpened(chi: Indicator, vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    for _ in range(SHARPENINGS):
        vectors = torch.nn.functional.normalize(chi.ascent(vectors), dim=-1)
    return vectors


def _conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with A x = b for symmetric positive definite A (Hestenes & Stiefel 1952)."""
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    for _ in range(steps):
        q, rr = apply(p), r @ r
        step = rr / (p @ q)
        x, r = x + step * p, r - step * q
        p = r + (r @ r) / rr * p
    return x
