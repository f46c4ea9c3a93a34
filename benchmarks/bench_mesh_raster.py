"""A mesh drawn at 512², beside Open3D's ray casting of the same pixels; with gradients; and ten bodies at 256².

    NEURAL3D_DATA=../shared/data python benchmarks/bench_mesh_raster.py [MESH]

MESH: any file that trimesh reads, stanford-bunny.obj (69,451 faces) by default; issue 26 asks for Stanford's armadillo
(99,976). The bodies are cheburashka.obj (13,334 faces), turned. Each camera looks at the middle of the mesh and frames
it. Open3D's tree is built beforehand and its time told apart; its rays lie there too. The limit is reading vertices and
faces and writing face, barycentrics and depth, each once, at the speed of a copy.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from common import copy_ceiling, interleaved, machine, table

from neural3d.geometry.solid import load_open3d
from neural3d.ops import antialias, interpolate, keep_memory, mesh_raster, opposite_corners

MESHES = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "meshes"
FOCAL, DISTANCE = 1.1, 2.6  # in widths of the picture, in radii of the mesh


def load(path: Path) -> tuple[np.ndarray, torch.Tensor]:
    """Vertices within the unit ball, y down and z forward as cameras have them, and faces."""
    mesh = trimesh.load(path, force="mesh", process=False)
    vertices = np.asarray(mesh.vertices) - (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    vertices = vertices / np.linalg.norm(vertices, axis=1).max()
    return vertices * [1, -1, -1], torch.tensor(np.asarray(mesh.faces), dtype=torch.int32)


def seen(vertices: np.ndarray, width: int, turn: float = 0.0) -> tuple[torch.Tensor, np.ndarray]:
    """Pixels and depths, and the vertices in the camera's frame, of the mesh turned about its up axis."""
    c, s = math.cos(turn), math.sin(turn)
    space = vertices @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + [0, 0, DISTANCE]
    pixels = np.concatenate([space[:, :2] / space[:, 2:] * FOCAL * width + width / 2, space[:, 2:]], axis=1)
    return torch.tensor(pixels, dtype=torch.float32), space.astype(np.float32)


def both(pixels: torch.Tensor, faces: torch.Tensor, width: int) -> torch.Tensor:
    """Forward and backward, through barycentrics and depth."""
    r = mesh_raster(pixels, faces, width, width)
    v = torch.ones_like(r.barycentrics), torch.ones_like(r.depth)
    return torch.autograd.grad((r.barycentrics, r.depth), pixels, v)[0]


def coloured(pixels: torch.Tensor, faces: torch.Tensor, opposite: torch.Tensor, colors: torch.Tensor, width: int):
    """A whole step of fitting: drawn, coloured, outlines smoothed, and gradients to vertices and colours."""
    r = mesh_raster(pixels, faces, width, width)
    image = antialias(interpolate(colors, faces, r.face, r.barycentrics), r.face, r.depth, pixels, faces, opposite)
    return torch.autograd.grad(image.square().sum(), (pixels, colors))


def main(path: Path) -> None:
    keep_memory()
    vertices, faces = load(path)
    pixels, space = seen(vertices, 512)
    pixels = pixels[None].requires_grad_()
    colors, opposite = torch.rand(len(vertices), 3, requires_grad=True), opposite_corners(faces)

    open3d = load_open3d()
    threads = torch.get_num_threads()
    scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
    y, x = np.mgrid[:512, :512] + 0.5
    rays = np.zeros((512, 512, 6), np.float32)
    rays[..., 3:] = np.stack([(x - 256) / (FOCAL * 512), (y - 256) / (FOCAL * 512), np.ones_like(x)], -1)
    rays = open3d.core.Tensor(rays)
    start = time.perf_counter()
    scene.add_triangles(open3d.core.Tensor(space), open3d.core.Tensor(faces.numpy().astype(np.uint32)))
    hits = scene.cast_rays(rays[:1], nthreads=threads)  # the tree is built for the first ray
    build = time.perf_counter() - start
    hits = scene.cast_rays(rays, nthreads=threads)
    theirs = hits["primitive_ids"].numpy().astype(np.int64)
    theirs[theirs == scene.INVALID_ID] = -1

    body, body_faces = load(MESHES / "cheburashka.obj")
    bodies = torch.stack([seen(body, 256, 2 * math.pi * i / 10)[0] for i in range(10)]).requires_grad_()

    with torch.no_grad():
        face = mesh_raster(pixels, faces, 512, 512).face[0].numpy()
    covered = (face >= 0) | (theirs >= 0)
    candidates = {
        "mesh_raster": torch.no_grad()(lambda: mesh_raster(pixels, faces, 512, 512)),
        "Open3D's ray casting": lambda: scene.cast_rays(rays, nthreads=threads),
        "mesh_raster, forward and backward": lambda: both(pixels, faces, 512),
        "with colours and outlines, forward and backward": lambda: coloured(pixels, faces, opposite, colors, 512),
        "ten bodies at 256²": torch.no_grad()(lambda: mesh_raster(bodies, body_faces, 256, 256)),
        "ten bodies at 256², forward and backward": lambda: both(bodies, body_faces, 256),
    }
    seconds = interleaved({**candidates, "copy": copy_ceiling(64)}, rounds=11)
    bandwidth = 2 * 64 * 2**20 / seconds["copy"]

    def limit(batch: int, vertices: int, faces: int, width: int) -> float:
        return (12 * batch * vertices + 12 * faces + 20 * batch * width**2) / bandwidth

    limits = {
        "mesh_raster": limit(1, len(vertices), len(faces), 512),
        "ten bodies at 256²": limit(10, len(body), len(body_faces), 256),
    }
    print(machine())
    print(
        f"{path.name}: {len(vertices)} vertices, {len(faces)} faces, of which {len(np.unique(face)) - 1} are seen, on "
        f"{np.mean(face >= 0):.0%} of 512² pixels; bodies of {len(body_faces)} faces. Copy {bandwidth / 1e9:.1f} GB/s."
    )
    print(
        f"Same face as by rays: {np.mean(face == theirs):.4%} of all pixels, "
        f"{np.mean((face == theirs)[covered]):.4%} of those covered. Open3D's tree: {build * 1e3:.0f} ms."
    )
    rows = []
    for name in candidates:
        t, ideal = seconds[name], f"{limits[name] * 1e3:.2f} ms" if name in limits else ""
        rows.append([name, f"{t * 1e3:.2f} ms", f"{1 / t:.0f}", f"{t / seconds['mesh_raster']:.2f}", ideal])
    print(table(["what", "median", "per second", "× our time", "limit"], rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MESHES / "stanford-bunny.obj")
