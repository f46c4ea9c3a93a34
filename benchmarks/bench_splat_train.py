"""Splat training on the CPU beside OpenSplat's: the same pinhole photos, points and steps, both in one run.

    python benchmarks/bench_splat_train.py OPENSPLAT CAPTURE --downscale 4 --marks 500 1500 2000

OPENSPLAT: its program, built elsewhere with GPU_RUNTIME=CPU; only run, never linked. CAPTURE: anything with sparse
points, such as ../shared/data/fox/sparse/0. Its photos are undistorted and scaled once and written as a COLMAP project:
the training views for OpenSplat, all of them for ours, which holds every 8th out. Steps/s leave out loading, saving and
scoring.

Each is scored on the views held out by its own renderer: the files of OpenSplat's CPU mode look different elsewhere
(fox after 200 steps: 20.6 dB by itself, 17.5 dB drawn by ours, in order of depth). It draws one view that it holds out,
every tenth step: its splats of each mark are trained for ten more steps, once for each such view.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, table
from PIL import Image

from neural3d.evaluate.views import evaluate, truth
from neural3d.files.splats import read_splats
from neural3d.geometry.rotations import quaternion_from_rotation
from neural3d.loading import load_scene
from neural3d.metrics import psnr
from neural3d.run import Run, configure
from neural3d.scene import Scene, View
from neural3d.train import Trainer

Row = tuple[int, float, int, float]  # step, steps/s since the row before, splats, PSNR


def photo_name(view: View) -> str:
    return Path(view.name).with_suffix(".png").name


def write_colmap(scene: Scene, views: list[View], folder: Path, photos: Path) -> None:
    """A COLMAP project in the capture's frame: one PINHOLE camera each, points without tracks; photos are linked."""
    (folder / "sparse/0").mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        (folder / "images").symlink_to(photos.resolve())
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture)
    cameras, images = struct.pack("<Q", len(views)), struct.pack("<Q", len(views))
    for k, view in enumerate(views, 1):
        camera = view.camera.moved(capture_from_scene)
        cameras += struct.pack("<iiQQ4d", k, 1, camera.width, camera.height, *camera.params.tolist())
        camera_from_capture = torch.linalg.inv(camera.world_from_camera)
        pose = [*quaternion_from_rotation(camera_from_capture[:3, :3]).tolist(), *camera_from_capture[:3, 3].tolist()]
        images += struct.pack("<i7di", k, *pose, k) + photo_name(view).encode() + b"\0" + struct.pack("<Q", 0)
    if scene.points is None:
        raise SystemExit(f"{scene.path} has no sparse points, from which OpenSplat starts")
    xyz, rgb = scene.points
    xyz = torch.from_numpy(xyz).double() @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3]
    points = struct.pack("<Q", len(xyz))
    for k, (place, color) in enumerate(zip(xyz.tolist(), rgb.tolist()), 1):
        points += struct.pack("<Q3d3BdQ", k, *place, *color, 0.5, 0)
    for name, content in {"cameras": cameras, "images": images, "points3D": points}.items():
        (folder / f"sparse/0/{name}.bin").write_bytes(content)


def score_opensplat(command: list[str], splats: Path, mark: int, scene: Scene, place: Path) -> float:
    """Mean PSNR, in its own renderings, of the views held out, after ten more steps."""
    total = 0.0
    for k in scene.split["test"]:
        view = scene.views[k]
        project = place / f"held-out-{k}"
        write_colmap(scene, [*(scene.views[i] for i in scene.split["train"]), view], project, place / "photos")
        rendered = project / f"{mark + 10}.png"
        rendered.unlink(missing_ok=True)
        asked = ["-o", project / "splat.ply", "-n", mark + 10, "--resume", splats]
        asked += ["--val", "--val-image", photo_name(view), "--val-render", project]
        subprocess.run([str(c) for c in (command[0], project, *command[1:], *asked)], check=True, capture_output=True)
        total += psnr(np.asarray(Image.open(rendered).convert("RGB")) / 255, truth(scene, view))
    return total / len(scene.split["test"])


