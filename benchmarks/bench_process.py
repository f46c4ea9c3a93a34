"""Structure from motion against known cameras: photos registered, how far off the poses are, how long it takes.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py fox plush temple sceaux phone --exhaustive
    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py plush plush/2 plush/small
    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py fox --mapper global --camera-model SIMPLE_RADIAL
    NEURAL3D_DATA=../shared/data python benchmarks/bench_process.py fox --steps 1000 --downscale 4

Photos are copied without any poses; errors are those after the best similarity (R from the orientations, then scale and
offset), positions in % of the largest distance between two cameras. orbit and video are the tests' textured still life:
40 photos, and a film of 160 frames of which every other one is blurred. phone is fox as a phone would film it: lying
on its side with a tag that says so, two of three frames blurred by motion, exposure that drifts, compressed. NAME/2 is
every other photo, NAME/small the photos at half their size with their EXIF as it was, NAME/side their first third.
--exhaustive: also matches all pairs with COLMAP's own settings, on the same features, and compares times. --steps: also
trains ngp on the given capture and on the one found, equally long, and compares PSNR on the same held-out photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from common import machine, table
from imageio_ffmpeg import get_ffmpeg_exe, write_frames
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import textured

from neural3d.evaluate.views import evaluate
from neural3d.loading import load_scene
from neural3d.render.images import save_film
from neural3d.run import Run, configure, resolve_device
from neural3d.scene.readers.align import similarity
from neural3d.sfm.solve import SfmOptions, process
from neural3d.train import Trainer

FOLDERS = {
    "sceaux": "sceaux_castle/images",
    "fox": "fox/images",
    "plush": "plush_mit/images",
    "temple": "middlebury_templeSparseRing",
}
VARIANTS = ("", "/2", "/small", "/side")
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
    if name == "phone":
        return phone_film(sorted((data / FOLDERS["fox"]).iterdir()), folder), {}
    name, _, variant = name.partition("/")
    photos = sorted(p for p in (data / FOLDERS[name]).iterdir() if p.suffix in (".png", ".jpg"))
    target = folder / "photos" / "images"
    target.mkdir(parents=True)
    for photo in {"2": photos[::2], "side": photos[: len(photos) // 3]}.get(variant, photos):
        if variant == "small":
            with Image.open(photo) as picture:
                picture.reduce(2).save(target / photo.name, quality=95, exif=picture.getexif())
        else:
            shutil.copy(photo, target)
    source = data / FOLDERS[name].removesuffix("/images")
    if (source / "K.txt").exists() and variant != "small":
        shutil.copy(source / "K.txt", target.parent)
    truth = {} if name in ("sceaux", "temple") else poses_of(source)
    return target.parent, truth


def phone_film(photos: list[Path], folder: Path) -> Path:
    """30 frames a second, of which each third is sharp; turned by a tag, as phones write what was held upright."""
    folder.mkdir(parents=True, exist_ok=True)

    def frames() -> Iterator[np.ndarray]:
        for i, photo in enumerate(photos):
            sharp = np.asarray(Image.open(photo).convert("RGB"), np.float32)
            for shift in (7, 0, 12):
                frame = np.mean([np.roll(sharp, k, axis=1) for k in range(shift + 1)], axis=0)  # a shaky hand
                exposed = frame * (1 + 0.15 * np.sin(0.2 * i))
                yield np.rot90(exposed.clip(0, 255).astype(np.uint8))

    lying, film = folder / "lying.mp4", folder / "phone.mp4"
    height, width = np.asarray(Image.open(photos[0])).shape[:2]
    writer = write_frames(str(lying), (height, width), fps=30, macro_block_size=1, output_params=["-crf", "28"])
    writer.send(None)
    for frame in frames():
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    tag = [get_ffmpeg_exe(), "-y", "-loglevel", "error", "-display_rotation", "-90", "-i", lying, "-c", "copy", film]
    subprocess.run(tag, check=True)
    return film


def exhaustive_seconds(database: Path, threads: int) -> float:
    """All pairs, matched and verified as COLMAP does by default, on a copy of the database; in a process of its own."""
    copy = database.with_name("exhaustive.db")
    shutil.copyfile(database, copy)
    code = f"""
import time, pycolmap
with pycolmap.Database.open({str(copy)!r}) as database:
    database.clear_matches()
    database.clear_two_view_geometries()
options = pycolmap.FeatureMatchingOptions()
options.num_threads = {threads}
start = time.perf_counter()
pycolmap.match_exhaustive({str(copy)!r}, matching_options=options)
print(time.perf_counter() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    copy.unlink()
    return float(done.stdout.split()[-1])


class Stopwatch:
    """Seconds by what was done, from the stages that `process` reports."""

    PARTS: ClassVar = {"finding features": "features", "comparing": "pairs", "matching": "matching"}

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.part, self.since = "reading", time.perf_counter()

    def update(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.since = now
        named = next((part for start, part in self.PARTS.items() if stage.startswith(start)), "mapping")
        self.part = "reading" if stage.startswith(("reading", "choosing")) else named


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
    names = [name + variant for name in FOLDERS for variant in VARIANTS]
    parser.add_argument("names", nargs="+", choices=[*names, "orbit", "video", "phone"], metavar="NAME")
    parser.add_argument("--mapper", default="auto")
    parser.add_argument("--matching", default="auto")
    parser.add_argument("--camera-model", default="auto")
    parser.add_argument("--frames", type=int, default=40, help="of a video")
    parser.add_argument("--exhaustive", action="store_true")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_process"))
    options = parser.parse_args()
    data = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
    asked = SfmOptions(options.mapper, options.matching, options.camera_model, options.frames)
    rows = []
    for name in options.names:
        folder = options.out / f"{name.replace('/', '-')}-{options.mapper}-{options.camera_model}"
        shutil.rmtree(folder, ignore_errors=True)
        footage, truth = make_footage(name, folder / "footage", data)
        watch = Stopwatch()
        report = process(footage, folder / "capture", asked, watch.update)
        watch.update("", 0, 0)
        row = [name, f"{report.registered} of {report.photos}", report.lens]
        row += [f"{report.error:.2f}", f"{report.points:,}"]
        if truth:
            for errors, unit in zip(pose_errors(truth, poses_of(folder / "capture")), ("°", " %")):
                row.append(f"{errors.mean():.3f} / {np.median(errors):.3f} / {errors.max():.3f}{unit}")
        else:
            row += ["-", "-"]
        row += [f"{watch.seconds[part]:.1f} s" for part in ("features", "pairs", "matching", "mapping")]
        if options.exhaustive:
            today = exhaustive_seconds(folder / "capture" / "database.db", torch.get_num_threads())
            ours = watch.seconds["pairs"] + watch.seconds["matching"]
            row += [f"{today:.1f} s", f"{ours / today:.2f}"]
        else:
            row += ["-", "-"]
        rows.append(row)
        print(rows[-1], report.tried, report.missing, flush=True)
        if options.steps:
            for capture in (data / FOLDERS[name].removesuffix("/images"), folder / "capture"):
                psnr = held_out_psnr(capture, folder / f"run-{capture.name}", options.steps, options.downscale)
                print(f"{capture}: {psnr} after {options.steps} steps", flush=True)
    print(machine())
    header = ["footage", "registered", "lens", "error, px", "points", "rotation: mean / median / max"]
    header += ["position: mean / median / max", "features", "pairs", "matching", "mapping", "all pairs", "ratio"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
