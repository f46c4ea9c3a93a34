"""Textures by priors: is what `export --fill` draws nearer to what was hidden than the membrane, to eyes and to pixels?

    NEURAL3D_DATA=../shared/data python benchmarks/bench_texture_prior.py OUT [--scenes stool plush] [--pictures]

A mesh (stool: the true one; plush: Poisson's of COLMAP's points) is unwrapped and painted from the training photos. Of
the texels that photos show, 30 % are hidden, in balls of RADIUS photo pixels, and filled: by the membrane through what
is left, and by a prior on top of it. The prior has learnt from patches of the training photos that show nothing of what
is hidden. Both textures and the whole one are drawn at the held-out cameras; distances are over what was hidden:
perceptual ones (neural3d.evaluate.perceptual) and PSNR, dB, means over the pixels.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from bench_category import trained
from common import machine, table
from PIL import Image

from neural3d import load_scene
from neural3d.evaluate.perceptual import NAME, Perceptual
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, load_open3d
from neural3d.geometry.unwrap import Texels, texels_of, unwrapped
from neural3d.inpaint import filler
from neural3d.render.bake import _fill, _from_photos, nearest_texels, photo_pixel
from neural3d.render.photo_error import colors_at
from neural3d.render.retouch import retouched
from neural3d.run import load
from neural3d.scene import Scene, View

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
SCENES = {"stool": "synth_stool_cc0", "plush": "plush_mit"}
HIDDEN, RADIUS, SIDE = 0.3, (12, 24), 16  # share of the texels; photo pixels; of a patch
PRIOR = ["values=levels", "width=24", "layers=6", "horizon=2000", "lr=0.003"]
VIEWS = 4  # held-out ones; what none of them shows is not filled, since it is not scored


@dataclass
class Case:
    """A painted mesh, what of it is hidden, and where it comes from."""

    scene: Scene
    mesh: Mesh
    texels: Texels
    nearest: np.ndarray
    colors: np.ndarray
    seen: np.ndarray
    hidden: np.ndarray
    pixel: float

    def views(self, split: str) -> list[View]:
        return [self.scene.views[i] for i in self.scene.split[split]]

    def scored(self) -> list[View]:
        views = self.views("test")
        return views[:: max(1, len(views) // VIEWS)][:VIEWS]

    def painted(self, colors: np.ndarray) -> Mesh:
        return replace(self.mesh, texture=np.round(255 * np.clip(colors, 0, 1)).astype(np.uint8)[self.nearest])


def surface_of(name: str, scene: Scene) -> Mesh:
    if name == "stool":
        read = trimesh.load(DATA / SCENES[name] / "gt_mesh.ply", process=True)
        read.merge_vertices(merge_norm=True, merge_tex=True)
        vertices, faces = trimesh.remesh.subdivide_to_size(read.vertices, read.faces, 0.04)
        return Mesh(vertices.astype(np.float32), faces.astype(np.int32)).transformed(scene.scene_from_capture)
    o3d = load_open3d()
    assert scene.points is not None
    box = scene.aabb.numpy()
    inside = ((scene.points[0] > box[0]) & (scene.points[0] < box[1])).all(1)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(scene.points[0][inside].astype(float)))
    cloud, _ = cloud.remove_statistical_outlier(20, 1.5)
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(20))
    middle = torch.stack([c.centre for c in scene.cameras()]).mean(0).numpy()
    cloud.orient_normals_towards_camera_location(middle)
    made, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=7, n_threads=1)
    density = np.asarray(density)
    made.remove_vertices_by_mask(density < np.quantile(density, 0.15))
    return Mesh(np.asarray(made.vertices, np.float32), np.asarray(made.triangles, np.int32))


def prepared(name: str, size: int, seed: int = 0) -> Case:
    scene = load_scene(DATA / SCENES[name])
    mesh = unwrapped(surface_of(name, scene), size)
    texels, views = texels_of(mesh, size), [scene.views[i] for i in scene.split["train"]]
    colors, seen = _from_photos(mesh, texels, views, torch.ones(len(views), 3), lambda *_: None)
    pixel = photo_pixel(mesh, texels, views)
    rng, hidden = np.random.default_rng(seed), np.zeros(len(texels), bool)
    while hidden[seen].mean() < HIDDEN:
        middle = texels.points[rng.choice(np.flatnonzero(seen))]
        hidden |= np.linalg.norm(texels.points - middle, axis=1) < rng.uniform(*RADIUS) * pixel
    _fill(mesh, texels, colors, seen, grey)
    return Case(scene, mesh, texels, nearest_texels(texels), colors, seen, hidden & seen, pixel)


def grey(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    return torch.full_like(x, 0.5)


class Drawn:
    """A view of a mesh: which texel each pixel shows (-1: none), and the mesh in its texture."""

    def __init__(self, case: Case, solid: Solid, view: View):
        camera = view.camera
        self.shape = camera.height, camera.width
        self.face, self.share = solid.hit_place(*(x.reshape(-1, 3).numpy() for x in camera.rays()))
        corners = case.mesh.faces[np.maximum(self.face, 0)]
        place = np.einsum("nk,nkc->nc", self.share, case.mesh.uv[corners]) * case.texels.size
        column, row = np.clip(place.astype(int), 0, case.texels.size - 1).T
        self.texel = np.where(self.face >= 0, case.nearest[row, column], -1).reshape(self.shape)

    def picture(self, mesh: Mesh) -> np.ndarray:
        drawn, on = np.ones((len(self.face), 3)), self.face >= 0
        drawn[on] = colors_at(mesh, self.face[on], self.share[on])
        return drawn.reshape(*self.shape, 3)


def write_patches(case: Case, path: Path) -> None:
    """Of the training photos and of their halves, squares that show the mesh and nothing of what is hidden."""
    solid, found = Solid(case.mesh), []
    for view in case.views("train"):
        width, height = view.camera.width, view.camera.height
        for shrink in (1, 2):
            small = view.resized(width // shrink, height // shrink)
            shown = Drawn(case, solid, small).texel
            usable = (shown >= 0) & ~case.hidden[np.maximum(shown, 0)]
            image = np.asarray(small.image())[..., :3]
            for i in range(0, len(image) - SIDE + 1, SIDE // 2):
                for j in range(0, image.shape[1] - SIDE + 1, SIDE // 2):
                    if usable[i : i + SIDE, j : j + SIDE].all():
                        found.append(image[i : i + SIDE, j : j + SIDE].transpose(2, 0, 1))
    order = np.random.default_rng(0).permutation(len(found))[:60_000]
    np.savez(path, train=np.stack(found)[order])


def to_fill(case: Case) -> np.ndarray:
    """What is hidden and shown by a view that is scored. What no photo showed has no truth."""
    solid, shown = Solid(case.mesh), np.zeros(len(case.texels), bool)
    for view in case.scored():
        large = view.resized(3 * view.camera.width, 3 * view.camera.height)  # not to leave out texels between pixels
        texel = Drawn(case, solid, large).texel
        shown[texel[texel >= 0]] = True
    return shown & case.hidden


def scores(case: Case, meshes: dict[str, Mesh], sheet: Path | None) -> dict[str, tuple[float, float]]:
    """(perceptual distance, PSNR) of each over what was hidden, seen from the held-out cameras."""
    distance, solid = Perceptual(), Solid(case.mesh)
    whole, rows = case.painted(case.colors), []
    total = {name: np.zeros(3) for name in meshes}
    for view in case.scored():
        drawn = Drawn(case, solid, view)
        rows_, columns = (n // 32 * 32 for n in drawn.shape)
        weight = ((drawn.texel >= 0) & case.hidden[np.maximum(drawn.texel, 0)])[:rows_, :columns]
        pictures = {n: drawn.picture(m)[:rows_, :columns] for n, m in {"whole": whole, **meshes}.items()}
        torn = np.where(weight[..., None], [1.0, 0, 1], pictures["whole"])
        rows.append(np.concatenate([torn, *pictures.values()], 1))
        a, w = (torch.from_numpy(x).float() for x in (pictures["whole"], weight))
        for name in meshes:
            other = torch.from_numpy(pictures[name]).float()
            apart = float(distance(a.movedim(-1, 0)[None], other.movedim(-1, 0)[None], w[None]))
            square = float(((a - other).square().mean(-1) * w).sum())
            total[name] += np.array([apart * float(w.sum()), square, float(w.sum())])
    if sheet is not None:
        picture = np.concatenate(rows[:3], 0)
        Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)).save(sheet, quality=88)
    return {n: (t[0] / t[2], -10 * np.log10(t[1] / t[2])) for n, t in total.items()}


def bench_fill(name: str, out: Path, size: int, settings: list[str]) -> list[list[str]]:
    case = prepared(name, size)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{name}: {len(case.mesh.faces):,} faces, {len(case.texels):,} texels, {case.seen.mean():.0%} seen, "
        f"{case.hidden.sum():,} hidden", flush=True,
    )  # fmt: skip
    if not (folder / "patches.npz").exists():
        write_patches(case, folder / "patches.npz")
    took = trained(folder / "patches.npz", "pixelcnn", folder / "pixelcnn", settings)
    known = case.seen & ~case.hidden
    membrane = case.colors.copy()
    _fill(case.mesh, case.texels, membrane, known, grey)
    start = time.process_time()
    fill = filler(load(folder / "pixelcnn", "cpu"))
    made = retouched(case.mesh, case.texels, membrane, ~to_fill(case), case.nearest, case.pixel, fill, say)
    seconds = time.process_time() - start
    meshes = {"membrane": case.painted(membrane), "pixelcnn": case.painted(made)}
    found = scores(case, meshes, folder / "sheet.jpg")
    print(f"prior: {took}; filled in {seconds:.0f} CPU seconds", flush=True)
    return [[name, n, f"{apart:.3f}", f"{psnr:.2f}"] for n, (apart, psnr) in found.items()]


def say(stage: str, done: int, total: int) -> None:
    print(f"{stage} {done:,} of {total:,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", nargs="*", default=[*SCENES])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--set", nargs="*", default=PRIOR)
    given = parser.parse_args()
    print(machine())
    rows = [row for name in given.scenes for row in bench_fill(name, given.out, given.size, given.set)]
    print(table(["scene", "filled by", f"distance ({NAME})", "PSNR, dB"], rows))


if __name__ == "__main__":
    main()
