"""Samples along rays where a multi-scale occupancy grid says there is something.

Müller et al., "Instant Neural Graphics Primitives", SIGGRAPH 2022, appendix E. Rays have origins o and unit directions
d in the scene frame, t is the distance along them. Samples are packed: ray r owns samples offsets[r]:offsets[r+1].

The lattice: all rays are cut at the distances b_0 = 0, b_{k+1} = b_k + Δ(b_k), with
Δ(t) = clamp(cone_angle · t, step_min, step_max). A ray's jitter j ∈ [0, 1) shifts its intervals: number k starts at
b_k + j Δ(b_k) and has length (1 − j) Δ(b_k) + j Δ(b_{k+1}). Its samples are the middles, between t_min and t_max, that
lie in occupied cells. So whether a sample is there depends on its own cell and on nothing else: not on other cells,
nor on where the ray enters the grid.

The grid: cascade l of L covers [−2^l, 2^l]³ with R³ cells. A point is looked up in the finest cascade that contains it
and whose cells are no shorter than its interval. Devices and instruction sets find the same samples, to the last bit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from neural3d.ops.native import check, native, stream

MOST_STEPS = 1 << 24  # lattice points that float32 can tell apart; rays never go further


@dataclass(frozen=True)
class Samples:
    """Packed samples: ray r owns samples offsets[r]:offsets[r+1], in order of t."""

    positions: Float[Tensor, "S 3"]  # o + t d, scene frame
    t: Float[Tensor, "S"]  # the interval's middle
    dt: Float[Tensor, "S"]  # the interval's length
    ray: Int[Tensor, "S"]  # int32
    offsets: Int[Tensor, "R+1"]  # int64

    def __len__(self) -> int:
        return self.t.shape[0]


def pack_bits(
    density: Float[Tensor, "L R R R"], threshold: float | Float[Tensor, ""], out: Tensor | None = None
) -> UInt8[Tensor, "L R³/8"]:
    """One bit per cell, set where density > threshold (NaN is not). R is a multiple of 16.

    density is indexed [level, x, y, z]. The bits lie in blocks of 4³ cells, eight bytes each; blocks are ordered with x
    slowest and z fastest, and so are the cells of a block, from each byte's lowest bit on.
    threshold may be a tensor on the same device, which spares a synchronisation. `out` is written instead of a new
    tensor.
    """
    levels, resolution = density.shape[0], density.shape[-1]
    density = check("density", density, (None, resolution, resolution, resolution))
    if density.dtype != torch.float32:
        raise ValueError(f"density must be torch.float32, not {density.dtype}")
    if resolution % 16:
        raise ValueError(f"the grid's resolution must be a multiple of 16, not {resolution}")
    if out is None:
        out = torch.empty(levels, resolution**3 // 8, dtype=torch.uint8, device=density.device)
    threshold = torch.as_tensor(threshold, dtype=torch.float32, device=density.device).reshape(1)
    native(density.device).pack_bits(
        density=density, threshold=threshold, bits=out, resolution=resolution, stream=stream(density.device)
    )
    return out


@functools.lru_cache(maxsize=8)
def _lattice(step_min: float, step_max: float, cone_angle: float, device: torch.device) -> tuple[Tensor, float]:
    """The b_k until Δ has reached its largest value, and that value: from there on the lattice is regular."""
    if not 0 < step_min <= step_max < math.inf:
        raise ValueError(f"0 < step_min <= step_max < inf does not hold: {step_min}, {step_max}")
    if not 0 <= cone_angle < 1:
        raise ValueError(f"cone_angle must be in [0, 1), not {cone_angle}")
    b = [0.0]
    if cone_angle > 0:
        while b[-1] * cone_angle < step_max:
            b.append(b[-1] + max(b[-1] * cone_angle, step_min))
            if len(b) > 1 << 20:
                raise ValueError(f"cone_angle {cone_angle} takes over a million steps to grow to step_max {step_max}")
    return torch.tensor(b, dtype=torch.float32, device=device), step_max if cone_angle > 0 else step_min


def _check_rays(origins: Tensor, directions: Tensor, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    origins = check("origins", origins, (None, 3), like)
    return origins, check("directions", directions, (origins.shape[0], 3), origins)


@torch.no_grad()
def ray_march(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    t_min: Float[Tensor, "R"],
    t_max: Float[Tensor, "R"],
    bits: UInt8[Tensor, "L R³/8"],
    *,
    step_min: float,
    step_max: float,
    cone_angle: float = 0.0,
    jitter: Float[Tensor, "R"] | None = None,
    max_samples_per_ray: int = 1024,
) -> Samples:
    """The samples of each ray that lie in occupied cells, between t_min and t_max and within the largest cascade.

    bits: from `pack_bits`. jitter in [0, 1), drawn anew each training step; None is 0.
    Samples with t_min ≤ t < t_max are kept; a ray that has found max_samples_per_ray stops there.
    Rays with NaN or infinite origins or directions, or NaN bounds, have no samples; t_max may be infinite. Steps so
    short that float32 cannot tell the lattice's points apart (beyond 2²⁴ of them) find nothing.
    Not differentiable: see `ray_points`. float32 only. On CUDA, synchronises once, to learn the number of samples.
    Raises ValueError on mismatched shapes, dtypes, devices and impossible steps.
    """
    origins, directions = _check_rays(origins, directions)
    if origins.dtype != torch.float32:
        raise ValueError(f"origins must be torch.float32, not {origins.dtype}")
    rays, device = origins.shape[0], origins.device
    resolution = round((8 * bits.shape[-1]) ** (1 / 3))
    if bits.ndim != 2 or bits.dtype != torch.uint8 or bits.device != device or not 1 <= bits.shape[0] <= 16:
        raise ValueError("bits must be the uint8 (levels, R³/8) of pack_bits, on the rays' device, of 1 to 16 levels")
    if resolution % 16 or resolution**3 // 8 != bits.shape[1] or resolution > 1024:
        raise ValueError(f"bits must hold R³/8 bytes a level, R a multiple of 16 up to 1024; not {bits.shape[1]}")
    table, tail = _lattice(float(step_min), float(step_max), float(cone_angle), device)
    new = functools.partial(torch.empty, device=device)
    first = new(rays, dtype=torch.int32)
    march = dict(
        origins=origins, directions=directions, t_min=check("t_min", t_min, (rays,), origins),
        t_max=check("t_max", t_max, (rays,), origins),
        jitter=None if jitter is None else check("jitter", jitter, (rays,), origins), bits=bits.contiguous(),
        resolution=resolution, table=table, tail=tail, step_min=step_min, step_max=step_max, cone=cone_angle,
        most=max(0, max_samples_per_ray), stream=stream(device), first=first,
    )  # fmt: skip
    counts = new(rays, dtype=torch.int64)
    native(device).ray_march_count(**march, counts=counts)
    offsets = _offsets(counts)
    n = int(offsets[-1])
    samples = Samples(new(n, 3), new(n), new(n), new(n, dtype=torch.int32), offsets)
    native(device).ray_march_fill(
        **march, offsets=offsets, positions=samples.positions, t=samples.t, dt=samples.dt, ray=samples.ray
    )
    return samples


def _offsets(counts: Int[Tensor, "R"]) -> Int[Tensor, "R+1"]:
    offsets = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets


def ray_aabb(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], aabb: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
    """Where rays enter and leave a box (low corner, high corner), in units of |d|: t_min ≥ 0 and t_max.

    Rays that miss it, lie behind it or are not finite get t_min = t_max = 0. Not differentiable.
    """
    origins, directions = _check_rays(origins, directions)
    aabb = check("aabb", aabb, (2, 3), origins)
    t_min, t_max = origins.new_empty(origins.shape[0]), origins.new_empty(origins.shape[0])
    native(origins.device).ray_aabb(
        origins=origins, directions=directions, aabb=aabb, t_min=t_min, t_max=t_max, stream=stream(origins.device)
    )
    return t_min, t_max


class _RayPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, origins, directions, t, offsets):
        origins, directions = _check_rays(origins, directions)
        t = check("t", t, (None,), origins)
        offsets = check("offsets", offsets, (origins.shape[0] + 1,))
        ctx.save_for_backward(t, offsets)
        positions = origins.new_empty(t.shape[0], 3)
        device = origins.device
        native(device).ray_points(
            origins=origins, directions=directions, t=t, offsets=offsets, positions=positions, stream=stream(device)
        )
        return positions

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_positions):
        t, offsets = ctx.saved_tensors
        v_origins, v_directions = (t.new_empty(offsets.shape[0] - 1, 3) for _ in range(2))
        native(t.device).ray_points_vjp(
            t=t, offsets=offsets, v_positions=v_positions.contiguous(), v_origins=v_origins, v_directions=v_directions,
            stream=stream(t.device),
        )  # fmt: skip
        return v_origins, v_directions, None, None


def ray_points(
    origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], samples: Samples
) -> Float[Tensor, "S 3"]:
    """The samples' positions o + t d, differentiable in origins and directions: for refining cameras.

    Samples keep their t. Gradients are summed ray by ray, in order.
    """
    return _RayPoints.apply(origins, directions, samples.t, samples.offsets)


@torch.no_grad()
def compact(samples: Samples, counts: Int[Tensor, "R"]) -> tuple[Samples, Int[Tensor, "S'"]]:
    """Each ray's first counts[r] samples, and where they were among `samples` (int64). Synchronises once on CUDA."""
    rays, device = samples.offsets.shape[0] - 1, samples.t.device
    counts = check("counts", counts, (rays,), samples.offsets)
    offsets = _offsets(counts)
    n = int(offsets[-1])
    new = functools.partial(torch.empty, device=device)
    kept = Samples(new(n, 3), new(n), new(n), new(n, dtype=torch.int32), offsets)
    indices = new(n, dtype=torch.int64)
    native(device).compact(
        positions=samples.positions, t=samples.t, dt=samples.dt, offsets=samples.offsets, new_offsets=offsets,
        new_positions=kept.positions, new_t=kept.t, new_dt=kept.dt, new_ray=kept.ray, indices=indices,
        stream=stream(device),
    )  # fmt: skip
    return kept, indices
