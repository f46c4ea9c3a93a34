"""Surfaces along rays: where rays meet them, derivatives through these points, and pictures.

Notation: a ray o + t w with |w| = 1; a field f: R³ → R given as a function of points (n, 3) → (n,). As for meshes
(`neural3d.geometry.mesh.extract`), level None says that f is a signed distance, negative inside; with a level, the
inside is where f exceeds it (occupancy, its logit, density). Fields are evaluated for at most BATCH points at a time,
so memory does not grow with the number of rays; everything follows the dtype and the device of the rays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from neural3d.geometry.cameras import Camera, pixel_centres
from neural3d.geometry.rays import box_span
from neural3d.render import RenderOut

Field = Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n"]]

BATCH = 1 << 17  # points per evaluation of a field
BLOCK = 16  # samples of a ray between two looks at which rays are done


class RayHits(NamedTuple):
    """What R rays met between near and far.

    hit: the ray came from outside to inside, first at distance t. Rays that start inside meet nothing: their surface
    lies behind them. t is far where nothing was met. closest: of the places looked at, the one most inside or least
    outside; of rays that miss, where a surface is most likely to be put.
    """

    hit: Bool[Tensor, "R"]
    t: Float[Tensor, "R"]
    inside: Bool[Tensor, "R"]  # already at near
    closest: Float[Tensor, "R"]


@torch.no_grad()
def first_crossing(
    field: Field,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, "R"] | float,
    far: Float[Tensor, "R"] | float,
    *,
    steps: int,
    level: float | None = None,
    secant_steps: int = 8,
    jitter: Float[Tensor, "R"] | None = None,
) -> RayHits:
    """The first change from outside to inside along each ray, for any continuous field.

    f is sampled at tₖ = near + k (far − near) / steps, k = 0 … steps, until it changes sign, and the root between the
    two samples is refined by `secant_steps` steps of regula falsi (DVR, Niemeyer et al. 2020, section 3.1 and
    supplementary). Parts thinner than a step may be missed. jitter in [0, 1): shifts a ray's samples, all but the
    first, towards near by this share of a step. Rays with far ≤ near are not looked at. Values that are not a number
    count as outside. No gradients; see `implicit_point`.
    """
    value = _outwardness(field, level)
    near, far = (_per_ray(x, origins) for x in (near, far))
    shift = torch.zeros_like(near) if jitter is None else jitter
    rays = zip(*(x.split(BATCH // BLOCK) for x in (origins, directions, near, far, shift)))
    parts = [_march(value, part, steps, secant_steps) for part in rays]
    return RayHits(*(torch.cat(p) for p in zip(*parts)))


def _march(value: Field, rays: tuple[Tensor, ...], steps: int, secant_steps: int) -> RayHits:
    origins, directions, near, far, shift = rays
    spacing = (far - near) / steps
    hit, inside = torch.zeros_like(near, dtype=torch.bool), torch.zeros_like(near, dtype=torch.bool)
    bracket = torch.zeros(4, len(near), dtype=near.dtype, device=near.device)  # t and value outside, t and value inside
    closest, least = near.clone(), torch.full_like(near, torch.inf)
    active = (far > near).nonzero()[:, 0]
    last = torch.zeros(2, len(active), 1, dtype=near.dtype, device=near.device)  # t and value before the block
    for start in range(0, steps + 1, BLOCK):
        k = torch.arange(start, min(start + BLOCK, steps + 1), dtype=near.dtype, device=near.device)
        t = near[active, None] + spacing[active, None] * (k - shift[active, None]).clamp_min(0)
        v = value(_along(origins[active, None], directions[active, None], t))
        if start == 0:
            inside[active] = v[:, 0] < 0

        low, where = v.min(1)
        lower = low < least[active]
        closest[active[lower]], least[active[lower]] = t[lower, where[lower]], low[lower]

        entered = v < 0
        done = entered.any(1)
        first = entered[done].int().argmax(1, keepdim=True)
        before_t, before_v = (torch.cat([x[done], y[done]], 1).gather(1, first) for x, y in zip(last, (t, v)))
        ends = before_t, before_v, t[done].gather(1, first), v[done].gather(1, first)
        bracket[:, active[done]] = torch.cat(ends, 1).T
        hit[active[done]] = True

        active, last = active[~done], torch.stack([t[~done, -1:], v[~done, -1:]])
        if len(active) == 0:
            break
    hit &= ~inside
    depth = far.clone()
    depth[hit] = _regula_falsi(value, origins[hit], directions[hit], bracket[:, hit], secant_steps)
    return RayHits(hit, depth, inside, closest)


def _regula_falsi(
    value: Field, origins: Tensor, directions: Tensor, bracket: Float[Tensor, "4 H"], steps: int
) -> Float[Tensor, "H"]:
    """The t at which value is nearest to 0, between t0 with v0 ≥ 0 and t1 with v1 < 0.

    The Illinois rule: an end that stays while the other moves twice in a row has its value halved, without which
    convergence along a curved f is only linear.
    """
    t0, v0, t1, v1 = bracket
    t = best = t0 + (t1 - t0) * (v0 / (v0 - v1))
    least = torch.full_like(t0, torch.inf)
    moved = torch.zeros_like(t0)  # which end the last step moved: 1 the inner, -1 the outer
    for _ in range(steps):
        v = value(_along(origins, directions, t))
        best, least = torch.where(v.abs() < least, t, best), torch.minimum(v.abs(), least)
        inner = v < 0
        v0 = torch.where(inner, torch.where(moved > 0, v0 / 2, v0), v)
        v1 = torch.where(inner, v, torch.where(moved < 0, v1 / 2, v1))
        t0, t1 = torch.where(inner, t0, t), torch.where(inner, t, t1)
        moved = torch.where(inner, 1.0, -1.0).to(t0)
        t = t0 + (t1 - t0) * (v0 / (v0 - v1))
    return best


@torch.no_grad()
def sphere_trace(
    sdf: Field,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    near: Float[Tensor, "R"] | float,
    far: Float[Tensor, "R"] | float,
    *,
    steps: int = 128,
    relaxation: float = 1.2,
    tolerance: float = 1e-5,
) -> RayHits:
    """The first point of each ray on the surface of a signed distance, in a few steps where space is empty.

    A ray at t may go on by f: nothing is nearer. After Keinert et al. ("Enhanced Sphere Tracing", 2014) it goes on by
    relaxation · f instead. Where that was too far, as the spheres around both ends do not touch or the ray is inside,
    it returns and goes on by f alone. A learned distance may grow faster than distance does, so that even f leads
    inside: the ray returns and from there on goes by half its share of f, again and again if need be, a bisection. It
    has met the surface where 0 ≤ f < tolerance, or where the inside is less than tolerance away. Rays that need more
    than `steps` steps meet nothing. Every step is at least tolerance long, so that rays get past what they only graze.

    relaxation: 1 to below 2; below 1 for fields that grow too fast nearly everywhere. tolerance: scene units; the
    default is a hundred float32 roundings of a coordinate. Otherwise as `first_crossing`.
    """
    value = _outwardness(sdf, None)
    near, far = (_per_ray(x, origins) for x in (near, far))
    rays = zip(*(x.split(BATCH) for x in (origins, directions, near, far)))
    parts = [_trace(value, part, steps, relaxation, tolerance) for part in rays]
    return RayHits(*(torch.cat(p) for p in zip(*parts)))


def _trace(value: Field, rays: tuple[Tensor, ...], steps: int, relaxation: float, tolerance: float) -> RayHits:
    origins, directions, near, far = rays
    t, v = near.clone(), torch.full_like(near, torch.inf)
    share = torch.full_like(near, relaxation)  # of f that a ray goes on by
    active = (far > near).nonzero()[:, 0]
    v[active] = value(_along(origins[active], directions[active], t[active]))
    inside = v < 0
    hit = (v >= 0) & (v < tolerance)
    closest, least = near.clone(), v.clone()
    active = active[~(hit | inside)[active]]
    for _ in range(steps):
        if len(active) == 0:
            break
        here, radius, part = t[active], v[active], share[active]
        step = (part * radius).clamp_min(tolerance)
        there = torch.minimum(here + step, far[active])
        found = value(_along(origins[active], directions[active], there))
        nearer = found < least[active]
        closest[active[nearer]], least[active[nearer]] = there[nearer], found[nearer]

        entered = found < 0
        too_far = entered | ((part > 1) & (there - here > radius + found))
        share[active] = torch.where(too_far, torch.where(part > 1, 1.0, part / 2), part)
        t[active], v[active] = torch.where(too_far, here, there), torch.where(too_far, radius, found)
        met = torch.where(too_far, entered & (step <= tolerance), found < tolerance)
        hit[active] = met
        active = active[~met & (too_far | (there < far[active]))]
    return RayHits(hit, torch.where(hit, t, far), inside, closest)


def implicit_point(
    field: Field,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    t: Float[Tensor, "R"],
    *,
    min_cosine: float = 0.05,
) -> Float[Tensor, "R 3"]:
    """p̂ = o + t w, differentiable in all that f depends on, and in o and w, though t came from a search.

    The root stays on the level set: f_θ(o + t w) is constant, so (DVR, Niemeyer et al. 2020, eq. 9 and 10)
        ∂p̂/∂θ = −w (∇f·w)⁻¹ ∂f/∂θ,   and likewise   dp̂ = (1 − w (∇f·w)⁻¹ ∇fᵀ) (do + t dw).
    The level does not enter, nor what f means: distances, logits and densities serve alike. For the ray's derivatives w
    need not keep its unit length. f is evaluated once, with gradients; it must be differentiable in its points once.

    min_cosine: |∇f·w| is taken to be at least this share of ‖∇f‖. Where a ray grazes the surface, ∇f·w goes to 0 and p̂
    would race along the ray without bound; yet the smallest change then makes the ray miss, which eq. 10 does not know,
    and a few such rays would drown all others. Where ∇f is 0, f does not say where the surface goes: no gradient.
    """
    points = _along(origins, directions, t)
    if not torch.is_grad_enabled():
        return points
    points = points.detach().requires_grad_()
    value = field(points).reshape(-1)
    (gradient,) = torch.autograd.grad(value.sum(), points, retain_graph=True)
    return _ImplicitPoint.apply(value, origins, directions, t, gradient.detach(), min_cosine)


class _ImplicitPoint(torch.autograd.Function):
    """From f(p̂), whose own graph leads to θ; its value does not matter, its gradient v_f = −(v_p·w) / (∇f·w) does."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, origins: Tensor, directions: Tensor, t: Tensor, gradient: Tensor, min_cosine: float
    ) -> Tensor:
        steepness = torch.linalg.vector_norm(gradient, dim=-1)
        slope = (gradient * directions).sum(-1)
        guarded = torch.copysign(torch.maximum(slope.abs(), min_cosine * steepness), slope)
        inverse = torch.where(steepness > 0, 1 / guarded, 0)
        ctx.save_for_backward(directions, t, gradient, inverse)
        return _along(origins, directions, t)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v_point: Tensor) -> tuple[Tensor | None, ...]:
        directions, t, gradient, inverse = ctx.saved_tensors
        v_value = -(v_point * directions).sum(-1) * inverse
        v_origins = v_point + v_value[:, None] * gradient
        return v_value, v_origins, t[:, None] * v_origins, None, None, None


