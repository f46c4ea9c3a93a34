"""How a lens maps directions to pixels: every COLMAP camera model, forwards and backwards.

Notation: p = (x, y, z) is a point in the camera frame (x right, y down, z forward); (u, v) is its image on the plane
of focal length 1, before distortion; (u', v') after it; f and c are focal lengths and principal point in pixels, so
that the pixel is (f_x u' + c_x, f_y v' + c_y), and the centre of the top left pixel is (0.5, 0.5).

A model is a projection p → (u, v) followed by a distortion (u, v) → (u', v'). All polynomial distortions are one
formula (Brown 1971; OpenCV's rational and thin-prism terms; Kannala & Brandt 2006 on equidistant coordinates), with
r² = u² + v²,

    (u', v') = (u, v) N(r²) / D(r²)  +  tangential  +  thin prism,

and a model's parameter names say which coefficients it has. Its inverse is found with Newton's method. The other models
(field of view, division, EUCM, equirectangular) have inverses in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError


@dataclass(frozen=True)
class Lens:
    """One camera model: `names` in COLMAP's order; the rest says what its distortion coefficients do."""

    names: tuple[str, ...]
    projection: str = "perspective"  # perspective | equidistant | fov | division | eucm | equirectangular
    numerator: tuple[str, ...] = ()  # of the radial factor, lowest power of r² first
    denominator: tuple[str, ...] = ()
    tangential: tuple[str, ...] = ()  # p1, p2 in OpenCV's meaning
    prism_u: tuple[str, ...] = ()  # coefficients of r², r⁴ added to u'
    prism_v: tuple[str, ...] = ()
    sequential: bool = False  # tangential and prism terms act on the radially distorted point (Project Aria)

    @property
    def distorts(self) -> bool:
        return bool(self.numerator or self.tangential or self.prism_u)

    @property
    def focals(self) -> int:
        """How many focal lengths lead the parameters: 1 (f), 2 (fx, fy), or 0 (equirectangular)."""
        return {"f": 1, "fx": 2}.get(self.names[0], 0)


def _lens(names: str, projection: str = "perspective", **roles: str | bool) -> Lens:
    split = {key: tuple(value.split()) if isinstance(value, str) else value for key, value in roles.items()}
    return Lens(tuple(names.split()), projection, **split)  # type: ignore[arg-type]


_ARIA = "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"
LENSES: dict[str, Lens] = {
    "SIMPLE_PINHOLE": _lens("f cx cy"),
    "PINHOLE": _lens("fx fy cx cy"),
    "SIMPLE_RADIAL": _lens("f cx cy k", numerator="k"),
    "RADIAL": _lens("f cx cy k1 k2", numerator="k1 k2"),
    "OPENCV": _lens("fx fy cx cy k1 k2 p1 p2", numerator="k1 k2", tangential="p1 p2"),
    "FULL_OPENCV": _lens(
        "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6", numerator="k1 k2 k3", denominator="k4 k5 k6", tangential="p1 p2"
    ),
    "SIMPLE_FISHEYE": _lens("f cx cy", "equidistant"),
    "FISHEYE": _lens("fx fy cx cy", "equidistant"),
    "SIMPLE_RADIAL_FISHEYE": _lens("f cx cy k", "equidistant", numerator="k"),
    "RADIAL_FISHEYE": _lens("f cx cy k1 k2", "equidistant", numerator="k1 k2"),
    "OPENCV_FISHEYE": _lens("fx fy cx cy k1 k2 k3 k4", "equidistant", numerator="k1 k2 k3 k4"),
    "THIN_PRISM_FISHEYE": _lens(
        "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
        "equidistant", numerator="k1 k2 k3 k4", tangential="p1 p2", prism_u="sx1", prism_v="sy1",
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": _lens(
        _ARIA,
        "equidistant", numerator="k0 k1 k2 k3 k4 k5", tangential="p1 p0", prism_u="s0 s1", prism_v="s2 s3",
        sequential=True,
    ),
    "FOV": _lens("fx fy cx cy omega", "fov"),
    "SIMPLE_DIVISION": _lens("f cx cy k", "division"),
    "DIVISION": _lens("fx fy cx cy k", "division"),
    "EUCM": _lens("fx fy cx cy alpha beta", "eucm"),
    "EQUIRECTANGULAR": _lens("w h", "equirectangular"),
}  # fmt: skip

TINY = 1e-30  # floor of r²: its root, 1e-15, is still a normal float32, and sin(r)/r is exactly 1 there


def lens_of(model: str) -> Lens:
    """The model's description; UserError for a name COLMAP does not know."""
    if model not in LENSES:
        raise UserError(f"Unknown camera model '{model}'; known are {', '.join(LENSES)}.")
    return LENSES[model]