def run_opensplat(program: Path, place: Path, marks: list[int], scene: Scene, options: list[str]) -> list[Row]:
    """One run to the last mark, timed by the lines that it prints; splats are saved at multiples of the first mark."""
    out = place / "opensplat"
    out.mkdir(parents=True, exist_ok=True)
    command = [str(program), "--cpu", "--keep-crs", "--num-downscales", "0", *options]
    asked = [place / "train", "-o", out / "splat.ply", "-n", marks[-1], "--save-every", marks[0]]
    arrived: dict[int, float] = {}
    text = b""
    with subprocess.Popen([*command, *map(str, asked)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        while piece := os.read(run.stdout.fileno(), 1 << 16):
            text += piece
            now = time.perf_counter()
            for match in re.finditer(rb"Step (\d+):", piece):
                arrived.setdefault(int(match[1]), now)
    if run.returncode:
        raise SystemExit(f"{program} failed:\n{text.decode(errors='replace')[-2000:]}")
    rows, before = [], 1  # the first step is where the clock starts
    for mark in marks:
        path = out / f"splat_{mark}.ply"
        rate = (mark - before) / (arrived[mark] - arrived[before])
        quality = score_opensplat(command, path, mark, scene, place)
        rows.append((mark, rate, len(read_splats(path).gaussians), quality))
        before = mark
        print(f"OpenSplat, step {mark}: {rows[-1]}", flush=True)
    return rows


def run_ours(project: Path, out: Path, marks: list[int], settings: list[str]) -> list[Row]:
    config, scene = configure(project, "splat", settings)
    trainer = Trainer.create(out, config, scene, torch.device("cpu"))
    rows, step, seconds = [], 0, 0.0
    for mark in marks:
        trainer.fit(mark, previews=False)
        run = Run(trainer.directory, config, trainer.scene, trainer.method.eval(), trainer.step)
        quality = evaluate(run, pictures=mark == marks[-1])["results"]["psnr"]
        trainer.method.train()
        rows.append((mark, (mark - step) / (trainer.seconds - seconds), len(trainer.method.splats), quality))
        step, seconds = mark, trainer.seconds
        print(f"ours, step {mark}: {rows[-1]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("opensplat", type=Path)
    parser.add_argument("capture")
    parser.add_argument("--downscale", type=int, default=4)
    parser.add_argument("--marks", type=int, nargs="+", default=[500, 1000, 1500, 2000])
    parser.add_argument("--set", nargs="*", default=[], help="settings of ours, key=value")
    parser.add_argument("--opensplat-options", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/bench_splat"))
    options = parser.parse_args()
    scene = load_scene(options.capture, downscale=options.downscale).with_pinholes()
    place = options.out / f"{scene.name}-{options.downscale}"
    train = [scene.views[i] for i in scene.split["train"]]
    (place / "photos").mkdir(parents=True, exist_ok=True)
    for view in scene.views:
        Image.fromarray(view.image()).save(place / "photos" / photo_name(view))
    write_colmap(scene, train, place / "train", place / "photos")
    write_colmap(scene, scene.views, place / "all", place / "photos")
    camera = train[0].camera
    print(f"{len(train)} training views of {camera.width} × {camera.height}, {len(scene.split['test'])} held out")
    ours = run_ours(place / "all", place / f"ours-{time.strftime('%H%M%S')}", options.marks, options.set)
    theirs = run_opensplat(options.opensplat, place, options.marks, scene, options.opensplat_options)
    print(machine())
    head = ["steps", "ours, steps/s", "splats", "PSNR", "OpenSplat, steps/s", "splats", "PSNR", "ratio of steps/s"]
    print(table(head, [
        [str(a[0]), f"{a[1]:.1f}", f"{a[2]:,}", f"{a[3]:.2f}", f"{b[1]:.2f}", f"{b[2]:,}", f"{b[3]:.2f}",
         f"{a[1] / b[1]:.1f}"]
        for a in ours for b in theirs if a[0] == b[0]
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
