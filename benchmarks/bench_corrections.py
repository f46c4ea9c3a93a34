"""Do `exposure` and `refine_poses` earn their place? The demo's photos, plain and with other brightness or poses.

    python benchmarks/bench_corrections.py --methods ngp splat

Photos for training get a gain of their own (a normal deviate of --stops, in stops, of linear light) or poses of their
own (a turn about the camera and a shift, normal deviates of --degrees and of --shift in units of the capture), with a
mean of zero over the photos. The held-out photos keep theirs: their PSNR tells how much of the harm is undone.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import machine, table
from PIL import Image

from neural3d.evaluate.views import evaluate
from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.images.srgb import linear_to_srgb, srgb_to_linear
from neural3d.run import configure, load
from neural3d.synthetic.demo import make_demo_scene
from neural3d.train import Trainer

CPU = torch.device("cpu")
HARM = {"exposure": "exposure", "poses": "refine_poses"}  # what is done to the photos, and the setting against it


def harmed(folder: Path, harm: str, options: argparse.Namespace) -> None:
    """Changes a capture's training photos or poses, in place."""
    random = np.random.default_rng(0)
    path = folder / "transforms_train.json"
    content = json.loads(path.read_text())
    deviates = random.standard_normal((len(content["frames"]), 6))
    deviates -= deviates.mean(0)
    for frame, deviate in zip(content["frames"], deviates):
        if harm == "exposure":
            photo = (folder / frame["file_path"]).with_suffix(".png")
            pixels = np.asarray(Image.open(photo)).copy()
            linear = srgb_to_linear(pixels[..., :3] / 255) * 2 ** (options.stops * deviate[0])
            pixels[..., :3] = np.round(255 * linear_to_srgb(linear.clip(0, 1)))
            Image.fromarray(pixels).save(photo)
        else:
            pose = np.array(frame["transform_matrix"])
            axis = torch.from_numpy(np.radians(options.degrees) * deviate[:3])
            pose[:3, :3] = pose[:3, :3] @ rotation_from_axis_angle(axis[None])[0].numpy()
            pose[:3, 3] += options.shift * deviate[3:]
            frame["transform_matrix"] = pose.tolist()
    path.write_text(json.dumps(content))


def score(capture: Path, run: Path, method: str, settings: list[str], steps: int) -> float:
    """PSNR of the held-out photos, dB."""
    Trainer.create(run, *configure(capture / "scene.toml", method, [f"horizon={steps}", *settings]), CPU).fit(
        steps, previews=False
    )
    return evaluate(load(run, "cpu"), pictures=False)["results"]["psnr"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["ngp", "splat"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=64, help="pixels along a photo's side")
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--stops", type=float, default=0.4)
    parser.add_argument("--degrees", type=float, default=0.5)
    parser.add_argument("--shift", type=float, default=0.02)
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs")
    options = parser.parse_args()
    print(machine())
    with TemporaryDirectory() as name:
        folder, rows = Path(name), []
        make_demo_scene(folder / "plain", train_views=options.photos, test_views=6, size=options.size)
        for harm in HARM:
            shutil.copytree(folder / "plain", folder / harm)
            harmed(folder / harm, harm, options)
        for method in options.methods:
            cases = [("plain", None), *((harm, x) for harm in HARM for x in (None, HARM[harm]))]
            cases += [("plain", x) for x in HARM.values()]
            for k, (capture, setting) in enumerate(cases):
                settings = [*options.set, *([f"{setting}=true"] if setting else [])]
                psnr = score(folder / capture, folder / f"{method}-{k}", method, settings, options.steps)
                rows.append([method, capture, setting or "–", f"{psnr:.2f}"])
                print(rows[-1], flush=True)
        print(table(["method", "photos with other", "setting", "PSNR"], rows))


if __name__ == "__main__":
    main()