def outward_normals(field: Field, points: Float[Tensor, "n 3"], *, level: float | None = None) -> Float[Tensor, "n 3"]:
    """Unit normals of the field's level sets, towards the outside; 0 where f has no gradient. Without gradients."""
    parts = []
    for part in points.split(BATCH):
        with torch.enable_grad():
            x = part.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(_outwardness(field, level)(x).sum(), x)
        parts.append(normalize(gradient, dim=-1))
    return torch.cat(parts)


@torch.no_grad()
def render_surface(
    field: Field,
    camera: Camera,
    box: Float[Tensor, "2 3"],
    *,
    level: float | None = None,
    steps: int = 256,
    near: float = 0.0,
    color: Callable[[Float[Tensor, "n 3"], Float[Tensor, "n 3"]], Float[Tensor, "n 3"]] | None = None,
    normals: Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n 3"]] | None = None,
    background: Float[Tensor, "3"] | None = None,
    samples: int = 1,
) -> RenderOut:
    """One view of a field's surface inside a box, on the box's device, a few rows of pixels at a time.

    level None: sphere tracing of a signed distance, in at most `steps` steps; else a march of `steps` steps through the
    box (also for learned distances that are not to be trusted: −f with level 0). near: nothing is seen before this
    distance. Matter that the box or `near` cuts is seen where it is cut.
    color: sRGB of points seen along unit directions; None: grey in the light of a lamp at the camera.
    normals: outward normals at points; None: the field's own. background: sRGB; None: white.
    samples: rays along each side of a pixel, against jagged rims; colour and alpha are their mean, depth and normal
    that of the rays that meet the surface.
    """
    back = torch.ones(3, device=box.device) if background is None else background.to(box.device)

    def look(xy: Float[Tensor, "n 2"]) -> Float[Tensor, "n 8"]:
        """rgb, alpha, alpha · depth, alpha · normal of single rays."""
        origins, directions = (x.to(box.device) for x in camera.rays(xy))
        enter, leave = box_span(origins, directions, box)
        enter = enter.clamp_min(near)
        if level is None:
            hits = sphere_trace(field, origins, directions, enter, leave, steps=steps)
        else:
            hits = first_crossing(field, origins, directions, enter, leave, steps=steps, level=level)
        seen = hits.hit | hits.inside
        t = torch.where(hits.hit, hits.t, enter)[seen]
        points, toward = _along(origins[seen], directions[seen], t), directions[seen]
        normal = outward_normals(field, points, level=level) if normals is None else normals(points)
        rgb = headlight(normal, toward) if color is None else color(points, toward)
        depth = t * (toward @ camera.forward.to(toward))
        out = torch.cat([back.expand(len(xy), 3), back.new_zeros(len(xy), 5)], 1)
        out[seen] = torch.cat([rgb, torch.ones_like(rgb[:, :1]), depth[:, None], normal], 1)
        return out

    width, height = camera.width, camera.height
    rows = max(1, BATCH // (width * samples**2))  # at a time
    parts = []
    for first in range(0, height, rows):
        rows = min(rows, height - first)
        xy = pixel_centres(width * samples, rows * samples) / samples
        xy[..., 1] += first
        parts.append(look(xy.view(-1, 2)).view(rows, samples, width, samples, 8).mean((1, 3)))
    rgb, alpha, depth, normal = torch.cat(parts).split([3, 1, 1, 3], -1)
    return RenderOut(rgb, alpha, depth / alpha.clamp_min(1e-6), normalize(normal, dim=-1))


def headlight(normals: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """A matt grey surface lit from the eye: 0.1 + 0.8 |n·w| in all channels, from dark rims to bright faces."""
    return (0.1 + 0.8 * (normals * directions).sum(-1, keepdim=True).abs()).expand_as(normals)


def _along(origins: Float[Tensor, "... 3"], directions: Float[Tensor, "... 3"], t: Float[Tensor, "..."]) -> Tensor:
    return origins + t[..., None] * directions


def _outwardness(field: Field, level: float | None) -> Field:
    """f or level − f, negative inside either way, of points of any shape, BATCH at a time."""

    def value(points: Tensor) -> Tensor:
        f = torch.cat([field(part).reshape(-1) for part in points.reshape(-1, 3).split(BATCH)])
        return (f if level is None else level - f).view(points.shape[:-1])

    return value


def _per_ray(value: Tensor | float, origins: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
    return torch.as_tensor(value, dtype=origins.dtype, device=origins.device).expand(len(origins))
