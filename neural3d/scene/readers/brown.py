"""Photogrammetry's common lens, Brown's, brought to COLMAP's camera models: exactly, or fitted with the error told.

With (u, v) on the plane of focal length 1 and r² = u² + v² (Brown 1971, OpenCV's order of p1 and p2),

    u' = u (1 + k₁ r² + k₂ r⁴ + …) + 2 p₁ u v + p₂ (r² + 2 u²) + s₀ r² + s₁ r⁴
    v' = v (1 + k₁ r² + k₂ r⁴ + …) + p₁ (r² + 2 v²) + 2 p₂ u v + s₂ r² + s₃ r⁴

and the pixel is (f_x u' + skew v' + c_x, f_y v' + c_y). COLMAP's models have no skew, no equisolid projection, and of
perspective lenses no k₄ r⁸, but a polynomial to divide by.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.lenses import project, unproject

GRID, MARGIN = (33, 25), 0.05  # samples of a fit: across and down the picture, and the share by which they overlap it
WIDEST = np.cos(np.radians(110))  # no lens looks further back; the corners beside a fisheye's round picture are black


@dataclass(frozen=True)
class Brown:
    """projection: perspective (u = x / z), equidistant (r = θ) or equisolid (r = 2 sin θ/2). Lengths in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    radial: tuple[float, ...] = ()  # k₁, k₂, …
    p1: float = 0.0
    p2: float = 0.0
    prism: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    skew: float = 0.0
    projection: str = "perspective"

    def pixels(self, directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        x, y, z = directions.T
        r = np.maximum(np.hypot(x, y), 1e-12)  # of unit directions: below it the pixel is the middle to within rounding
        angle = np.arctan2(r, z)
        on_plane = {"perspective": r / z, "equidistant": angle, "equisolid": 2 * np.sin(angle / 2)}[self.projection]
        u, v = x / r * on_plane, y / r * on_plane
        s = u * u + v * v
        factor = np.polynomial.polynomial.polyval(s, (1.0, *self.radial))
        s0, s1, s2, s3 = self.prism
        u_ = u * factor + 2 * self.p1 * u * v + self.p2 * (s + 2 * u * u) + s0 * s + s1 * s * s
        v_ = v * factor + self.p1 * (s + 2 * v * v) + 2 * self.p2 * u * v + s2 * s + s3 * s * s
        return np.stack([self.fx * u_ + self.skew * v_ + self.cx, self.fy * v_ + self.cy], -1)

    def colmap(self) -> tuple[str, Tensor, float]:
        """COLMAP's model, its parameters, and by how many pixels it is off at most within the picture (0: exact)."""
        return _colmap(self)


@functools.lru_cache(maxsize=4096)  # photos of one lens share it
def _colmap(lens: Brown) -> tuple[str, Tensor, float]:
    model, values, exact = (_perspective if lens.projection == "perspective" else _fisheye)(lens)
    params = torch.tensor(values, dtype=torch.float64)
    return (model, params, 0.0) if exact and not lens.skew else (model, *_fitted(lens, model, params))


def _perspective(lens: Brown) -> tuple[str, list[float], bool]:
    """The model that can say most of the lens, its parameters without the rest, and whether there is no rest."""
    if len(lens.radial) > 4 or any(lens.prism):
        raise ValueError("a perspective lens with thin prism terms or more than k1–k4")
    pinhole = [lens.fx, lens.fy, lens.cx, lens.cy]
    k1, k2, k3, k4 = (*lens.radial, 0.0, 0.0, 0.0, 0.0)[:4]
    if k3 or k4:
        return "FULL_OPENCV", [*pinhole, k1, k2, lens.p1, lens.p2, k3, 0, 0, 0], not k4
    if any((k1, k2, lens.p1, lens.p2)):
        return "OPENCV", [*pinhole, k1, k2, lens.p1, lens.p2], True
    return "PINHOLE", pinhole, True


def _fisheye(lens: Brown) -> tuple[str, list[float], bool]:
    """The same. Tangential and thin prism terms of RAD_TAN_THIN_PRISM_FISHEYE act on the point already distorted."""
    pinhole = [lens.fx, lens.fy, lens.cx, lens.cy]
    k = [*lens.radial, *[0.0] * (6 - len(lens.radial))]
    decentred = bool(lens.p1 or lens.p2 or any(lens.prism))
    if lens.projection == "equisolid":  # 2 sin θ/2 = θ − θ³/24 + θ⁵/1920 − …
        k = [a + b for a, b in zip(k, (-1 / 24, 1 / 1920, -1 / 322560, 0, 0, 0))]
    if lens.projection == "equisolid" or any(k[4:]) or any(lens.prism):
        exact = lens.projection == "equidistant" and not decentred
        return "RAD_TAN_THIN_PRISM_FISHEYE", [*pinhole, *k, lens.p2, lens.p1, *lens.prism], exact
    if decentred:
        return "THIN_PRISM_FISHEYE", [*pinhole, k[0], k[1], lens.p1, lens.p2, k[2], k[3], 0, 0], True
    return "OPENCV_FISHEYE", [*pinhole, *k[:4]], True


def _fitted(lens: Brown, model: str, start: Tensor) -> tuple[Tensor, float]:
    """The parameters that bring the model nearest to the lens over its picture, by least squares; its worst error."""
    from scipy.optimize import least_squares  # takes its time to import, and is needed by few captures

    across, down = (np.linspace(-MARGIN, 1 + MARGIN, n) for n in GRID)
    grid = np.stack(np.meshgrid(across * lens.width, down * lens.height), -1).reshape(-1, 2)
    directions = unproject(model, start, torch.from_numpy(grid))
    wanted = torch.from_numpy(lens.pixels(directions.numpy()))
    seen = ((wanted >= 0) & (wanted <= torch.tensor([lens.width, lens.height]))).all(-1)
    seen &= directions[:, 2] > WIDEST
    directions, wanted = directions[seen], wanted[seen]
    if len(wanted) < len(start):
        raise ValueError(f"a lens that shows nothing within {lens.width}×{lens.height}")

    def errors(params: np.ndarray) -> np.ndarray:
        return (project(model, torch.from_numpy(params), directions) - wanted).numpy().ravel()

    found = least_squares(errors, start.numpy(), x_scale="jac")
    return torch.from_numpy(found.x), float(np.linalg.norm(found.fun.reshape(-1, 2), axis=1).max())


def panorama(width: int, height: int) -> tuple[str, int, int, Tensor, float]:
    """The equirectangular model, size, parameters, and error 0."""
    return "EQUIRECTANGULAR", width, height, torch.tensor([width, height], dtype=torch.float64), 0.0


def fitting_note(errors: list[float]) -> list[str]:
    """What to tell of the errors of a capture's lenses, one per lens; nothing where all are exact."""
    fitted = [error for error in errors if error > 0]
    if not fitted:
        return []
    which = "The lens has" if len(errors) == 1 else f"{len(fitted)} of {len(errors)} lenses have"
    return [f"{which} terms that COLMAP's models lack; the nearest model is off by up to {max(fitted):.2g} px."]
