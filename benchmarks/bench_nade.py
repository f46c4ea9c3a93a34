"""NADE's logits at the size of MNIST with 500 units, forward and both ways, beside plain torch.

python benchmarks/bench_nade.py [--device cuda] [--data FOLDER]
FOLDER: MNIST's idx files; without it, pictures of as many ones at random places, whose units change as often.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import interleaved, machine, table
from neural3d.priors.loading import load_examples
from torch import Tensor

from neural3d.ops.nade import nade

EXAMPLES, LENGTH, WIDTH, ONES = 100, 784, 500, 0.13


def torch_nade(x: Tensor, w: Tensor, v: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """All hidden units of all values at once: 157 MB, and as much again for the way back."""
    added = x[:, :, None] * w
    h = torch.sigmoid(c + added.cumsum(1) - added)
    return torch.einsum("bdh,dh->bd", h, v) + b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    x = torch.rand(EXAMPLES, LENGTH) < ONES
    if options.data:
        x = load_examples(options.data).binarised().values["train"][:EXAMPLES].flatten(1).bool()
    x = x.to(options.device)
    shapes = [(x.shape[1], WIDTH), (x.shape[1], WIDTH), (x.shape[1],), (WIDTH,)]
    parameters = [(0.05 * torch.randn(s)).to(options.device).requires_grad_() for s in shapes]

    def both(model, x):
        return torch.autograd.grad(model(x, *parameters).sum(), parameters)

    candidates = {
        "ours, forward": lambda: nade(x, *[p.detach() for p in parameters]),
        "ours, both": lambda: both(nade, x),
        "torch, forward": lambda: torch_nade(x.float(), *[p.detach() for p in parameters]),
        "torch, both": lambda: both(torch_nade, x.float()),
    }
    seconds = interleaved(candidates, rounds=9, warmup=2)
    print(machine())
    print(f"{len(x)} examples of {x.shape[1]} values, {float(x.float().mean()):.1%} of them 1; {WIDTH} units")
    print(table(["NADE", "median"], [[name, f"{1e3 * s:.1f} ms"] for name, s in seconds.items()]))


if __name__ == "__main__":
    main()
