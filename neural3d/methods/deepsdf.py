"""The signed distance fields of a category as one network and a latent vector per shape.

Park, Florence, Straub, Newcombe, Lovegrove: "DeepSDF: Learning Continuous Signed Distance Functions for Shape
Representation", CVPR 2019. An auto-decoder: there is no encoder, latents z_i are parameters as the weights θ are,
    min over θ, z_i of  mean_j |clamp(f_θ(z_i, x_j), δ) − clamp(s_j, δ)| + λ ‖z_i‖²        (eqs. 9 and 4)
and a new shape's latent is found by the same descent with θ fixed (eq. 10): on signed distances where the shape is
known, on |f(z, p)| of the points p of its surface where only these are.

What differs: positions are encoded (NeRF's octaves), so that four layers of 128 do instead of eight of 512; no dropout
and no weight normalisation; the descent for a new shape starts from those training shapes that explain it best, because
from the mean it often ends in another kind of shape; and where only points are known, so is where none are (`code_of`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor, nn

from neural3d.config import Count, Layers, Width
from neural3d.fields.encodings import positional_encoding, positional_width
from neural3d.fields.mlp import MLP
from neural3d.geometry.solid import open_edges
from neural3d.methods.abilities import Generative, Teaching
from neural3d.methods.category import CategoryMethod, numpy_rng
from neural3d.methods.players import Player
from neural3d.shapes.category import HELD_OUT, CategoryBatch, CategorySource, ShapeSet, distance_samples

if TYPE_CHECKING:
    from neural3d.geometry.mesh import Field, Mesh

Error = Callable[[Tensor, Tensor], Tensor]  # of the field's values at points where a distance is known
GUESS = 512  # points of a new shape by which training shapes are compared with it


@dataclass(frozen=True)
class DeepSdfConfig:
    """Settings of `deepsdf`. Lengths are in scene units, in which the set's box has a longest side of 1.8."""

    horizon: Count = 12_000  # step at which learning rates reach their final value
    shapes: Count = 64  # per step
    points: Count = 128  # per shape and step
    clamp: float = 0.1  # δ: distances beyond count as δ

    latent: Width = 64  # numbers per shape
    latent_weight: float = 1e-4  # λ
    octaves: Layers = 5  # of the encoding of positions
    width: Width = 128  # of the hidden layers, at most 128
    hidden_layers: Layers = 4

    lr: float = 2e-3
    lr_final: float = 1e-4
    latent_lr: float = 5e-3
    latent_lr_final: float = 5e-4

    fit_steps: int = 200  # to find the latent of a new shape
    fit_points: Count = 512  # of it per step
    fit_pool: Count = 4096  # draws of a cloud's points, and as many places around them
    fit_starts: Count = 8  # training shapes from which the search starts; the best end counts
    fit_lr: float = 0.05  # in deviations of the known latents; falls to a tenth
    fit_prior: float = 1e-5  # λ': weight of ‖w‖²


