"""Marching as its definition reads: every interval of the lattice is looked up by itself, nothing is skipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

f32 = np.float32


def lattice(step_min: float, step_max: float, cone_angle: float, n: int) -> NDArray:
    """b_0 … b_{n-1}, by the recurrence, in float64."""
    b = [0.0]
    for _ in range(n - 1):
        b.append(b[-1] + min(max(b[-1] * cone_angle, step_min), step_max))
    return np.array(b)


def rounded_lattice(step_min: float, step_max: float, cone_angle: float, n: int) -> NDArray:
    """The same as the kernel rounds it: b_k to float32 while Δ grows, then b_last + i · Δ in float32."""
    b = lattice(step_min, step_max, cone_angle, n)
    growing = b * cone_angle < step_max if cone_angle > 0 else b < 0
    last = int(growing.sum()) if not growing.all() else n
    tail = f32(step_max if cone_angle > 0 else step_min)
    rounded = b.astype(f32)
    if last < n:
        rounded[last:] = rounded[last] + np.arange(n - last).astype(f32) * tail
    return rounded


def intervals(step_min: float, step_max: float, cone_angle: float, jitter: float, n: int) -> tuple[NDArray, NDArray]:
    """Middles and lengths of the first n intervals, float32."""
    b = rounded_lattice(step_min, step_max, cone_angle, n)
    low, high, cone, j = f32(step_min), f32(step_max), f32(cone_angle), f32(jitter)
    step0 = np.minimum(np.maximum(b * cone, low), high)
    step1 = np.minimum(np.maximum((b + step0) * cone, low), high)
    dt = step0 + (step1 - step0) * j
    return b + step0 * j + dt * f32(0.5), dt


def clip(o: NDArray, d: NDArray, low: float, high: float, t_min: float, t_max: float) -> tuple[float, float]:
    """The part of [t_min, t_max] within the cube [low, high]³."""
    if not (np.isfinite(o).all() and np.isfinite(d).all() and t_min < t_max):
        return 0.0, 0.0
    enter, leave = max(f32(t_min), f32(0)), f32(t_max)
    for k in range(3):
        if d[k] == 0:
            if not low <= o[k] <= high:
                return 0.0, 0.0
            continue
        a, b = sorted(((f32(low) - o[k]) / d[k], (f32(high) - o[k]) / d[k]))
        enter, leave = max(enter, a), min(leave, b)
    return enter, leave


def march(
    origin, direction, t_min, t_max, occupied, *, step_min, step_max, cone_angle=0.0, jitter=0.0, most=1024, n=4096
) -> tuple[NDArray, NDArray, NDArray]:
    """One ray's positions, t and dt. occupied: bool (L, R, R, R), indexed [level, x, y, z]."""
    levels, resolution = occupied.shape[:2]
    o, d = np.asarray(origin, f32), np.asarray(direction, f32)
    size = 2.0 ** (levels - 1)
    enter, leave = clip(o, d, -size, size, t_min, t_max)
    ts, dts = intervals(step_min, step_max, cone_angle, jitter, n)
    found = []
    for t, dt in zip(ts, dts):
        if not enter <= t < leave:
            continue
        x = o + t * d
        reach = max(np.abs(x).max(), dt * f32(resolution / 2))
        level = min(max(int(np.ceil(np.log2(np.float64(reach)))) if reach > 0 else 0, 0), levels - 1)
        cell = ((x * f32(2.0**-level) + f32(1)) * f32(resolution / 2)).astype(np.int64).clip(0, resolution - 1)
        if occupied[(level, *cell)]:
            found.append((x, t, dt))
    found = found[:most]
    x, t, dt = zip(*found) if found else ([], [], [])
    return np.array(x, f32).reshape(-1, 3), np.array(t, f32), np.array(dt, f32)
