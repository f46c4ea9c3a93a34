"""The point clouds that surfaces are reconstructed from in benchmarks: SHAPES, each in some of STATES.

    NEURAL3D_DATA=../shared/data python benchmarks/clouds.py FOLDER --shapes goblet-1 rocker-arm.obj     # writes .ply

Points are spread evenly by area unless a state says otherwise. Noise is Gaussian in each coordinate, its standard
deviation in % of the diagonal of the mesh's bounding box. Patches are the points nearest to four random ones, an eighth
of all together. Shapes are files of NEURAL3D_DATA/meshes, "half " of one, or formulas (see `benchmarks/formulas.py`);
"goblet-1" has walls of 1 % of its diagonal.

Settings of `igr` are chosen on TUNED alone; all other shapes are kept aside and only measured.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from formulas import OPEN_SHAPES, THIN_SHAPES
from jaxtyping import Float

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import sample_surface
from neural3d.geometry.solid import Solid
from neural3d.shapes.shape import load_shape

POINTS = 30_000
TUNED = ("bunny.off", "fertility.off", "goblet-0.5", "goblet-1", "goblet-2", "terrain", "half bunny.off")
SOLIDS = ("bunny.off", "fertility.off", "rocker-arm.obj", "cheburashka.obj")
THIN = tuple(f"{name}-{wall:g}" for name in THIN_SHAPES for wall in (0.5, 1, 2))
OPEN = (*OPEN_SHAPES, "half bunny.off", "half rocker-arm.obj")


@dataclass(frozen=True)
class State:
    """noise: standard deviation, % of the diagonal. patches: how many are cut out. normals: the true ones are given.

    fall: density at one end of the longest axis over that at the other. stations: of a scanner that turns around itself
    outside the shape; it sees no farther than the first surface. outliers: share of the points that lie anywhere in the
    box, widened by a tenth. points: how many.
    """

    noise: float = 0.0
    patches: int = 0
    normals: bool = False
    fall: float = 1.0
    stations: int = 0
    outliers: float = 0.0
    points: int = POINTS


SOLID_STATES = {
    "clean, true normals": State(normals=True),
    "0.5 % noise, no normals": State(noise=0.5),
    "1 % noise": State(noise=1.0),
    "1 % noise, four patches missing": State(noise=1.0, patches=4),
    "clean, true normals, density 30 : 1": State(normals=True, fall=30),
    "0.25 % noise, density 30 : 1": State(noise=0.25, fall=30),
    "three-station LiDAR, 0.1 % noise": State(noise=0.1, stations=3),
    "0.25 % noise, 1 % outliers": State(noise=0.25, outliers=0.01),
    "0.25 % noise, 5 % outliers": State(noise=0.25, outliers=0.05),
    "0.25 % noise, 10 % outliers": State(noise=0.25, outliers=0.10),
    "1,000 points, no normals": State(points=1000),
    "1e5 points, 0.25 % noise": State(noise=0.25, points=100_000),
    "1e6 points, 0.25 % noise": State(noise=0.25, points=1_000_000),
}
SHEET_STATES = {
    "0.1 % noise, true normals": State(noise=0.1, normals=True),
    "0.1 % noise": State(noise=0.1),
    "0.5 % noise, no normals": State(noise=0.5),
}
STATES = SOLID_STATES | SHEET_STATES
MISSING = 0.125  # share of the points, in all patches together


def states_of(shape: str) -> dict[str, State]:
    """Those a shape is measured in: walls and open surfaces in few."""
    return SOLID_STATES if shape in SOLIDS else SHEET_STATES


def truth(name: str) -> Mesh:
    """A shape in its file's frame."""
    kind, _, wall = name.rpartition("-")
    if kind in THIN_SHAPES:
        return THIN_SHAPES[kind](float(wall) / 100)
    if name in OPEN_SHAPES:
        return OPEN_SHAPES[name]()
    if name.startswith("half "):
        whole = truth(name.removeprefix("half "))
        centres = whole.vertices[whole.faces].mean(1)
        return whole.kept(centres[:, 0] < np.median(centres[:, 0]))
    shape = load_shape(Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "meshes" / name)
    return shape.mesh.transformed(torch.linalg.inv(shape.scene_from_capture))