class DeepSdf(CategoryMethod, Generative, Teaching):
    """See the module's docstring. A code is a latent (L,)."""

    Config = DeepSdfConfig
    level = None
    energy: Callable[[Float[Tensor, "S L"]], Float[Tensor, "S"]] | None = None  # of a prior, see `Generative`
    latents: Float[Tensor, "shapes L"]

    def __init__(self, config: DeepSdfConfig, scene: ShapeSet):
        super().__init__(config, scene)
        c = config
        encoded = positional_width(3, c.octaves, include_input=True)
        self.latents = nn.Parameter(0.1 * torch.randn(len(scene.members["train"]), c.latent) / c.latent**0.5)
        self.net = MLP(c.latent + encoded, 1, c.width, c.hidden_layers, bias=True)
        with torch.no_grad():
            self.net.weights[-1].mul_(0.1 * c.clamp)  # at the start all is within ±δ: beyond, nothing pulls it back

    def source(self, scene: ShapeSet, device: torch.device) -> CategorySource:
        return CategorySource(scene, device, points=self.config.points)

    @property
    def batch_size(self) -> int:
        return self.config.shapes * self.config.points

    def players(self) -> list[Player]:
        return [Player(self.param_groups(), self.loss)]

    def param_groups(self) -> list[dict[str, Any]]:
        c = self.config
        return [
            dict(params=list(self.net.parameters()), lr=c.lr, lr_final=c.lr_final),
            dict(params=[self.latents], lr=c.latent_lr, lr_final=c.latent_lr_final, skip_untouched=True),
        ]

    def distance(self, latents: Float[Tensor, "S L"], x: Float[Tensor, "S Q 3"]) -> Float[Tensor, "S Q"]:
        """f(z, x) in scene units, negative inside; beyond the clamp only its sign is learned."""
        position = positional_encoding(x, self.config.octaves, include_input=True)
        return self.net((latents[:, None].expand(-1, x.shape[1], -1), position))[..., 0]

    def loss(
        self, batch: CategoryBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        z = self.latents[batch.shape]
        error = self._error(self.distance(z, batch.points), batch.distance).mean()
        prior = self.config.latent_weight * z.square().sum(-1).mean()
        return {"distance": error, "prior": prior}, {"error": error.detach()}

    def _error(self, value: Tensor, target: Tensor) -> Tensor:
        c = self.config.clamp
        return (value.clamp(-c, c) - target.clamp(-c, c)).abs()

    # --- new shapes ---

    def code_of(self, cloud: Float[Tensor, "M 3"], generator: torch.Generator) -> Float[Tensor, "L"]:
        """The latent by what a cloud tells: f = 0 at its points p, and no surface where it has none.

        By |f(z, p)| alone, of 300 points, a latent is free between them and adds parts that no point contradicts. But
        a surface seen by random points of density ρ would have left π ρ (r² − f²)₊ of them, on average, in a ball of
        radius r around any x (the disc that the ball cuts out of a flat piece at distance |f|). Where d(x) is the
        distance to the nearest point, the ball of r = min(d, δ) holds none, so that what is sought is the least
            mean_p min(|f(z, p)|, δ) + mean_x δ (min(d(x), δ)² − f(z, x)²)₊ / max(g, δ/2)²  + 2 λ' ‖w‖²
        over x anywhere in the box. g² = 1 / (π ρ) is the mean squared distance of random points to their nearest
        neighbour; the bound δ/2 is there because points may coincide, and because a cloud of more points is no more
        than a cloud to the first term either. What a partial cloud lacks is denied too, but the category decides: it
        knows few shapes that end where the cloud does.
        """
        c = self.config
        low, high = self.scene.aabb.to(cloud)
        anywhere = low + (high - low) * torch.rand(c.fit_pool, 3, generator=generator, device=cloud.device)
        tree = cKDTree(cloud.cpu().numpy())
        distance = torch.from_numpy(tree.query(anywhere.cpu().numpy())[0]).to(cloud)
        gap = float(np.square(tree.query(tree.data, k=2)[0][:, 1]).mean() ** 0.5)
        weight = c.clamp / max(gap, c.clamp / 2) ** 2

        def error(value: Tensor, d: Tensor) -> Tensor:
            size = value.abs().clamp(max=c.clamp)
            missed = weight * (d.clamp(max=c.clamp).square() - size.square()).clamp(min=0)
            return torch.where(d == 0, size, missed)

        some = torch.randint(len(cloud), (c.fit_pool,), generator=generator, device=cloud.device)
        points = torch.cat([cloud[some], anywhere])
        return self._fit(points, torch.cat([torch.zeros_like(distance), distance]), error, generator)

    def code_of_mesh(self, mesh: Mesh, generator: torch.Generator) -> Float[Tensor, "L"]:
        """From signed distances around a closed mesh; from points alone of an open one."""
        if open_edges(mesh) or mesh.volume <= 0:
            return super().code_of_mesh(mesh, generator)
        seed = int(numpy_rng(generator).integers(1 << 31))
        _, *known = distance_samples(mesh, self.scene.aabb.numpy(), seed)
        points, distance = (torch.from_numpy(a).to(generator.device) for a in known)
        return self._fit(points, distance, self._error, generator)

    @torch.enable_grad()
    def _fit(
        self, points: Float[Tensor, "N 3"], distance: Float[Tensor, "N"], error: Error, generator: torch.Generator
    ) -> Float[Tensor, "L"]:
        """The latent of least mean error(f(z, x), distance) over these points.

        Sought as z = μ + w A in the frame of the known latents, in which these have unit variance in all directions;
        λ' ‖w‖² keeps to what is likely (μ: their mean, Aᵀ A: their covariance).
        """
        c = self.config
        mean, frame = self._frame()
        w = (self._starts(points, distance, error, generator) - mean) @ torch.linalg.pinv(frame)
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        for step in range(c.fit_steps):
            w = w.detach().requires_grad_()
            some = torch.randint(len(points), (c.fit_points,), generator=generator, device=points.device)
            value = self.distance(mean + w @ frame, points[some].expand(len(w), -1, 3))
            misfit = error(value, distance[some]).mean(1)
            loss = (misfit + self._unlikely(w, mean + w @ frame)).sum()  # starts do not see each other
            (v_w,) = torch.autograd.grad(loss, w)
            rate = c.fit_lr * 0.1 ** (step / c.fit_steps)
            m, v = 0.9 * m + 0.1 * v_w, 0.999 * v + 0.001 * v_w.square()  # Adam, on no parameter of ours
            m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            w = w.detach() - rate * m_hat / (v_hat.sqrt() + 1e-8)
        z = mean + w @ frame
        with torch.no_grad():
            return z[(self._misfit(z, points, distance, error) + self._unlikely(w, z)).argmin()]

    def _unlikely(self, w: Float[Tensor, "S K"], z: Float[Tensor, "S L"]) -> Float[Tensor, "S"]:
        """λ' ‖w‖², which is 2 λ' (−log p) of the normal distribution but for a constant; or of a prior's."""
        return self.config.fit_prior * (w.square().sum(-1) if self.energy is None else 2 * self.energy(z))

    def _frame(self) -> tuple[Float[Tensor, "L"], Float[Tensor, "K L"]]:
        """μ and A of the training shapes' latents: A's rows are the covariance's axes, as long as its deviations."""
        z = self.latents.detach()
        mean = z.mean(0)
        _, size, axes = torch.linalg.svd((z - mean) / max(1, len(z) - 1) ** 0.5, full_matrices=False)
        return mean, size[:, None] * axes

    @torch.no_grad()
    def _starts(
        self, points: Tensor, distance: Tensor, error: Error, generator: torch.Generator
    ) -> Float[Tensor, "starts L"]:
        """The latents of the training shapes that explain some of the points best."""
        some = torch.randperm(len(points), generator=generator, device=points.device)[:GUESS]
        misfit = self._misfit(self.latents, points[some], distance[some], error)
        return self.latents[misfit.argsort()[: self.config.fit_starts]].detach()

    @torch.no_grad()
    def _misfit(
        self, latents: Float[Tensor, "S L"], points: Tensor, distance: Tensor, error: Error
    ) -> Float[Tensor, "S"]:
        errors = [error(self.distance(z, points.expand(len(z), -1, 3)), distance) for z in latents.split(32)]
        return torch.cat(errors).mean(1)

    def field(self, code: Float[Tensor, "L"]) -> Field:
        return lambda x: self.distance(code[None], x[None])[0]

    def lessons(self, data: Callable[[], Any]) -> dict[str, np.ndarray]:
        """As `Teaching.lessons`: the latents, every 8th held out."""
        latents, held = self.latents.detach().cpu().numpy(), np.arange(len(self.latents)) % HELD_OUT == 0
        return {"train": latents[~held], "test": latents[held]}

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count L"]:
        """New latents from the normal distribution with the mean and covariance of the training shapes' latents."""
        mean, frame = self._frame()
        return mean + torch.randn(count, len(frame), generator=generator, device=frame.device) @ frame
