"""Hash grid, 16 levels × 2 features, 2¹⁹ entries, 16 → 2048, beside Dr.Jit's, two in plain torch, and the memory.

All encode the same 2¹⁸ points in float32 and go backward to the table; ours also to the positions. "rays": 32 samples
a ray, √3/1024 apart, as in training; the others are uniform in the cube, as the peers are usually measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import copy_ceiling, interleaved, machine, table
from torch import Tensor
from torch.nn import functional

from neural3d.ops.hash_grid import HashGridSpec, hash_grid
from neural3d.ops.memory import keep_memory

SPEC = HashGridSpec()
POINTS = 1 << 18
GATHERS = 1 << 22

Passes = dict[str, Callable[[], object]]


def points_along_rays(n: int) -> Tensor:
    origins = torch.rand(n // 32, 1, 3)
    directions = functional.normalize(torch.randn(n // 32, 1, 3), dim=-1)
    return (origins + directions * torch.arange(32)[:, None] * 3**0.5 / 1024).clamp(0, 1).reshape(-1, 3)


def ours(x: Tensor, v: Tensor, name: str = "ours") -> Passes:
    parameter = torch.nn.Parameter(torch.empty(SPEC.entries, SPEC.features).uniform_(-1e-4, 1e-4))
    parameter.grad = torch.zeros_like(parameter)

    def forward() -> Tensor:
        with torch.no_grad():
            return hash_grid(x, parameter, SPEC)

    def both() -> None:
        hash_grid(x, parameter, SPEC, table_grad=parameter.grad).backward(v)

    def with_positions() -> None:
        hash_grid(x.detach().requires_grad_(), parameter, SPEC, table_grad=parameter.grad).backward(v)

    return {f"{name} forward": forward, f"{name} both": both, f"{name} positions": with_positions}


def drjit(x: Tensor, v: Tensor) -> Passes:
    """Dr.Jit's HashGridEncoding on its LLVM backend."""
    import drjit as dr
    from drjit import nn
    from drjit.llvm.ad import ArrayXf, Float

    grid = nn.HashGridEncoding(
        Float, 3, n_levels=SPEC.levels, n_features_per_level=SPEC.features, hashmap_size=1 << SPEC.log2_table,
        base_resolution=SPEC.base_resolution, per_level_scale=SPEC.growth,
    )  # fmt: skip
    points, v_features = ArrayXf(x.T.contiguous().numpy()), ArrayXf(v.T.contiguous().numpy())
    weights = dr.detach(grid.data)
    dr.eval(points, v_features, weights)

    def forward() -> None:
        grid.data = weights
        dr.eval(grid(points))
        dr.sync_thread()

    def both() -> None:
        grid.data = Float(weights)
        dr.enable_grad(grid.data)
        features = grid(points)
        dr.set_grad(features, v_features)
        dr.enqueue(dr.ADMode.Backward, features)
        dr.traverse(dr.ADMode.Backward)
        dr.eval(dr.grad(grid.data))
        dr.sync_thread()

    return {"drjit forward": forward, "drjit both": both}


def in_torch(encode: Callable[[Tensor, Tensor], Tensor], name: str, x: Tensor, v: Tensor) -> Passes:
    parameter = torch.nn.Parameter(torch.empty(SPEC.entries, SPEC.features).uniform_(-1e-4, 1e-4))

    def forward() -> Tensor:
        with torch.no_grad():
            return encode(x, parameter)

    def both() -> None:
        parameter.grad = None
        encode(x, parameter).backward(v)

    return {f"{name} forward": forward, f"{name} both": both}


def corners(x: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Entries (n, 8) and weights (n, 8) on a level."""
    p = x * SPEC.scales[level] + 0.5
    cell = p.floor()
    frac = (p - cell)[:, None]
    bits = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    at = cell.long()[:, None] + bits
    resolution, size = SPEC.resolutions[level], SPEC.sizes[level]
    if resolution**3 <= size:
        entry = at @ torch.tensor([1, resolution, resolution**2])
    else:
        at = at * torch.tensor([1, 2654435761, 805459861])
        entry = at[..., 0] ^ at[..., 1] ^ at[..., 2]
    return entry % size + SPEC.offsets[level], torch.where(bits.bool(), frac, 1 - frac).prod(-1)


def all_at_once(x: Tensor, weights: Tensor) -> Tensor:
    """As nerfstudio's torch HashEncoding does it: every level and corner in one indexing, then interpolation."""
    entries, factors = zip(*(corners(x, level) for level in range(SPEC.levels)))
    return (weights[torch.stack(entries, 1)] * torch.stack(factors, 1)[..., None]).sum(2).flatten(1)


def embedding_bags(x: Tensor, weights: Tensor) -> Tensor:
    """The fastest known way in torch: a weighted embedding_bag of eight entries per level."""
    features = []
    for level in range(SPEC.levels):
        entries, factors = corners(x, level)
        features.append(functional.embedding_bag(entries, weights, mode="sum", per_sample_weights=factors))
    return torch.cat(features, -1)


def gather_ceiling() -> Callable[[], object]:
    """Random reads of 8-byte entries from a table of one level's size, by torch and nothing else."""
    entries = torch.rand(1 << SPEC.log2_table, dtype=torch.float64)
    index = torch.randint(len(entries), (GATHERS,))
    out = torch.empty(GATHERS, dtype=torch.float64)
    return lambda: torch.index_select(entries, 0, index, out=out)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--skip-slow", action="store_true", help="leave out nerfstudio's way: seconds a pass")
    args = options.parse_args()
    keep_memory()  # as the trainer does
    torch.manual_seed(0)
    x, v = torch.rand(POINTS, 3), torch.randn(POINTS, SPEC.width)

    candidates: Passes = ours(x, v) | ours(points_along_rays(POINTS), v, "ours, rays")
    notes = []
    try:
        candidates |= drjit(x, v)
    except (ImportError, RuntimeError) as error:
        notes.append(f"drjit skipped: {error}")
    candidates |= in_torch(embedding_bags, "embedding_bag", x, v)
    if not args.skip_slow:
        candidates |= in_torch(all_at_once, "nerfstudio's way", x[: POINTS // 8], v[: POINTS // 8])
    seconds = interleaved(candidates | {"copy": copy_ceiling(), "gather": gather_ceiling()}, rounds=args.rounds)

    def rate(name: str) -> float:
        return (POINTS // 8 if name.startswith("nerfstudio") else POINTS) / seconds[name] / 1e6

    rows = []
    for name in dict.fromkeys(key.rsplit(" ", 1)[0] for key in candidates):
        row = [name]
        for what in ("forward", "both", "positions"):
            key, mine = f"{name} {what}", f"ours {what}"
            row.append(f"{rate(key):.2f} M/s ({rate(mine) / rate(key):.1f}×)" if key in candidates else "")
        rows.append(row)
    print(machine())
    print(table(["hash grid (ours is so much faster)", "forward", "+ backward to table", "+ to positions"], rows))
    print(f"copy: {2 * 2**28 / seconds['copy'] / 1e9:.1f} GB/s")
    print(f"random 8-byte reads from 4 MiB: torch {GATHERS / seconds['gather'] / 1e6:.0f} M/s, ", end="")
    print(f"ours, interpolation included, {rate('ours forward') * SPEC.levels * 8:.0f} M/s")
    for note in notes:
        print(note)


if __name__ == "__main__":
    main()
