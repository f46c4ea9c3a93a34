"""SSIM as a loss at the sizes of fox, forward and both ways, beside plain torch (separable convolutions) and a copy.

python benchmarks/bench_ssim.py [--device cuda]
"""

from __future__ import annotations

import argparse

import torch
from common import copy_ceiling, interleaved, machine, sgemm_ceiling, table
from torch import Tensor
from torch.nn import functional

from neural3d.ops import ssim, ssim_and_l1


def torch_ssim(image: Tensor, truth: Tensor) -> Tensor:
    """As most training loops have it: five grouped convolutions, here separable, and autograd."""
    line = torch.exp(-(torch.arange(-5, 6, device=image.device) ** 2) / 4.5)
    line = line / line.sum()
    x, y = image.permute(2, 0, 1), truth.permute(2, 0, 1)
    fields = torch.cat([x, y, x * x, y * y, x * y])[:, None]
    fields = functional.conv2d(fields, line.view(1, 1, 11, 1), padding=(5, 0))
    fields = functional.conv2d(fields, line.view(1, 1, 1, 11), padding=(0, 5))
    mean_x, mean_y, xx, yy, xy = fields.squeeze(1).split(x.shape[0])
    both, means = mean_x * mean_y, mean_x**2 + mean_y**2
    return ((2 * both + 1e-4) * (2 * (xy - both) + 9e-4) / ((means + 1e-4) * (xx + yy - means + 9e-4))).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    rows = []
    for height, width in ((239, 134), (479, 269), (1080, 1920)):
        torch.manual_seed(0)
        truth = torch.rand(height, width, 3, device=device)
        image = (0.8 * truth + 0.1).requires_grad_()
        candidates = {
            "ours, forward": lambda image=image, truth=truth: ssim(image.detach(), truth),
            "ours, both": lambda image=image, truth=truth: torch.autograd.grad(ssim(image, truth), image),
            "with L1, both": lambda image=image, truth=truth: torch.autograd.grad(
                sum(ssim_and_l1(image, truth)), image
            ),
        }
        if device != "cpu" or height < 1000:  # ten seconds each there
            candidates["torch, both"] = lambda image=image, truth=truth: torch.autograd.grad(
                torch_ssim(image, truth), image
            )
        if device == "cpu":
            candidates |= {"copy": copy_ceiling(), "sgemm": sgemm_ceiling()}
        seconds = interleaved(candidates, rounds=15, warmup=2)
        scalars = 3 * height * width
        # Per scalar: forward 4 fields and backward 3, 11 multiply-adds along each axis; pictures read, partials written
        # and read back, gradient written.
        work = {
            "ours, forward": (4 * 44 + 30, 2),
            "ours, both": (7 * 44 + 36, 11),
            "with L1, both": (7 * 44 + 41, 11),
            "torch, both": (10 * 44, 11),
        }
        for name, (flops, words) in work.items():
            if name not in candidates:
                continue
            row = [f"{width} × {height}", name, f"{1e3 * seconds[name]:.3f} ms", f"{flops * scalars / 1e6:.1f} M",
                   f"{4 * words * scalars / 1e6:.1f} MB"]  # fmt: skip
            if device == "cpu":
                flop_rate, bandwidth = 2 * 1536**3 / seconds["sgemm"], 2 * 2**28 / seconds["copy"]
                row += [f"{flops * scalars / seconds[name] / flop_rate:.0%}",
                        f"{4 * words * scalars / seconds[name] / bandwidth:.0%}"]  # fmt: skip
            rows.append(row)
    print(machine())
    heads = ["size", "SSIM", "median", "FLOP", "bytes", "of sgemm's rate", "of copy bandwidth"]
    print(table(heads[: len(rows[0])], rows))


if __name__ == "__main__":
    main()
