"""Fields with closed forms, to test renderers, gradients and meshes against truth; and the scene of `neural3d demo`.

Solids give their signed distance (negative inside), its exact gradient, volume and surface area. `Fog` is a radiance
field whose picture is known in closed form. Points are (..., 3); everything is differentiable and follows the dtype of
the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.synthetic.demo import make_demo_scene

__all__ = ["Box", "Fog", "Sphere", "Torus", "make_demo_scene"]

Vec3 = tuple[float, float, float]


@dataclass(frozen=True)
class Sphere:
    """All points within `radius` of `centre`."""

    radius: float = 0.5
    centre: Vec3 = (0.0, 0.0, 0.0)

    def sdf(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        return (x - x.new_tensor(self.centre)).norm(dim=-1) - self.radius

    def gradient(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Unit length; 0 at the centre, where the distance has no gradient."""
        return torch.nn.functional.normalize(x - x.new_tensor(self.centre), dim=-1)

    @property
    def volume(self) -> float:
        return 4 / 3 * math.pi * self.radius**3

    @property
    def area(self) -> float:
        return 4 * math.pi * self.radius**2


@dataclass(frozen=True)
class Box:
    """The axis-aligned box of half side lengths `half` around `centre`."""

    half: Vec3 = (0.5, 0.5, 0.5)
    centre: Vec3 = (0.0, 0.0, 0.0)

    def _excess(self, x: Tensor) -> tuple[Tensor, Tensor]:
        offset = x - x.new_tensor(self.centre)
        return offset, offset.abs() - x.new_tensor(self.half)

    def sdf(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Outside: distance to the nearest face, edge or corner. Inside: minus the distance to the nearest face."""
        _, q = self._excess(x)
        return q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0)

    def gradient(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Unit length; inside, where two faces are equally near, that of the first axis."""
        offset, q = self._excess(x)
        sign = torch.where(offset < 0, -1, 1).to(x.dtype)
        nearest_face = torch.nn.functional.one_hot(q.argmax(dim=-1), 3).to(x.dtype)
        outside = (q > 0).any(dim=-1, keepdim=True)
        return sign * torch.where(outside, torch.nn.functional.normalize(q.clamp_min(0), dim=-1), nearest_face)

    @property
    def volume(self) -> float:
        return 8 * self.half[0] * self.half[1] * self.half[2]

    @property
    def area(self) -> float:
        a, b, c = self.half
        return 8 * (a * b + b * c + c * a)


@dataclass(frozen=True)
class Torus:
    """All points within `minor` of the circle of radius `major` around `centre` in the xy plane; minor < major."""

    major: float = 0.5
    minor: float = 0.2
    centre: Vec3 = (0.0, 0.0, 0.0)

    def sdf(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        p = x - x.new_tensor(self.centre)
        return torch.hypot(p[..., :2].norm(dim=-1) - self.major, p[..., 2]) - self.minor

    def gradient(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Unit length: away from the nearest point of the circle; not defined on the axis and on the circle."""
        p = x - x.new_tensor(self.centre)
        outward = torch.nn.functional.normalize(p[..., :2], dim=-1)
        flat = torch.cat([outward, torch.zeros_like(p[..., :1])], dim=-1)
        return torch.nn.functional.normalize(p - self.major * flat, dim=-1)

    @property
    def volume(self) -> float:
        return 2 * math.pi**2 * self.major * self.minor**2

    @property
    def area(self) -> float:
        return 4 * math.pi**2 * self.major * self.minor


@dataclass(frozen=True)
class Fog:
    """A ball of constant density sigma (1 / unit length) whose colour is linear in position: a radiance field with a
    closed-form picture.

    colour(x) = base + slope * (x - centre), per channel k along axis k, the same from all sides. A ray o + t d that
    crosses the ball on [t0, t1], of length L, gathers with a colour c(s) = c0 + c1 s, s = t - t0,

        C = int_0^L sigma e^(-sigma s) c(s) ds = c0 A + c1 (A / sigma - L e^(-sigma L)),    A = 1 - e^(-sigma L).
    """

    sigma: float = 4.0
    radius: float = 0.5
    centre: Vec3 = (0.0, 0.0, 0.0)
    base: Vec3 = (0.5, 0.5, 0.5)
    slope: Vec3 = (0.6, -0.6, 0.4)

    def density(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        inside = (x - x.new_tensor(self.centre)).norm(dim=-1) < self.radius
        return torch.where(inside, self.sigma, 0.0).to(x.dtype)

    def color(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        return x.new_tensor(self.base) + x.new_tensor(self.slope) * (x - x.new_tensor(self.centre))

    def render(
        self, origins: Float[Tensor, "*n 3"], directions: Float[Tensor, "*n 3"]
    ) -> tuple[Float[Tensor, "*n 3"], Float[Tensor, "*n"], Float[Tensor, "*n"]]:
        """Exact colour on black, opacity A, and expected distance int sigma e^(-sigma s) t ds (not divided by A).

        Directions are unit length; rays may start inside the ball. Rays that miss give 0.
        """
        to_centre = origins.new_tensor(self.centre) - origins
        middle = (to_centre * directions).sum(dim=-1)
        square = self.radius**2 - (to_centre.square().sum(dim=-1) - middle**2)
        half = square.clamp_min(0).sqrt()
        t0, t1 = (middle - half).clamp_min(0), (middle + half).clamp_min(0)
        length = t1 - t0
        left = torch.exp(-self.sigma * length)
        alpha = 1 - left
        first_moment = alpha / self.sigma - length * left
        c0 = self.color(origins + t0[..., None] * directions)
        c1 = origins.new_tensor(self.slope) * directions
        return c0 * alpha[..., None] + c1 * first_moment[..., None], alpha, t0 * alpha + first_moment
