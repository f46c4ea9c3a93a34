"""Training steps per second of the hash-grid SDF, eikonal loss and all, beside the same field in plain torch.

Both fields have the same levels, tables and softplus network; a step evaluates f and ∇f at the same points, goes
backward through both (through the gradient: second derivatives of grid and network) and updates the parameters. In
torch the grid is an indexing of eight corners per level (embedding_bag has no second derivative), ∇f comes from
autograd and the optimizer is torch's own Adam. Runs are interleaved; CPU seconds, the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from common import machine, table
from torch import Tensor

from neural3d.fields.sdf import HashSDF
from neural3d.ops.adam import Adam
from neural3d.ops.hash_grid import HashGridSpec
from neural3d.ops.memory import keep_memory

SPEC = HashGridSpec(levels=12, log2_table=18, base_resolution=8, max_resolution=256)  # igr's


def encode(unit: Tensor, entries: Tensor) -> Tensor:
    """The hash grid in torch operations, differentiable as often as wanted."""
    bits = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    features = []
    for scale, resolution, size, offset in zip(SPEC.scales, SPEC.resolutions, SPEC.sizes, SPEC.offsets):
        p = unit * scale + 0.5
        cell = p.detach().floor()
        share = (p - cell)[:, None]
        at = cell.long()[:, None] + bits
        if resolution**3 <= size:
            row = at @ torch.tensor([1, resolution, resolution**2])
        else:
            at = at * torch.tensor([1, 2654435761, 805459861])
            row = at[..., 0] ^ at[..., 1] ^ at[..., 2]
        weight = torch.where(bits.bool(), share, 1 - share).prod(-1)
        features.append((entries[row % size + offset] * weight[..., None]).sum(1))
    return torch.cat(features, -1)


def loss(value: Tensor, gradient: Tensor) -> Tensor:
    return value.square().mean() + 0.1 * (gradient.norm(dim=-1) - 1).square().mean()


def ours(x: Tensor) -> Callable[[], Tensor]:
    field = HashSDF(SPEC, smooth=True)
    optimizer = Adam(field.param_groups(5e-3, 1e-4))

    def step() -> Tensor:
        value, _, gradient = field.with_gradient(x)
        total = loss(value, gradient)
        total.backward()
        optimizer.step()
        return total.detach()

    return step


def in_torch(x: Tensor) -> Callable[[], Tensor]:
    field = HashSDF(SPEC, smooth=True)
    optimizer = torch.optim.Adam(field.parameters(), lr=5e-3, betas=(0.9, 0.99), eps=1e-15)

    def step() -> Tensor:
        optimizer.zero_grad()
        at = x.clone().requires_grad_()
        value = field.net(encode((at + 1) / 2, field.table))[:, 0] + at.norm(dim=-1) - field.radius
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        total = loss(value, gradient)
        total.backward()
        optimizer.step()
        return total.detach()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[1 << 12, 1 << 14])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_memory()
    rows = []
    for count in options.points:
        torch.manual_seed(0)
        x = torch.rand(count, 3) * 2 - 1
        steps: dict[str, Callable[[], Tensor]] = {}
        for name, make in (("ours", ours), ("torch", in_torch)):
            torch.manual_seed(1)  # equal parameters
            steps[name] = make(x)
        first = [float(step()) for step in steps.values()]
        assert abs(first[0] / first[1] - 1) < 1e-4, f"the fields differ: {first}"
        seconds = {name: float("inf") for name in steps}
        for _ in range(options.rounds):
            for name, step in steps.items():
                begin = time.process_time()
                step()
                seconds[name] = min(seconds[name], time.process_time() - begin)
        a, b = seconds["ours"], seconds["torch"]
        rows.append([f"{count:,}", f"{1 / a:.1f}", f"{1 / b:.1f}", f"{b / a:.1f}×"])
    print(machine())
    print(table(["points a step", "ours, steps/s", "torch, steps/s", "ratio"], rows))


if __name__ == "__main__":
    main()
