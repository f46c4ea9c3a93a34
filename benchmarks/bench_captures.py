"""The whole path with default commands: photos to cameras, scene, scores, textured mesh, film. Poses are thrown away.

    NEURAL3D_DATA=../shared/data NEURAL3D_ISA=avx2 python benchmarks/bench_captures.py --out runs/captures
    NEURAL3D_DATA=../shared/data python benchmarks/bench_captures.py fox plush --harder half lens shrunk portrait
    python benchmarks/bench_captures.py /somewhere/photos --out runs/mine

Nothing is set per capture: `--minutes` of training, the same for all, is the only number. Commands run as a user runs
them, each a program of its own:

    process PHOTOS CAPTURE; train CAPTURE --minutes M; eval RUN; export RUN mesh.glb --texture 2048; render RUN film.mp4

Texture PSNR: mesh.glb, read back and drawn into the held-out views, beside their photos, where the mesh is. After the
best similarity between the cameras found and the given ones, turned and moved: their median errors, in degrees and % of
the cameras' extent; tilt: the angle between what is up in both. Where no poses are known, the picture tells.

OUT/table.md: the table. OUT/sheet.jpg: of each capture a held-out photo, the same view of the scene and of the textured
mesh, mesh.glb with +Y up from the side, and two frames of the film. A capture that is done is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
import trimesh
from bench_process import pose_errors, poses_of
from common import machine, table
from harder import HARDER, QUALITY
from PIL import Image

import neural3d
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.geometry.upright import file_from_own
from neural3d.loading import load_scene
from neural3d.render.paths import look_at
from neural3d.render.photo_error import colors_at, photo_psnr
from neural3d.run import Run
from neural3d.scene import View
from neural3d.scene.readers.align import similarity

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
SHOWN = 320  # pixels of a picture's height in the contact sheet
GLB, FILM = "mesh.glb", "film.mp4"
GAP = 4  # pixels between the sheet's pictures
STEPS = ("process", "train", "eval", "export", "render")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class Photos:
    """A set of photos, by name below DATA; `truth`: what knows their poses, where anything does."""

    files: str
    truth: str | None = None
    beside: tuple[str, ...] = ()  # files that belong to the photos


SETS = {
    "fox": Photos("fox/images/*", "fox"),
    "plush": Photos("plush_mit/images/*", "plush_mit"),
    "sceaux": Photos("sceaux_castle/images/*", beside=("sceaux_castle/K.txt",)),
    "temple": Photos("middlebury_templeSparseRing/*.png", "middlebury_templeSparseRing"),
    "dtu24": Photos("dtu_scan24_monosdf/*_rgb.png", "dtu_scan24_monosdf"),
    "lego": Photos("nerf_synthetic_lego/train/*.png", "nerf_synthetic_lego"),
    "stool": Photos("synth_stool_cc0/train/*.png", "synth_stool_cc0"),
}


def copy_photos(name: str, folder: Path) -> None:
    """The photos alone, as they are, into a new folder."""
    folder.mkdir(parents=True)
    if name not in SETS:
        for path in sorted(Path(name).iterdir()):
            if path.is_file():
                shutil.copy(path, folder)
        return
    for pattern in (SETS[name].files, *SETS[name].beside):
        for path in sorted(DATA.glob(pattern)):
            shutil.copy(path, folder)


def run(*arguments: str | Path, log: Path) -> tuple[int, float]:
    """One command: its exit status and seconds; what it says goes to the log."""
    start = time.perf_counter()
    with log.open("a") as file:
        file.write(f"$ neural3d {' '.join(map(str, arguments))}\n")
        file.flush()
        command = [sys.executable, "-m", "neural3d.cli", *map(str, arguments)]
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    return status, time.perf_counter() - start


def beside_truth(capture: Path, truth: Path) -> dict[str, float]:
    """turned, moved: medians of `pose_errors`, in degrees and % of the extent of the given cameras. tilt: degrees
    between what is up in the capture's scene and in that of the given poses."""
    found, known = poses_of(capture), poses_of(truth)
    both = sorted(found.keys() & known.keys())
    found, known = ({name: poses[name] for name in both} for poses in (found, known))
    degrees, moved = pose_errors(known, found)
    ups = []
    for folder in (capture, truth):
        up = np.linalg.inv(load_scene(folder).scene_from_capture.numpy())[:3, 2]
        ups.append(up / np.linalg.norm(up))
    turn, _, _ = similarity(np.stack([known[n] for n in both]), np.stack([found[n] for n in both]))
    tilt = float(np.degrees(np.arccos(np.clip(ups[1] @ turn @ ups[0], -1, 1))))
    return {"turned": float(np.median(degrees)), "moved": float(np.median(moved)), "tilt": tilt}


