"""Every kernel on the GPU, beside torch's own operations and the card's ceilings, all in one run.

    python benchmarks/bench_cuda.py                            # on a machine with a GPU
    python benchmarks/bench_cuda.py --device cpu --log2 14     # the same script elsewhere, to try it

2²⁰ points, rows, samples or rows of a table each; float32, and mlp in bfloat16 too, beside torch under autocast. The
other benchmarks measure the CPU.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable

import torch
from bench_hash_grid import points_along_rays
from common import interleaved, machine, table
from torch.nn import functional

from neural3d.ops import (
    HashGridSpec,
    adam_step,
    composite,
    cuda_usable,
    hash_grid,
    mlp,
    pack_bits,
    ray_march,
    splat_project,
    splat_raster,
    ssim,
)

Calls = dict[str, Callable[[], object]]


def hash_grid_calls(n: int, device: str) -> Calls:
    spec = HashGridSpec()
    entries = torch.empty(spec.entries, spec.features, device=device).uniform_(-1e-4, 1e-4).requires_grad_()
    entries.grad = torch.zeros_like(entries)
    x, rays = torch.rand(n, 3, device=device), points_along_rays(n).to(device)
    v = torch.randn(n, spec.width, device=device)
    return {
        "hash_grid forward": lambda: hash_grid(x, entries.detach(), spec),
        "hash_grid both": lambda: hash_grid(x, entries, spec, table_grad=entries.grad).backward(v),
        "hash_grid both, along rays": lambda: hash_grid(rays, entries, spec, table_grad=entries.grad).backward(v),
    }


def mlp_calls(n: int, device: str) -> Calls:
    """ngp's size and nerf's, each beside the same layers in torch, which takes bfloat16 by autocast."""

    def both(name: str, x: torch.Tensor, weights: list[torch.Tensor], network: Callable[..., torch.Tensor]) -> Calls:
        v = torch.randn(n, len(weights[-1]), device=device)
        return {
            f"{name} forward": torch.no_grad()(lambda: network(x, weights)),
            f"{name} both": lambda: torch.autograd.grad(network(x, weights), [x, *weights], v),
        }

    def in_torch(x, weights):
        for weight in weights[:-1]:
            x = functional.linear(x, weight).relu()
        return functional.linear(x, weights[-1]).float()

    autocast = torch.autocast(torch.device(device).type, torch.bfloat16)
    calls: Calls = {}
    for size, widths in {"": [32, 64, 64, 16], " 63-128³-4": [63, 128, 128, 128, 4]}.items():
        x = torch.randn(n, widths[0], device=device, requires_grad=True)
        weights = [torch.randn(o, i, device=device) * (2 / i) ** 0.5 for i, o in itertools.pairwise(widths)]
        weights = [weight.requires_grad_() for weight in weights]
        calls |= both(f"mlp{size}", x, weights, mlp)
        calls |= both(f"mlp{size} in torch", x, weights, in_torch)
        calls |= both(f"mlp{size}, bfloat16", x, weights, functools.partial(mlp, precision="bfloat16"))
        calls |= both(f"mlp{size} in torch, bfloat16", x, weights, autocast(in_torch))
    return calls


def march_calls(n: int, device: str) -> Calls:
    """Rays through a ball that fills a tenth of the grid, about 32 samples each; n samples, then composited."""
    cells = torch.linspace(-1, 1, 128, device=device)
    ball = (cells[:, None, None] ** 2 + cells[:, None] ** 2 + cells**2 < 0.36).float()[None]
    bits = pack_bits(ball, 0.5)
    rays = n // 32
    o = functional.normalize(torch.randn(rays, 3, device=device), dim=-1) * 1.7
    d = functional.normalize(0.5 * torch.rand(rays, 3, device=device) - o, dim=-1)
    near, far = torch.zeros(rays, device=device), torch.full((rays,), 4.0, device=device)

    def march():
        return ray_march(o, d, near, far, bits, step_min=0.03, step_max=0.03)

    samples = march()
    sigma = torch.rand(len(samples), device=device, requires_grad=True)
    rgb = torch.rand(len(samples), 3, device=device, requires_grad=True)

    def both():
        out = composite(sigma, rgb, samples.t, samples.dt, samples.offsets)
        torch.autograd.grad(out.rgb.sum() + out.distortion.sum(), [sigma, rgb])

    forward = torch.no_grad()(lambda: composite(sigma, rgb, samples.t, samples.dt, samples.offsets))
    return {"ray_march": march, "composite forward": forward, "composite both": both}


def ssim_calls(n: int, device: str) -> Calls:
    """A picture of n pixels."""
    width = 1 << (n.bit_length() - 1) // 2
    truth = torch.rand(n // width, width, 3, device=device)
    image = (0.8 * truth + 0.1).requires_grad_()
    return {
        "ssim forward": lambda: ssim(image.detach(), truth),
        "ssim both": lambda: torch.autograd.grad(ssim(image, truth), image),
    }


def adam_calls(n: int, device: str) -> Calls:
    p, m, v, gradient = (torch.zeros(n, 2, device=device) for _ in range(4))
    dense = torch.randn(n, 2, device=device)
    parameter = torch.nn.Parameter(torch.zeros(n, 2, device=device))
    parameter.grad = dense
    return {
        "adam, with a refill": lambda: adam_step(p, gradient.copy_(dense), m, v, step=10, lr=1e-2),
        "adam, nothing touched": lambda: adam_step(p, gradient.zero_(), m, v, step=10, lr=1e-2, skip_untouched=True),
        "adam of torch, fused": torch.optim.Adam([parameter], fused=True).step,
    }


def splat_calls(n: int, device: str) -> Calls:
    """n splats, harmonics of degree 3, in a slab in front of a camera of 1000 × 1000 pixels."""
    rows = [torch.rand(n, 3) + torch.tensor([-0.5, -0.5, 1.5]), torch.randn(n, 4), torch.randn(n, 3) - 6]
    rows += [torch.randn(n), torch.randn(n, 3), 0.1 * torch.randn(n, 15, 3)]
    splats = [x.to(device).requires_grad_() for x in rows]
    view = torch.eye(4, device=device), torch.tensor([1500.0, 1500, 500, 500], device=device), 1000, 1000

    def forward():
        return splat_project(*splats, *view, sh_degree=3, raw=True)

    def both():
        p = forward()
        out = p.xy, p.conic, p.depth, p.opacity, p.color
        torch.autograd.grad(out, splats, out)

    p = forward()
    flat = [x.detach().requires_grad_() for x in (p.xy, p.conic, p.opacity, p.color)]

    def blend():
        xy, conic, opacity, color = flat
        return splat_raster(xy, conic, p.depth.detach(), opacity, color, *view[2:])

    v = torch.rand(1000, 1000, 3, device=device)
    return {
        "splat_project forward": forward,
        "splat_project both": both,
        "splat_raster forward": torch.no_grad()(blend),
        "splat_raster both": lambda: torch.autograd.grad(blend()[0], flat, v),
    }


def ceilings(n: int, device: str) -> Calls:
    source = torch.ones(64 * n, device=device)
    target = torch.empty_like(source)
    a = torch.randn(n, 64, device=device)
    b = torch.randn(64, 64, device=device)
    return {"copy of 64 floats a row": lambda: target.copy_(source), "matrix product, ×(64, 64)": lambda: a @ b}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="cuda")
    options.add_argument("--log2", type=int, default=20)
    given = options.parse_args()
    if given.device == "cuda" and not cuda_usable():
        print("no usable GPU here: nothing measured")
        return
    torch.manual_seed(0)
    n = 1 << given.log2
    parts = (hash_grid_calls, mlp_calls, march_calls, splat_calls, ssim_calls, adam_calls, ceilings)
    calls = {name: call for part in parts for name, call in part(n, given.device).items()}
    seconds = interleaved(calls, rounds=20, warmup=3)
    print(machine())
    print(table([f"2^{given.log2} rows", "median", "rows/s"], [
        [name, f"{1e3 * s:.3f} ms", f"{n / s / 1e6:,.0f} M"] for name, s in seconds.items()
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
