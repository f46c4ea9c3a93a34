"""`vqvae`: pictures as small grids of codes from a book, for a prior of such grids to learn.

Van den Oord, Vinyals, Kavukcuoglu: "Neural Discrete Representation Learning", NeurIPS 2017. Each vector z of the
encoder is taken for the nearest entry e of the book, k = argmin_j ‖z − e_j‖; gradients pass to z as if it were e:
    L = mean ‖x − g(z + sg[e − z])‖² / σ² + β mean ‖z − sg[e]‖²                (eq. 3; σ²: of the training pictures)
The book follows by moving averages of how many z each entry is nearest to, and of their sum (appendix A.1):
    N_j ← γ N_j + (1 − γ) n_j,   m_j ← γ m_j + (1 − γ) Σ z,   e_j = m_j / N_j
Entries that have come out of use are put where some z is.

A run is data for a prior: neural3d train RUN --method pixelcnn (or transformer) --set values=levels learns how its
grids look, `sample` of which gives pictures by way of this run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding

from neural3d.config import Count, Layers, Width
from neural3d.examples.examples import ExampleBatch, Examples, ExampleSource
from neural3d.priors.base import Coded, PriorConfig
from neural3d.priors.upsampling import Up, Upsampling, require_halves

DEAD = 0.03  # of an even share: entries of less use are put elsewhere


@dataclass(frozen=True)
class VqVaeConfig(PriorConfig):
    """Settings of `vqvae`."""

    horizon: Count = 10_000
    entries: Annotated[int, 2, 256] = 256  # of the book
    length: Width = 16  # of an entry
    channels: Width = 32
    depth: Layers = 2  # how often the picture's size is halved
    blocks: Layers = 1  # residual blocks, each way
    upsampling: Upsampling = "transposed"  # see neural3d/priors/upsampling.py; not unpooling
    commitment: float = 0.25  # β
    decay: float = 0.99  # γ


class VqVae(Coded):
    """See the module's docstring. A code is the grid's entries by their numbers, (B, h · w)."""

    Config = VqVaeConfig
    wants = "images"
    book: Float[Tensor, "K L"]
    counts: Float[Tensor, "K"]  # N
    sums: Float[Tensor, "K L"]  # m
    variance: Float[Tensor, ""]

    def __init__(self, config: VqVaeConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        require_halves(scene.shape, c.depth)
        if c.upsampling == "unpooling":
            raise ValueError("upsampling=unpooling needs the maxima of a picture, which a code does not hold")
        self.grid = [1, scene.shape[1] >> c.depth, scene.shape[2] >> c.depth]
        inputs = [scene.shape[0], *[c.channels] * c.depth]
        halving = [nn.Sequential(nn.Conv2d(n, c.channels, 4, 2, 1), nn.ReLU()) for n in inputs[:-1]]
        ends = [*[c.channels] * (c.depth - 1), scene.shape[0]] if c.depth else []
        self.encoder = nn.Sequential(
            *halving, *(Residual(c.channels) for _ in range(c.blocks)), nn.Conv2d(inputs[-1], c.length, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(c.length, c.channels, 3, padding=1),
            *(Residual(c.channels) for _ in range(c.blocks)),
            *(nn.Sequential(nn.ReLU(), Up(c.upsampling, c.channels, n)) for n in ends),
        )
        self.register_buffer("book", torch.randn(c.entries, c.length))
        self.register_buffer("counts", torch.zeros(c.entries))
        self.register_buffer("sums", torch.zeros(c.entries, c.length))
        self.register_buffer("variance", torch.ones(()))

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        self.variance.copy_((source.values.float() * source.scale).var().clamp(min=1e-6))
        return source

    def nearest(self, z: Float[Tensor, "B L h w"]) -> Int[Tensor, "B h w"]:
        """argmin_j ‖z − e_j‖² = argmin_j ‖e_j‖² − 2 zᵀe_j"""
        flat = z.movedim(1, -1)
        return (self.book.square().sum(1) - 2 * flat @ self.book.T).argmin(-1)

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        z = self.encoder(batch.x)
        with torch.no_grad():
            if not self.counts.any():
                self._revive(z, torch.ones_like(self.counts, dtype=torch.bool), generator)
            index = self.nearest(z)
            e = embedding(index, self.book).movedim(-1, 1)
        back = self.decoder(z + (e - z).detach())
        misfit = (back - batch.x).square().mean() / self.variance
        commitment = self.config.commitment * (z - e).square().mean()
        with torch.no_grad():
            self._follow(z, index, generator)
        metrics = {"error": (misfit * self.variance).detach(), "used": lambda: self._used(index)}
        return {"misfit": misfit, "commitment": commitment}, metrics

    def _follow(self, z: Tensor, index: Int[Tensor, "B h w"], generator: torch.Generator) -> None:
        c, rows = self.config, index.flatten()
        flat = z.detach().movedim(1, -1).flatten(0, -2)
        count = torch.bincount(rows, minlength=c.entries).to(flat)
        total = torch.zeros_like(self.sums).index_add_(0, rows, flat)
        self.counts.lerp_(count, 1 - c.decay)
        self.sums.lerp_(total, 1 - c.decay)
        self.book.copy_(self.sums / self.counts.clamp(min=1e-9)[:, None])
        self._revive(z, self.counts < DEAD * len(rows) / c.entries, generator)

    def _revive(self, z: Tensor, dead: Tensor, generator: torch.Generator) -> None:
        """Entries without use go where some of the batch's vectors are, and count as if in even use."""
        flat = z.detach().movedim(1, -1).flatten(0, -2)
        some = torch.randint(len(flat), (len(dead),), generator=generator, device=flat.device)
        share = len(flat) / len(dead)
        self.counts.copy_(torch.where(dead, share, self.counts))
        self.sums.copy_(torch.where(dead[:, None], share * flat[some], self.sums))
        self.book.copy_(torch.where(dead[:, None], flat[some], self.book))

    def _used(self, index: Int[Tensor, "B h w"]) -> float:
        """Share of the entries that a batch makes use of, each as much as the most: e^entropy / K."""
        share = torch.bincount(index.flatten(), minlength=len(self.book)) / index.numel()
        return float(torch.special.entr(share).sum().exp()) / len(self.book)

    def lessons(self, data: Callable[[], Any]) -> dict[str, np.ndarray]:
        """As `Teaching.lessons`: the grids of all examples."""
        return {split: z.astype(np.uint8).reshape(-1, *self.grid) for split, z in super().lessons(data).items()}

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h*w"]:
        return self.nearest(self.encoder(x)).flatten(1).float()

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "B h*w"]) -> Float[Tensor, "B C H W"]:
        index = z.round().long().clamp(0, len(self.book) - 1).view(-1, *self.grid[1:])
        return self.decoder(embedding(index, self.book).movedim(-1, 1)).clamp(0, 1)


class Residual(nn.Module):
    """x + W₂ relu(W₁ ∗ relu(x)): 3 × 3, then 1 × 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + self.second(torch.relu(self.first(torch.relu(x))))
