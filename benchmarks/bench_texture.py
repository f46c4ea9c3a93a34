"""Is a texture better than the colours of the same mesh's vertices? The exported files beside held-out photos.

    python benchmarks/bench_texture.py RUN [RUN …] [--size 2048] [--faces 50000] [--crop x0 y0 z0 x1 y1 z1]

For each run: extracts its mesh, writes it (1) whole with vertex colours, (2) simplified with vertex colours, (3)
simplified with a texture, as .glb; reads the three back with trimesh; draws them by casting rays through every pixel of
the held-out cameras, lens distortion included, with bilinear look-up in the texture (vertex colours: linear across the
face); and compares with the photos. PSNR is over the pixels whose rays hit the simplified mesh, and where the photo has
alpha, whose alpha is 1: the same pixels for all three. Photos at their stored size and at that of training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

import neural3d
from neural3d.files.meshes import linear_to_srgb, write_mesh
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.images.reading import read_header
from neural3d.meshing import surface
from neural3d.render.photo_error import colors_at
from neural3d.scene import View


class Read:
    """An exported file, drawn as a standard reader understands it. The file is in the capture's frame."""

    def __init__(self, path: Path):
        read = trimesh.load(path, force="mesh", process=False)
        vertices, faces = np.asarray(read.vertices, np.float32), np.asarray(read.faces, np.int32)
        if isinstance(read.visual, trimesh.visual.TextureVisuals):
            uv = np.asarray(read.visual.uv) * [1, -1] + [0, 1]  # trimesh's v points up
            picture = np.asarray(read.visual.material.baseColorTexture.convert("RGB"))
            self.mesh = Mesh(vertices, faces, uv=uv, texture=picture)
        else:
            colors = linear_to_srgb(np.asarray(read.visual.vertex_colors)[:, :3] / 255)
            self.mesh = Mesh(vertices, faces, colors)
        self.solid = Solid(self.mesh)

    def hit(self, camera):
        origins, directions = (x.reshape(-1, 3).numpy() for x in camera.rays())
        return self.solid.hit_place(origins, directions)

    def draw(self, face: np.ndarray, share: np.ndarray) -> np.ndarray:
        return colors_at(self.mesh, face, share)


def score(view: View, capture_from_scene: torch.Tensor, files: dict[str, Read], picture: Path | None) -> dict:
    camera = view.camera.moved(capture_from_scene)
    image = np.array(view.image()).reshape(camera.width * camera.height, -1) / 255.0
    opaque = image[:, 3] == 1 if image.shape[1] == 4 else np.ones(len(image), bool)
    hits = {name: file.hit(camera) for name, file in files.items()}
    shown = np.all([face >= 0 for face, _ in hits.values()], axis=0) & opaque
    errors, rows = {}, [np.where(shown[:, None], image[:, :3], 1)]
    for name, file in files.items():
        face, share = hits[name]
        drawn = np.ones((len(image), 3))
        drawn[shown] = file.draw(face[shown], share[shown])
        errors[name] = -10 * np.log10(np.mean((drawn[shown] - image[shown, :3]) ** 2))
        rows.append(drawn)
    if picture is not None:
        sheet = np.concatenate([r.reshape(camera.height, camera.width, 3) for r in rows], axis=1)
        Image.fromarray(np.round(255 * np.clip(sheet, 0, 1)).astype(np.uint8)).save(picture)
    return errors


def full_size(view: View) -> View:
    if view.lens is not None:
        return view
    width, height, _ = read_header(view.image_path)
    return view.resized(width, height)


def bench(path: Path, args: argparse.Namespace) -> None:
    run = neural3d.load(path, args.device)
    scene, out = run.scene, args.out / path.name
    out.mkdir(parents=True, exist_ok=True)
    seconds, start = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name], start = seconds.get(name, 0) + time.process_time() - start, time.process_time()

    def watch(stage: str, done: int, total: int) -> None:
        if done == total:
            lap(stage)

    crop = None if args.crop is None else torch.tensor(args.crop).reshape(2, 3)
    made = surface(run, args.resolution, crop, faces=args.faces, progress=watch)
    photos = [scene.views[i] for i in scene.split["train"]]
    painted, seen = made.textured(args.size, photos, watch)
    lap("fill")
    small, whole = made.colored(), made.cleaning.mesh.colored(made.color)
    lap("colours")
    for name, mesh in (("whole", whole), ("colours", small), ("texture", painted)):
        write_mesh(mesh.transformed(run.capture_from_scene), out / f"{name}.glb", up="capture")
    lap("write")
    print(
        f"{path.name} ({run.config.method}): {made.whole:,} → {len(painted.faces):,} faces; {made.cleaning};", end=" "
    )
    print(
        f"{made.coverage}; {seen:.1%} of texels seen;",
        "CPU seconds:",
        ", ".join(f"{k} {v:.0f}" for k, v in seconds.items()),
    )
    files = {name: Read(out / f"{name}.glb") for name in ("whole", "colours", "texture")}
    views = [scene.views[i] for i in scene.split["test"]]
    for label, resize in (("stored", full_size), ("training", lambda view: view)):
        sized = [resize(view) for view in views]
        pictures = [out / f"{label}_{n}.png" if n < 3 else None for n in range(len(sized))]
        scores = [score(v, run.capture_from_scene, files, p) for v, p in zip(sized, pictures)]
        mean = {name: float(np.mean([s[name] for s in scores])) for name in files}
        size = f"{sized[0].camera.width}×{sized[0].camera.height}"
        figures = "  ".join(f"{name} {value:.2f} dB" for name, value in mean.items())
        gain = mean["texture"] - mean["colours"]
        print(f"  {label} size {size}, {len(views)} views: {figures}  texture − colours {gain:+.2f} dB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--faces", type=int, default=50_000)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--crop", type=float, nargs=6, help="box to keep, in the capture's frame")
    parser.add_argument("--out", type=Path, default=Path("/tmp/bench_texture"))
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    for path in args.runs:
        bench(path, args)


if __name__ == "__main__":
    main()