def cloud(
    mesh: Mesh, state: State, *, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """Positions in the mesh's frame, and unit normals where the state gives them. Float64.

    Surface points are the same for all even states of a seed; points that patches take away are not replaced.
    """
    rng = np.random.default_rng(seed)
    corners = mesh.vertices[mesh.faces].reshape(-1, 3).astype(np.float64)
    low, size = corners.min(0), np.ptp(corners, axis=0)
    diagonal = float(np.linalg.norm(size))
    if state.stations:
        x, face = _scanned(mesh, state, rng, low + size / 2, diagonal)
    elif state.fall > 1:
        x, face = sample_surface(mesh, 6 * state.points, rng)  # of which a fifth or more are kept
        axis = int(size.argmax())
        kept = np.flatnonzero(rng.random(len(x)) < state.fall ** -((x[:, axis] - low[axis]) / size[axis]))
        kept = kept[: state.points]
        x, face = x[kept], face[kept]
    else:
        x, face = sample_surface(mesh, state.points, rng)
    noisy = x + state.noise / 100 * diagonal * rng.standard_normal(x.shape)
    left = np.arange(len(x))
    for _ in range(state.patches):
        centre = x[rng.choice(left)]
        order = np.argsort(np.linalg.norm(x[left] - centre, axis=1), kind="stable")
        left = np.sort(left[order[round(MISSING / state.patches * state.points) :]])
    astray = rng.choice(left, round(state.outliers * len(left)), replace=False)
    noisy[astray] = low + size * rng.uniform(-0.05, 1.05, (len(astray), 3))
    vectors = mesh.face_vectors()[face[left]]
    normals = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return noisy[left], normals if state.normals else None


def _scanned(mesh: Mesh, state: State, rng: np.random.Generator, middle: np.ndarray, diagonal: float) -> tuple:
    """What stations around the shape, a little above its middle, hit with rays at even angles."""
    solid = Solid(mesh.transformed(np.diag([1 / diagonal] * 3 + [1.0])))
    hits, faces = [], []
    for station in range(state.stations):
        angle = 2 * np.pi * (station / state.stations + 0.1)
        eye = middle / diagonal + [np.cos(angle), np.sin(angle), 0.4]
        forward = middle / diagonal - eye
        side = np.cross(forward, [0, 0, 1])
        basis = np.stack([side / np.linalg.norm(side), np.cross(side, forward), forward])
        basis /= np.linalg.norm(basis, axis=1, keepdims=True)
        count = 40 * state.points // state.stations  # in a cone around the shape, most of which pass by
        x, y = rng.uniform(-0.6, 0.6, (2, count))
        rays = np.stack([np.tan(x), np.tan(y), np.ones(count)], 1) @ basis
        t, face = solid.first_hit(eye, rays)
        met = np.flatnonzero(np.isfinite(t))[: state.points // state.stations]
        hits.append((eye + t[met, None] * rays[met]) * diagonal)
        faces.append(face[met])
    return np.concatenate(hits), np.concatenate(faces)


def main() -> None:
    import open3d

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shapes", nargs="+", default=[*SOLIDS, *THIN, *OPEN])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.shapes:
        mesh = truth(name)
        for number, state in enumerate(states_of(name).values()):
            points, normals = cloud(mesh, state, seed=options.seed)
            written = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
            if normals is not None:
                written.normals = open3d.utility.Vector3dVector(normals)
            path = options.folder / f"{Path(name).stem.replace(' ', '-')}-{number}.ply"
            open3d.io.write_point_cloud(str(path), written)
            print(path)


if __name__ == "__main__":
    main()
