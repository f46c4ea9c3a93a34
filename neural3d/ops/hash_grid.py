"""Multiresolution hash encoding.

Müller, Evans, Schied & Keller, "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", 2022.

Notation: level l has a grid of `scale_l = base_resolution · bˡ − 1` cells along each edge of the unit cube, where
b = `per_level_scale`. With p = scale_l · x + ½, the level's features are the trilinear interpolation at p of table
entries T[index_l(⌊p⌋ + c)], c ∈ {0,1}³: entries lie in x-fastest order where the level's grid fits the table, and at
`(x ⊕ 2654435761 y ⊕ 805459861 z) mod 2^log2_table` where it does not (collisions are left to training). Scales, sizes,
indices and the order of parameters are tiny-cuda-nn's.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import check, native, served_by_cpu, stream


@dataclass(frozen=True)
class HashGridSpec:
    """The shape of an encoding. Raises ValueError for what the kernels cannot do."""

    levels: int = 16  # 1 to 32
    features: int = 2  # per level: 1, 2, 4 or 8; 2 is the fast one
    log2_table: int = 19  # at most 2^log2_table entries a level; 3 to 28
    base_resolution: int = 16  # grid points along an edge on level 0
    max_resolution: int | None = 2048  # on the last level; None: per_level_scale rules
    per_level_scale: float | None = None  # b; None: such that the last level has max_resolution
    level_weights: tuple[float, ...] | None = None  # factor on each level's features; levels at 0 cost nothing

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 32:
            raise ValueError(f"levels must be 1 to 32, not {self.levels}")
        if self.features not in (1, 2, 4, 8):
            raise ValueError(f"features must be 1, 2, 4 or 8, not {self.features}")
        if not 3 <= self.log2_table <= 28:
            raise ValueError(f"log2_table must be 3 to 28, not {self.log2_table}")
        if self.base_resolution < 1:
            raise ValueError(f"base_resolution must be positive, not {self.base_resolution}")
        if self.max_resolution is None and self.per_level_scale is None:
            raise ValueError("give max_resolution or per_level_scale")
        if self.growth < 1 or self.scales[-1] >= 2**23:
            raise ValueError(f"resolutions must grow and stay under 2^23, not go to {self.scales[-1]:.0f}")
        if self.level_weights is not None and len(self.level_weights) != self.levels:
            raise ValueError(f"level_weights needs {self.levels} values, not {len(self.level_weights)}")

    @functools.cached_property
    def growth(self) -> float:
        """b: the ratio of neighbouring levels' resolutions."""
        if self.per_level_scale is not None:
            return self.per_level_scale
        assert self.max_resolution is not None
        return (self.max_resolution / self.base_resolution) ** (1 / max(self.levels - 1, 1))

    @functools.cached_property
    def scales(self) -> tuple[float, ...]:
        """Cells along an edge, per level; in float32 like tiny-cuda-nn's, whose rounding decides ⌈scale⌉."""
        log2_growth = np.float32(math.log2(self.growth))
        levels = np.arange(self.levels, dtype=np.float32)
        scales = np.exp2(levels * log2_growth) * np.float32(self.base_resolution) - np.float32(1)
        return tuple(float(s) for s in scales)

    @functools.cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Grid points along an edge, per level."""
        return tuple(math.ceil(s) + 1 for s in self.scales)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries per level: the whole grid, rounded up to a multiple of 8, or the hash table where that is smaller."""
        return tuple(min((r**3 + 7) // 8 * 8, 1 << self.log2_table) for r in self.resolutions)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level, and the total last."""
        return tuple(int(o) for o in np.cumsum([0, *self.sizes]))

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @property
    def width(self) -> int:
        """Features of an encoded point, over all levels."""
        return self.levels * self.features

    @functools.cached_property
    def _native_levels(self) -> list[tuple[float, float, int, int, int, bool]]:
        weights = self.level_weights or (1.0,) * self.levels
        return [
            (scale, weight, offset, size, resolution, resolution**3 > size)
            for scale, weight, offset, size, resolution in zip(
                self.scales, weights, self.offsets, self.sizes, self.resolutions
            )
        ]


def hash_grid(
    positions: Float[Tensor, "n 3"],
    table: Float[Tensor, "entries features"],
    spec: HashGridSpec,
    *,
    table_grad: Float[Tensor, "entries features"] | None = None,
) -> Float[Tensor, "n width"]:
    """Features of points: level after level, `spec.features` each.

    positions: in [0, 1]³; points outside are clamped, and their derivative is zero along the clamped axes. NaN gives
    NaN. table: `spec.entries` rows. Both float32 or both float64, on one device.
    Differentiable twice in positions and table (eikonal losses). On the CPU the result and all gradients are the same
    for any number of threads; on CUDA, `torch.use_deterministic_algorithms` asks for ordered sums.

    table_grad: a buffer the backward pass adds the table's gradient to, instead of handing a fresh one to autograd,
    which would cost a table of zeros, its page faults and an addition every step. Meant for `table.grad` itself, kept
    from step to step (our Adam leaves it zero), and `.backward()`; under `torch.autograd.grad` the table would get
    no gradient, and under `create_graph=True` the buffer is left alone and the gradient goes the ordinary way.
    Raises ValueError for shapes, dtypes or devices that do not fit.
    """
    _check_table(table, table_grad, spec)
    if not torch.is_grad_enabled() or not (positions.requires_grad or table.requires_grad):
        return _encode(positions, None, table, spec)
    y: Tensor = _FromTable.apply([positions], table, spec, table_grad)
    return _FromPositions.apply(y, positions, table, spec, table_grad) if positions.requires_grad else y


def hash_grid_position_gradient(
    positions: Float[Tensor, "n 3"],
    table: Float[Tensor, "entries features"],
    v_features: Float[Tensor, "n width"],
    spec: HashGridSpec,
    *,
    table_grad: Float[Tensor, "entries features"] | None = None,
) -> Float[Tensor, "n 3"]:
    """∂⟨v_features, hash_grid(positions)⟩ / ∂positions, differentiable once in all three tensors.

    What autograd calls for the gradient of `hash_grid`. An SDF that knows its head's gradient v_features can call it
    directly with positions that need no gradient, and is spared the second derivatives that autograd would compute.
    Arguments as in `hash_grid`.
    """
    _check_table(table, table_grad, spec)
    return _PositionGradient.apply(positions, table, v_features, spec, table_grad)


# --- kernels: each with E, or with its derivative along `direction` in its place (csrc/ops/hash_grid.h) ---


def _encode(positions: Tensor, direction: Tensor | None, table: Tensor, spec: HashGridSpec) -> Tensor:
    out = table.new_empty(positions.shape[0], spec.width)
    return _run("hash_grid_encode", spec, out, positions, direction, table=table)


def _scatter(
    positions: Tensor, direction: Tensor | None, v_features: Tensor, spec: HashGridSpec, into: Tensor | None = None
) -> Tensor:
    if into is None:
        into = v_features.new_zeros(spec.entries, spec.features)
    return _run("hash_grid_scatter", spec, into, positions, direction, v_features=v_features)


def _position(
    positions: Tensor, direction: Tensor | None, table: Tensor, v_features: Tensor, spec: HashGridSpec
) -> Tensor:
    out = table.new_empty(positions.shape[0], 3)
    return _run("hash_grid_position", spec, out, positions, direction, table=table, v_features=v_features)


def _run(
    name: str, spec: HashGridSpec, out: Tensor, positions: Tensor, direction: Tensor | None, **others: Tensor
) -> Tensor:
    """Fills `out`. others: of table and v_features those that the kernel takes."""
    n = positions.shape[0]
    shapes = {"table": (spec.entries, spec.features), "v_features": (n, spec.width)}
    given: dict[str, Any] = {key: check(key, tensor, shapes[key], like=out) for key, tensor in others.items()}
    given["positions"] = check("positions", positions, (None, 3), like=out)
    given["direction"] = None if direction is None else check("direction", direction, (n, 3), like=out)
    workspace = bound = None
    if served_by_cpu(out.device):
        workspace = _workspace(out, n, spec)
    elif name == "hash_grid_scatter" and torch.are_deterministic_algorithms_enabled():
        workspace, bound = _fixed_point(out, direction, others["v_features"], spec)
    if name == "hash_grid_scatter":
        given["bound"] = bound
    if n:
        getattr(native(out.device), name)(
            **given, out=out, workspace=workspace, features=spec.features, levels=spec._native_levels,
            stream=stream(out.device),
        )  # fmt: skip
    return out


# Points the CPU kernels take at a time: enough to reuse what they load of a level's table. Not a power of two: the same
# point's features, a chunk apart in the workspace, must not fall into the same cache set.
_CHUNK = (1 << 18) + 48
_kept = threading.local()


def _workspace(like: Tensor, n: int, spec: HashGridSpec) -> Tensor:
    """Scratch memory for the CPU kernels, kept from call to call: fresh pages would cost more than using them."""
    planes = 6 + spec.width + max(spec.width, 3)
    scalars = planes * min(-(-n // 16) * 16, _CHUNK)
    kept: Tensor | None = getattr(_kept, str(like.dtype), None)
    if kept is None or kept.numel() < scalars:
        kept = like.new_empty(scalars)
        setattr(_kept, str(like.dtype), kept)
    return kept[:scalars]


def _fixed_point(
    out: Tensor, direction: Tensor | None, v_features: Tensor, spec: HashGridSpec
) -> tuple[Tensor, Tensor]:
    """For ordered sums on CUDA: zeros of 64 bits for every scalar of `out`, and a bound on the terms of the sums."""
    bound = v_features.abs().amax() * max(abs(w) for w in spec.level_weights or (1.0,))
    if direction is not None:
        bound = bound * direction.abs().sum(-1).amax() * spec.scales[-1]
    return out.new_zeros(out.numel() * 8 // out.element_size()), bound.reshape(1)


def _check_table(table: Tensor, table_grad: Tensor | None, spec: HashGridSpec) -> None:
    if table.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"table must be float32 or float64, not {table.dtype}")
    check("table", table, (spec.entries, spec.features))
    if table_grad is not None:
        check("table_grad", table_grad, (spec.entries, spec.features), like=table)
        if not table_grad.is_contiguous():
            raise ValueError("table_grad is added to in place: it must be contiguous")


# --- autograd ---
#
# E is recorded as two nodes, one that leads to the table and one, the identity on the features, that leads to the
# positions: a function cannot see which of its gradients are wanted, so for a single node `grad(sdf, positions)` would
# scatter a whole table of gradients for nothing.


class _FromTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions, table, spec, table_grad):
        (ctx.positions,) = positions  # in a list: no input of this node, yet there for the second derivative
        ctx.spec, ctx.table_grad = spec, table_grad
        return _encode(ctx.positions, None, table, spec)

    @staticmethod
    def backward(ctx, v_features):
        positions = ctx.positions
        if ctx.table_grad is not None and not torch.is_grad_enabled():
            _scatter(positions, None, v_features, ctx.spec, into=ctx.table_grad)
            return None, None, None, None
        return None, _Scatter.apply(positions, v_features, ctx.spec), None, None


class _FromPositions(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, positions, table, spec, table_grad):
        ctx.save_for_backward(positions, table)
        ctx.spec, ctx.table_grad = spec, table_grad
        return features

    @staticmethod
    def backward(ctx, v_features):
        positions, table = ctx.saved_tensors
        v_positions = _PositionGradient.apply(positions, table, v_features, ctx.spec, ctx.table_grad)
        return v_features, v_positions, None, None, None


class _PositionGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions, table, v_features, spec, table_grad):
        ctx.save_for_backward(positions, table, v_features)
        ctx.spec, ctx.table_grad = spec, table_grad
        return _position(positions, None, table, v_features, spec)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, along):
        positions, table, v_features = ctx.saved_tensors
        spec, (wants_positions, wants_table, wants_features) = ctx.spec, ctx.needs_input_grad[:3]
        v_positions = _position(positions, along, table, v_features, spec) if wants_positions else None
        v_table = _scatter(positions, along, v_features, spec, into=ctx.table_grad) if wants_table else None
        v_v_features = _encode(positions, along, table, spec) if wants_features else None
        return v_positions, None if v_table is ctx.table_grad else v_table, v_v_features, None, None


class _Scatter(torch.autograd.Function):
    """Recorded only under create_graph."""

    @staticmethod
    def forward(ctx, positions, v_features, spec):
        ctx.save_for_backward(positions, v_features)
        ctx.spec = spec
        return _scatter(positions, None, v_features, spec)

    @staticmethod
    def backward(ctx, v_table):
        positions, v_features = ctx.saved_tensors
        v_positions = hash_grid_position_gradient(positions, v_table, v_features, ctx.spec)
        return v_positions, hash_grid(positions, v_table, ctx.spec), None
