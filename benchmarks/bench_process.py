"""Structure from motion against known cameras: how many photos are registered, and how far off the poses are.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py sceaux fox plush orbit video
    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py fox --mapper global --camera-model SIMPLE_RADIAL
    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py fox --steps 1000 --downscale 4

Photos are copied without any poses; errors are those after the best similarity (R from the orientations, then scale and
offset), positions in % of the largest distance between two cameras. orbit and video are the tests' textured still life:
40 photos, and a film of 160 frames of which every other one is blurred. --steps: also trains ngp on the given capture
and on the one found, equally long, and compares PSNR on the same held-out photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from common import machine, table
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import textured

from neural3d.evaluate import evaluate
from neural3d.render.images import save_film
from neural3d.run import Run, configure, resolve_device
from neural3d.scene import load_scene
from neural3d.scene.align import similarity
from neural3d.scene.sfm import SfmOptions, process
from neural3d.train import Trainer

FOLDERS = {"sceaux": "sceaux_castle", "fox": "fox", "plush": "plush_mit"}
SIZE, FRAMES = (640, 480), 160


def poses_of(capture: Path) -> dict[str, np.ndarray]:
    """world_from_camera by the photo's name, in the capture's frame."""
    scene = load_scene(capture, downscale=1)
    back = np.linalg.inv(scene.scene_from_capture.numpy())
    scale = np.cbrt(np.linalg.det(back[:3, :3]))
    poses = {}
    for view in scene.views:
        pose = back @ view.camera.world_from_camera.numpy()
        pose[:3, :3] /= scale
        poses[view.image_path.name] = pose
    return poses


def make_footage(name: str, folder: Path, data: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Photos or a film without poses, and the true poses where they are known."""
    if name == "orbit":
        poses = textured.orbit(40, 2 * np.pi / 40)
        textured.write_photos(folder / name, poses, SIZE)
        return folder / name, {f"0 photo {i:02d}.jpg".replace(" ", "_"): pose for i, pose in enumerate(poses)}
    if name == "video":
        poses = textured.orbit(FRAMES, 2 * np.pi / FRAMES)
        film = folder / "video.mp4"
        folder.mkdir(parents=True, exist_ok=True)
        save_film(film, (blurred(textured.picture(pose, *SIZE), i % 2) for i, pose in enumerate(poses)))
        return film, {f"frame_{i:06d}.jpg": pose for i, pose in enumerate(poses)}
    source = data / FOLDERS[name]
    shutil.copytree(source / "images", folder / name / "images")
    if (source / "K.txt").exists():
        shutil.copy(source / "K.txt", folder / name)
        return folder / name, {}
    return folder / name, poses_of(source)


def blurred(frame: np.ndarray, radius: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(2 * radius)))


def pose_errors(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rotation in degrees and position in % of the track's extent, of each registered photo."""
    names = sorted(found)
    ours, theirs = (np.stack([poses[name] for name in names]) for poses in (truth, found))
    rotation, scale, offset = similarity(ours, theirs)
    turned = np.einsum("nji,jk,nkl->nil", ours[:, :3, :3], rotation, theirs[:, :3, :3])
    degrees = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    centres = np.stack([pose[:3, 3] for pose in truth.values()])
    extent = np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()
    moved = scale * theirs[:, :3, 3] @ rotation.T + offset
    return degrees, 100 * np.linalg.norm(moved - ours[:, :3, 3], axis=1) / extent


def held_out_psnr(capture: Path, out: Path, steps: int, downscale: int) -> str:
    config, scene = configure(capture, "ngp", [f"horizon={steps}"], downscale=downscale)
    trainer = Trainer.create(out, config, scene, resolve_device("auto"))
    trainer.fit(steps, previews=False)
    results = evaluate(Run(out, config, scene, trainer.method.eval(), trainer.step))["results"]
    return f"{results['psnr']:.2f} dB ({len(results['per_image'])} views)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*FOLDERS, "orbit", "video"])
    parser.add_argument("--mapper", default="incremental")
    parser.add_argument("--matching", default="auto")
    parser.add_argument("--camera-model", default="OPENCV")
    parser.add_argument("--frames", type=int, default=40, help="of the video")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_process"))
    options = parser.parse_args()
    data = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
    asked = SfmOptions(options.mapper, options.matching, options.camera_model, options.frames)
    rows = []
    for name in options.names:
        folder = options.out / f"{name}-{options.mapper}-{options.camera_model}"
        shutil.rmtree(folder, ignore_errors=True)
        footage, truth = make_footage(name, folder / "footage", data)
        start = time.perf_counter()
        report = process(footage, folder / "capture", asked)
        seconds = time.perf_counter() - start
        row = [name, options.mapper, options.camera_model, f"{report.registered} of {report.photos}"]
        row += [f"{report.error:.2f}", f"{report.points:,}"]
        if truth:
            for errors, unit in zip(pose_errors(truth, poses_of(folder / "capture")), ("°", " %")):
                row.append(f"{errors.mean():.3f} / {np.median(errors):.3f} / {errors.max():.3f}{unit}")
        else:
            row += ["-", "-"]
        rows.append([*row, f"{seconds:.0f} s"])
        print(rows[-1], report.missing, flush=True)
        if options.steps:
            for capture in (data / FOLDERS[name], folder / "capture"):
                psnr = held_out_psnr(capture, folder / f"run-{capture.name}", options.steps, options.downscale)
                print(f"{capture}: {psnr} after {options.steps} steps", flush=True)
    print(machine())
    header = ["footage", "mapper", "camera", "registered", "reprojection, px", "points"]
    print(table([*header, "rotation: mean / median / max", "position: mean / median / max", "time"], rows))


if __name__ == "__main__":
    main()