def read_glb(path: Path) -> Mesh:
    """As written: +Y is up."""
    read = trimesh.load(path, force="mesh", process=False)
    texture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
    uv = np.asarray(read.visual.uv, np.float32) * (1, -1) + (0, 1)  # trimesh's v points up
    faces = np.asarray(read.faces, np.int32)
    return Mesh(np.asarray(read.vertices, np.float32), faces, uv=uv.astype(np.float32), texture=texture)


def drawn(mesh: Mesh, camera: Camera) -> np.ndarray:
    """The mesh in its own colours, (H, W, 3) in [0, 1], on white."""
    face, share = Solid(mesh).hit_place(*(x.reshape(-1, 3).numpy() for x in camera.rays()))
    picture = np.ones((len(face), 3))
    picture[face >= 0] = colors_at(mesh, face[face >= 0], share[face >= 0])
    return picture.reshape(camera.height, camera.width, 3)


def beside(mesh: Mesh) -> Camera:
    """A camera that sees the whole mesh from a little above, upright where +Y is up."""
    low, high = (torch.from_numpy(corner).double() for corner in (mesh.vertices.min(0), mesh.vertices.max(0)))
    target, away = (low + high) / 2, torch.tensor([0.5, 0.35, 1.1]).double()
    pose = look_at(target + (high - low).norm() * away, target, torch.tensor([0.0, 1, 0]).double())
    f = 1.15 * SHOWN  # the mesh's box seen from 1.26 diagonals away fills the picture
    return Camera("PINHOLE", SHOWN, SHOWN, torch.tensor([f, f, SHOWN / 2, SHOWN / 2]).double(), pose)


def shown(picture: np.ndarray, height: int = SHOWN) -> Image.Image:
    image = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)


def through(photos: Path, out: Path, minutes: float) -> dict[str, Any]:
    """One capture through all commands; what the commands themselves say."""
    capture, model, log = out / "capture", out / "run", out / "log.txt"
    found: dict[str, Any] = {"minutes": {}, "status": {}}

    def step(name: str, *arguments: str | Path) -> bool:
        found["status"][name], seconds = run(name, *arguments, log=log)
        found["minutes"][name] = seconds / 60
        return found["status"][name] == 0

    step("process", photos, capture)
    if not capture.is_dir() or not step("train", capture, "--out", model, "--minutes", str(minutes)):
        return found
    found["method"] = json.loads((model / "config.json").read_text())["method"]
    if step("eval", model):
        scores = json.loads((model / "eval.json").read_text())["results"]
        found["psnr"], found["ssim"] = scores["psnr"], scores["ssim"]
    if step("export", model, out / GLB, "--texture", "2048"):
        said = re.search(r"covers (\d+)\s?% of what", " ".join(log.read_text().split()))
        found["coverage"] = int(said[1]) if said else None
    step("render", model, "--out", out / FILM)
    return found


def count_photos(folder: Path) -> int:
    return sum(p.suffix.lower() in IMAGE_SUFFIXES and "masks" not in p.parts for p in folder.rglob("*"))


