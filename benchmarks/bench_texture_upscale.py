"""Textures doubled by `srflow`, beside bicubic interpolation, on textures that it has not learnt from.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_texture_upscale.py OUT [--held-out sofa_03]

Of Poly Haven's three diffuse textures (CC0, 1024²) one is held out and the flow learns from pieces of the others. The
held-out one is halved by means of 2 × 2 and made large again: PSNR, dB, of the middle answer (temperature 0) and of
answers at others, how much two of these differ, and perceptual distances (neural3d.evaluate.perceptual).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from bench_category import trained
from common import machine, table
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from neural3d.evaluate.perceptual import NAME, Perceptual
from neural3d.run import load
from neural3d.upscale import upscaler

TEXTURES = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "polyhaven_pbr" / "textures"
SETTINGS = ["patch=32", "horizon=2000", "batch=16", "steps=4", "width=32", "features=16"]
WARM = (0.5, 0.8)  # temperatures


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--held-out", default="sofa_03")
    parser.add_argument("--crop", type=int, default=1024, help="measure on the middle so many pixels")
    parser.add_argument("--set", nargs="*", default=SETTINGS)
    given = parser.parse_args()
    data = given.out / "textures"
    for file in sorted(TEXTURES.glob("*_diff_1k.jpg")):
        folder = data / ("test" if file.name.startswith(given.held_out) else "train")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    print(machine())
    print(f"srflow: {trained(data, 'srflow', given.out / 'srflow', given.set)}", flush=True)
    (file,) = (data / "test").iterdir()
    truth = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).movedim(-1, 0)[None].float() / 255
    start = (truth.shape[2] - given.crop) // 2
    truth = truth[..., start : start + given.crop, start : start + given.crop]
    small = (255 * avg_pool2d(truth, 2)).round() / 255
    bicubic = interpolate(small, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)
    distance = Perceptual()
    rows = [["bicubic", f"{psnr(bicubic, truth):.2f}", f"{float(distance(bicubic, truth)):.3f}", "-", "-"]]
    shown = [truth, interpolate(small, scale_factor=2), bicubic]
    run, texture = load(given.out / "srflow", "cpu"), (255 * small[0]).round().byte().movedim(0, -1).numpy()
    for temperature in (0.0, *WARM):
        upscale, _ = upscaler(run, temperature)
        began = time.process_time()
        answers = [torch.from_numpy(upscale(texture)).movedim(-1, 0)[None].float() / 255 for _ in range(2)]
        seconds = (time.process_time() - began) / 2
        first = answers[0]
        apart = 255 * float((first - answers[1]).abs().mean())
        scores = f"{psnr(first, truth):.2f}", f"{float(distance(first, truth)):.3f}"
        rows.append([f"srflow, temperature {temperature:g}", *scores, f"{apart:.2f}", f"{seconds:.0f}"])
        print(*rows[-1], flush=True)
        shown += answers[: 1 if temperature == 0 else 2]
    header = [f"{file.stem}, {given.crop}²", "PSNR, dB", f"distance ({NAME})", "two differ by, levels", "CPU s"]
    print(table(header, rows))
    middle = slice(given.crop // 2 - 96, given.crop // 2 + 96)
    sheet = torch.cat([x[0, :, middle, middle] for x in shown], 2).movedim(0, -1)
    Image.fromarray((255 * sheet).round().byte().numpy()).save(given.out / "sheet.jpg", quality=90)


if __name__ == "__main__":
    main()
