"""The point clouds that surfaces are reconstructed from in benchmarks: 30,000 points of four meshes, in four states.

    NEURAL3D_DATA=../shared/data python benchmarks/clouds.py FOLDER     # writes all sixteen as .ply

Points are spread evenly by area. Noise is Gaussian in each coordinate, its standard deviation in % of the diagonal of
the mesh's bounding box. Patches are the points nearest to four random ones, an eighth of all together.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import sample_surface
from neural3d.scene.shape import load_shape

SHAPES = ("bunny.off", "fertility.off", "rocker-arm.obj", "cheburashka.obj")
POINTS = 30_000


@dataclass(frozen=True)
class State:
    """noise: standard deviation, % of the diagonal. patches: how many are cut out. normals: the true ones are given."""

    noise: float = 0.0
    patches: int = 0
    normals: bool = False


STATES = {
    "clean, true normals": State(normals=True),
    "0.5 % noise, no normals": State(noise=0.5),
    "1 % noise": State(noise=1.0),
    "1 % noise, four patches missing": State(noise=1.0, patches=4),
}
MISSING = 0.125  # share of the points, in all patches together


def meshes_folder() -> Path:
    return Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "meshes"


def truth(name: str) -> Mesh:
    """One of SHAPES in its file's frame."""
    shape = load_shape(meshes_folder() / name)
    return shape.mesh.transformed(torch.linalg.inv(shape.scene_from_capture))


def cloud(
    mesh: Mesh, state: State, *, points: int = POINTS, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """Positions in the mesh's frame, and unit normals where the state gives them. Float64.

    Surface points are the same for all states of a seed; points that patches take away are not replaced.
    """
    rng = np.random.default_rng(seed)
    x, face = sample_surface(mesh, points, rng)
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3).astype(np.float64), axis=0)))
    noisy = x + state.noise / 100 * diagonal * rng.standard_normal(x.shape)
    left = np.arange(points)
    for _ in range(state.patches):
        centre = x[rng.choice(left)]
        order = np.argsort(np.linalg.norm(x[left] - centre, axis=1), kind="stable")
        left = np.sort(left[order[round(MISSING / state.patches * points) :]])
    vectors = mesh.face_vectors()[face[left]]
    normals = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return noisy[left], normals if state.normals else None


def main() -> None:
    import open3d

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in SHAPES:
        mesh = truth(name)
        for number, state in enumerate(STATES.values()):
            points, normals = cloud(mesh, state, seed=options.seed)
            written = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
            if normals is not None:
                written.normals = open3d.utility.Vector3dVector(normals)
            path = options.folder / f"{Path(name).stem}-{number}.ply"
            open3d.io.write_point_cloud(str(path), written)
            print(path)


if __name__ == "__main__":
    main()