def examine(out: Path, truth: Path | None) -> dict[str, Any]:
    """What was made, looked at from outside; pictures of it in strip.png."""
    found: dict[str, Any] = {"of": count_photos(out / "photos")}
    if (out / "capture").is_dir():
        found["placed"] = len(load_scene(out / "capture").views)
        found |= beside_truth(out / "capture", truth) if truth else {}
    parts = []
    if (out / "run" / "checkpoint.safetensors").exists():
        model = neural3d.load(out / "run")
        views = [model.scene.views[i] for i in model.scene.split["test"]]
        parts += [photo(views[0]), shown(picture(model, views[0]))]
        if (out / GLB).exists():
            mesh = read_glb(out / GLB)
            own_from_file = torch.linalg.inv(file_from_own(out / GLB, None, model.up_in_capture))
            inside = mesh.transformed(model.scene.scene_from_capture.double() @ own_from_file.double())
            found["faces"], found["texture"] = len(mesh.faces), photo_psnr(inside, views)
            parts += [shown(drawn(inside, views[0].camera)), shown(drawn(mesh, beside(mesh)))]
    if (out / FILM).exists():
        frames = imageio.mimread(out / FILM, memtest=False)
        parts += [shown(frames[int(len(frames) * part)] / 255) for part in (0.0, 0.4)]
    if parts:
        in_a_row(parts).save(out / "strip.png")
    return found


def photo(view: View) -> Image.Image:
    image = np.asarray(view.image(), np.float64) / 255
    return shown(image[..., :3] * image[..., 3:] + 1 - image[..., 3:] if image.shape[2] == 4 else image)


def picture(model: Run, view: View) -> np.ndarray:
    with torch.no_grad():
        return model.render(view.camera, torch.ones(3) if view.alpha else None).rgb.cpu().numpy()


def row(found: dict[str, Any]) -> list[str]:
    def number(key: str, form: str) -> str:
        return form.format(found[key]) if found.get(key) is not None else "-"

    placed = f"{found['placed']} of {found['of']}" if "placed" in found else "none"
    spent = " + ".join(f"{found['minutes'][s]:.1f}" for s in STEPS if s in found["minutes"])
    return [
        found["name"], placed, found.get("method", "-"), spent, number("psnr", "{:.2f}"), number("ssim", "{:.3f}"),
        number("coverage", "{} %"), number("faces", "{:,}"), number("texture", "{:.2f}"),
        number("turned", "{:.2f}°"), number("moved", "{:.2f} %"), number("tilt", "{:.1f}°"),
    ]  # fmt: skip


def in_a_row(pictures: list[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (sum(p.width + GAP for p in pictures), max(p.height for p in pictures)), "white")
    for i, picture in enumerate(pictures):
        row.paste(picture, (sum(p.width + GAP for p in pictures[:i]), 0))
    return row


def sheet(path: Path, strips: list[Image.Image]) -> None:
    whole = Image.new("RGB", (max(s.width for s in strips), sum(s.height + GAP for s in strips)), "white")
    for i, strip in enumerate(strips):
        whole.paste(strip, (0, sum(s.height + GAP for s in strips[:i])))
    whole.save(path, quality=QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SETS), help=f"{', '.join(SETS)}, or folders of photos")
    parser.add_argument("--harder", nargs="*", default=[""], choices=list(HARDER))
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    parser.add_argument("--out", type=Path, default=Path("runs/captures"))
    options = parser.parse_args()
    results = []
    for name, change in itertools.product(options.names, options.harder):
        label = f"{Path(name).name} {change}".strip().replace(" ", "-")
        out = options.out / label
        if not (out / "found.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            copy_photos(name, out / "photos")
            if change:
                HARDER[change](out / "photos")
            found = {"name": label, **through(out / "photos", out, options.minutes)}
            found |= examine(out, DATA / SETS[name].truth if name in SETS and SETS[name].truth else None)
            (out / "found.json").write_text(json.dumps(found, indent=1))
        results.append(json.loads((out / "found.json").read_text()))
        print(" | ".join(row(results[-1])), flush=True)
    strips = [path for found in results if (path := options.out / found["name"] / "strip.png").exists()]
    if strips:
        sheet(options.out / "sheet.jpg", [Image.open(path) for path in strips])
    header = ["photos", "placed", "method", f"minutes: {' + '.join(STEPS)}", "PSNR, dB", "SSIM"]
    header += ["mesh covers", "faces", "texture, dB", "turned", "moved", "tilt"]
    (options.out / "table.md").write_text(f"{machine()}\n\n{table(header, [row(found) for found in results])}\n")
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    main()
