"""Compositing packed rays of 8 to 60 samples, forward and backward, beside two vectorised torch versions and a copy.

torch packed: one cumulative sum over all samples, the ray's start subtracted, sums per ray by index_add. Sums over
half a million samples cost it digits: its distortions (up to 0.05) are wrong by 0.004.
torch padded: samples copied into rays padded to the longest, sums along the ray, weights copied back.
All compute colour, opacity, depth, weights and the distortion loss; backward to densities and colours.
"""

from __future__ import annotations

import torch
from common import copy_ceiling, interleaved, machine, table

from neural3d.ops.composite import composite
from neural3d.ops.memory import keep_memory

RAYS = 1 << 14


def torch_packed(sigma, rgb, t, dt, offsets, ray):
    tau = sigma * dt
    total = tau.cumsum(0)
    before = total - tau
    start = torch.cat([before, before.new_zeros(1)])[offsets[:-1].clamp(max=len(tau))]
    w = torch.exp(start[ray] - before) * -torch.expm1(-tau)

    def per_ray(x):
        return x.new_zeros(len(offsets) - 1, *x.shape[1:]).index_add(0, ray, x)

    opacity, wt = per_ray(w), w * t
    first = offsets[:-1].clamp(max=len(tau) - 1)
    w_before, wt_before = w.cumsum(0) - w, wt.cumsum(0) - wt
    lag = t * (w_before - w_before[first][ray]) - (wt_before - wt_before[first][ray])
    return per_ray(w[:, None] * rgb), opacity, per_ray(wt), w, per_ray(2 * w * lag + w * w * dt / 3)


def torch_padded(sigma, rgb, t, dt, offsets, ray):
    place = torch.arange(len(ray)) - offsets[ray]
    longest = int(offsets.diff().max())

    def padded(x):
        return x.new_zeros(len(offsets) - 1, longest, *x.shape[1:]).index_put((ray, place), x)

    sigma, rgb, t, dt = (padded(x) for x in (sigma, rgb, t, dt))
    tau = sigma * dt
    w = torch.exp(-(tau.cumsum(1) - tau)) * -torch.expm1(-tau)
    wt = w * t
    lag = t * (w.cumsum(1) - w) - (wt.cumsum(1) - wt)
    distortion = (2 * w * lag + w * w * dt / 3).sum(1)
    return (w[..., None] * rgb).sum(1), w.sum(1), wt.sum(1), w[ray, place], distortion


def main() -> None:
    keep_memory()
    torch.manual_seed(0)
    counts = torch.randint(8, 61, (RAYS,))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    ray = torch.repeat_interleave(torch.arange(RAYS), counts)
    n = len(ray)
    dt = torch.full((n,), 3.4e-3)
    t = 2 + (torch.arange(n) - offsets[ray]) * dt
    sigma, rgb = torch.rand(n) * 20, torch.rand(n, 3)
    leaves = [x.requires_grad_() for x in (sigma, rgb)]
    runs = {
        "ours": lambda: composite(sigma, rgb, t, dt, offsets),
        "torch packed": lambda: torch_packed(sigma, rgb, t, dt, offsets, ray),
        "torch padded": lambda: torch_padded(sigma, rgb, t, dt, offsets, ray),
    }

    def both(run):
        out = run()
        parts = (out.rgb, out.opacity, out.distortion) if not isinstance(out, tuple) else (out[0], out[1], out[4])
        return torch.autograd.grad(parts, leaves, [torch.ones_like(p) for p in parts])

    with torch.no_grad():
        a = runs["ours"]()
        for name, tolerance in (("torch packed", 1e-2), ("torch padded", 1e-5)):
            b = runs[name]()
            assert (a.rgb - b[0]).abs().max() < tolerance and (a.distortion - b[4]).abs().max() < tolerance, name
    candidates = {}
    for name, run in runs.items():
        candidates[name + " forward"] = torch.no_grad()(run)
        candidates[name + " both"] = lambda run=run: both(run)
    seconds = interleaved({**candidates, "copy": copy_ceiling(64)})
    bandwidth = 2 * 64 * 2**20 / seconds["copy"]
    rows = []
    for what, size in (("forward", 4 * 7), ("both", 4 * (7 + 6 + 4))):  # bytes a sample: read and written
        for name in runs:
            s = seconds[f"{name} {what}"]
            ratio = s / seconds[f"ours {what}"]
            moved = f"{size * n / s / bandwidth:.0%}" if name == "ours" else ""
            rows.append([name, what, f"{s * 1e3:.2f} ms", f"{n / s / 1e6:.1f} M", f"{ratio:.1f}", moved])
    print(machine())
    print(f"{RAYS} rays, {n / RAYS:.1f} samples each; copy {bandwidth / 1e9:.1f} GB/s")
    print(table(["composite", "pass", "median", "samples/s", "× our time", "of copy bandwidth"], rows))


if __name__ == "__main__":
    main()