def named(model: str, params: Float[Tensor, "... P"]) -> dict[str, Tensor]:
    """Parameters by name, with 'fx' = 'fy' = f for models of one focal length."""
    lens = lens_of(model)
    values = dict(zip(lens.names, params.unbind(-1), strict=True))
    if lens.focals == 1:
        values["fx"] = values["fy"] = values["f"]
    return values


# --- distortion ------------------------------------------------------------------------------------------------------


def _polynomial(coefficients: list[Tensor], s: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """c₁ s + c₂ s² + … and its derivative, by Horner's rule."""
    value: Tensor | float = 0.0
    slope: Tensor | float = 0.0
    for c in reversed(coefficients):
        slope = slope * s + value + c  # derivative of s (value + c)
        value = (value + c) * s
    return value, slope


def _decentre(lens: Lens, a: dict[str, Tensor], u: Tensor, v: Tensor):
    """Tangential and thin-prism offsets at (u, v), and their Jacobian (∂u/∂u, ∂u/∂v, ∂v/∂u, ∂v/∂v)."""
    du = dv = uu = uv = vu = vv = torch.zeros((), dtype=u.dtype, device=u.device)
    s = u * u + v * v
    if lens.tangential:
        p1, p2 = (a[name] for name in lens.tangential)
        w = 2 * (p1 * u + p2 * v)
        du, dv = w * v + p2 * (s + 2 * u * u - 2 * v * v), w * u + p1 * (s + 2 * v * v - 2 * u * u)
        uu, uv, vu, vv = 2 * p1 * v + 6 * p2 * u, w, w, 6 * p1 * v + 2 * p2 * u
    if lens.prism_u:
        pu, gu = _polynomial([a[name] for name in lens.prism_u], s)
        pv, gv = _polynomial([a[name] for name in lens.prism_v], s)
        du, dv = du + pu, dv + pv
        uu, uv, vu, vv = uu + 2 * u * gu, uv + 2 * v * gu, vu + 2 * u * gv, vv + 2 * v * gv
    return du, dv, uu, uv, vu, vv


def distort(lens: Lens, a: dict[str, Tensor], u: Tensor, v: Tensor):
    """(u', v') and the Jacobian (∂u'/∂u, ∂u'/∂v, ∂v'/∂u, ∂v'/∂v) of the polynomial distortion."""
    s = u * u + v * v
    factor, slope = _polynomial([a[name] for name in lens.numerator], s)
    factor = factor + 1.0
    if lens.denominator:
        below, below_slope = _polynomial([a[name] for name in lens.denominator], s)
        factor = factor / (1 + below)
        slope = (slope - factor * below_slope) / (1 + below)
    ru, rv = u * factor, v * factor
    su, sv = 2 * slope * u, 2 * slope * v
    uu, uv, vu, vv = factor + su * u, su * v, sv * u, factor + sv * v
    if not (lens.tangential or lens.prism_u):
        return ru, rv, uu, uv, vu, vv
    if not lens.sequential:
        du, dv, *j = _decentre(lens, a, u, v)
        return ru + du, rv + dv, uu + j[0], uv + j[1], vu + j[2], vv + j[3]
    du, dv, a_, b_, c_, d_ = _decentre(lens, a, ru, rv)
    a_, d_ = a_ + 1, d_ + 1
    return ru + du, rv + dv, a_ * uu + b_ * vu, a_ * uv + b_ * vv, c_ * uu + d_ * vu, c_ * uv + d_ * vv


def undistort(lens: Lens, a: dict[str, Tensor], u_: Tensor, v_: Tensor, iterations: int | None = None):
    """(u, v) with distort(u, v) = (u', v'): Newton from (u', v'), each step shortened to at most 1 (in u, v).

    iterations None stops when the largest step falls under the precision of the dtype (at most 50 steps); a number runs
    exactly that many, which asks the device for nothing. Where no solution exists (beyond the radius at which a fitted
    polynomial turns back) the result stays finite but does not solve the equation.
    """
    u, v = u_, v_
    enough = 4 * torch.finfo(u_.dtype).eps
    for _ in range(50 if iterations is None else iterations):
        du, dv, uu, uv, vu, vv = distort(lens, a, u, v)
        du, dv = u_ - du, v_ - dv
        det = uu * vv - uv * vu
        det = torch.where(det.abs() < 1e-6, 1e-6, det)  # a fold of the polynomial: take a long step, then shorten it
        step_u, step_v = (vv * du - uv * dv) / det, (uu * dv - vu * du) / det
        shorten = torch.rsqrt((step_u * step_u + step_v * step_v).clamp(min=1))
        step_u, step_v = step_u * shorten, step_v * shorten
        u, v = u + step_u, v + step_v
        if iterations is None and max(step_u.abs().max(), step_v.abs().max()) <= enough * (1 + u.abs().max()):
            break
    return u, v


# --- projection ------------------------------------------------------------------------------------------------------


def _onto_plane(lens: Lens, a: dict[str, Tensor], x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """p → (u, v) for every projection but the equirectangular."""
    s = x * x + y * y
    if lens.projection == "perspective":
        return x / z, y / z
    if lens.projection == "eucm":  # Khomutenko et al. 2016
        below = a["alpha"] * (a["beta"] * s + z * z).sqrt() + (1 - a["alpha"]) * z
        return x / below, y / below
    if lens.projection == "division":  # Fitzgibbon 2001: (u, v) = (u', v') / (1 + k r'²); the smaller root for r'
        below = (z + (z * z - 4 * a["k"] * s).clamp(min=0).sqrt()) / 2
        return x / below, y / below
    r = s.clamp(min=TINY).sqrt()
    if lens.projection == "equidistant":
        scale = torch.atan2(r, z) / r
        return x * scale, y * scale
    if lens.projection == "fov":  # Devernay & Faugeras 2001: r' = atan(2 r tan(ω/2)) / ω, and r itself for ω = 0
        w = a["omega"]
        small = w.abs() < 1e-4
        w = torch.where(small, 1e-4, w)  # at 1e-4 the difference to ω = 0 is below 1e-9
        scale = torch.atan2(2 * torch.tan(w / 2) * r, z) / (w * r)
        return x * scale, y * scale
    raise AssertionError(lens.projection)


def _from_plane(lens: Lens, a: dict[str, Tensor], u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(u, v) → a direction, not yet of unit length."""
    s = u * u + v * v
    if lens.projection == "perspective":
        return u, v, torch.ones_like(u)
    if lens.projection == "division":
        return u, v, 1 + a["k"] * s
    if lens.projection == "eucm":
        alpha, beta = a["alpha"], a["beta"]
        root = (1 - (2 * alpha - 1) * beta * s).clamp(min=0).sqrt()
        return u, v, (1 - beta * alpha * alpha * s) / (alpha * root + 1 - alpha)
    r = s.clamp(min=TINY).sqrt()
    if lens.projection == "equidistant":
        scale = torch.sin(r) / r
        return u * scale, v * scale, torch.cos(r)
    if lens.projection == "fov":
        w = torch.where(a["omega"].abs() < 1e-4, 1e-4, a["omega"])
        scale = torch.sin(w * r) / (2 * torch.tan(w / 2) * r)
        return u * scale, v * scale, torch.cos(w * r)
    raise AssertionError(lens.projection)


def project(model: str, params: Float[Tensor, "... P"], points: Float[Tensor, "... 3"]) -> Float[Tensor, "... 2"]:
    """Pixels of camera-frame points; differentiable in both arguments.

    params broadcast against the points' leading dimensions. Perspective models divide by z: callers look at z first.
    """
    lens, (x, y, z) = lens_of(model), points.unbind(-1)
    a = named(model, params)
    if lens.projection == "equirectangular":
        elevation = torch.atan2(-y, (x * x + z * z).clamp(min=TINY).sqrt())
        return torch.stack([a["w"] * (torch.atan2(x, z) / (2 * pi) + 0.5), a["h"] * (0.5 - elevation / pi)], -1)
    u, v = _onto_plane(lens, a, x, y, z)
    if lens.distorts:
        u, v, *_ = distort(lens, a, u, v)
    return torch.stack([a["fx"] * u + a["cx"], a["fy"] * v + a["cy"]], -1)


def unproject(
    model: str, params: Float[Tensor, "... P"], xy: Float[Tensor, "... 2"], iterations: int | None = None
) -> Float[Tensor, "... 3"]:
    """Unit directions in the camera frame that `project` maps to the pixels xy.

    iterations: see `undistort`; gradients flow through the unrolled Newton steps.
    """
    lens, a = lens_of(model), named(model, params)
    px, py = xy.unbind(-1)
    if lens.projection == "equirectangular":
        azimuth, elevation = (px / a["w"] - 0.5) * 2 * pi, (0.5 - py / a["h"]) * pi
        across = torch.cos(elevation)
        return torch.stack([across * torch.sin(azimuth), -torch.sin(elevation), across * torch.cos(azimuth)], -1)
    u, v = (px - a["cx"]) / a["fx"], (py - a["cy"]) / a["fy"]
    if lens.distorts:
        u, v = undistort(lens, a, u, v, iterations)
    x, y, z = _from_plane(lens, a, u, v)
    shorten = torch.rsqrt(x * x + y * y + z * z)
    return torch.stack([x * shorten, y * shorten, z * shorten], -1)
