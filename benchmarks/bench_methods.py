"""Another method beside the one that `--method auto` took, on captures that bench_captures.py has been through.

    NEURAL3D_ISA=avx2 python benchmarks/bench_methods.py runs/captures --method ngp --minutes 2

For equal minutes on the same cameras: held-out PSNR and SSIM of both, the steps they took. CAPTURES/METHOD.jpg: of each
capture a held-out photo, then of both methods that view and a frame of the default film, where fog would show. A run
that is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from bench_captures import in_a_row, photo, picture, run, sheet, shown
from common import machine, table
from PIL import Image

import neural3d
from neural3d.render.paths import camera_path, suited_path
from neural3d.run import Run

FRAMES, FRAME = 30, 12  # of a film, and that which is shown


def pictures(model: Run) -> list[Image.Image]:
    view = model.scene.views[model.scene.split["test"][0]]
    camera = camera_path(model.scene, suited_path(model.scene)[0], FRAMES).cameras[FRAME]
    with torch.no_grad():
        frame = model.render(camera, torch.ones(3) if view.alpha else None).rgb.cpu().numpy()
    return [shown(picture(model, view)), shown(frame)]


def scores(folder: Path) -> tuple[float, float, int]:
    said = json.loads((folder / "eval.json").read_text())
    return said["results"]["psnr"], said["results"]["ssim"], said["checkpoint"]["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", type=Path, help="what bench_captures.py left")
    parser.add_argument("--method", default="ngp")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    options = parser.parse_args()
    rows, strips = [], []
    for found in sorted(options.captures.glob("*/run/eval.json")):
        folder = found.parents[1]
        other, log = folder / options.method, folder / f"{options.method}.txt"
        if not (other / "eval.json").exists():
            train = "train", folder / "capture", "--out", other, "--minutes", str(options.minutes)
            run(*train, "--method", options.method, log=log)
            run("eval", other, log=log)
        ours, theirs = (scores(run) for run in (folder / "run", other))
        rows.append([
            folder.name, f"{ours[0]:.2f} / {ours[1]:.3f}", f"{theirs[0]:.2f} / {theirs[1]:.3f}",
            f"{ours[0] - theirs[0]:+.2f}", f"{ours[2]:,}", f"{theirs[2]:,}",
        ])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
        models = [neural3d.load(folder / "run"), neural3d.load(other)]
        view = models[0].scene.views[models[0].scene.split["test"][0]]
        parts = [photo(view), *(part for model in models for part in pictures(model))]
        strips.append(in_a_row(parts))
    sheet(options.captures / f"{options.method}.jpg", strips)
    header = ["capture", "auto: PSNR / SSIM", f"{options.method}: PSNR / SSIM", "auto ahead by", "steps", "steps"]
    print(f"\n{machine()}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
