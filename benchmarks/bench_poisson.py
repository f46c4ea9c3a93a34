"""Open3D's screened Poisson reconstruction (Kazhdan and Hoppe 2013) on the clouds of clouds.py: igr's measure.

    NEURAL3D_DATA=../shared/data OMP_NUM_THREADS=1 python benchmarks/bench_poisson.py
    NEURAL3D_DATA=../shared/data python benchmarks/bench_poisson.py --shapes bunny.off --depths 8 --seeds 0 1 2

Normals, where none are given, are those of the planes through 30 neighbours. Which way they point is guessed along a
spanning tree over 30 neighbours, as a user must (rows "guessed"), or known ("known": what Poisson would reach if the
guess never failed). Nothing is trimmed: the whole closed surface counts; --trim Q takes away where the density is in
its lowest share Q. Chamfer is that of neural3d.geometry.mesh_metrics, the mean over --seeds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
from clouds import POINTS, SHAPES, STATES, State, cloud, truth
from common import machine, table

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import compare

NEIGHBOURS = 30
STATED = {  # depth 8 and best depth, measured before for other clouds of the same kinds
    "clean, true normals": ("0.019 / 0.018", "0.013 / 0.012", "0.015 / 0.014", "0.012 / 0.012"),
    "0.5 % noise, no normals": ("0.142 / 0.117", "0.132 / 0.104", "0.135 / 0.119", "0.142 / 0.117"),
    "1 % noise": ("0.345 / 0.279", "0.343 / 0.229", "0.321 / 0.213", "0.600 / 0.557"),
    "1 % noise, four patches missing": ("0.393 / 0.343", "0.406 / 0.323", "0.395 / 0.309", "0.768 / 0.720"),
}


def oriented(mesh: Mesh, state: State, seed: int, known: bool) -> Any:
    """The cloud with normals, as Open3D's Poisson wants it."""
    import open3d

    points, normals = cloud(mesh, state, seed=seed)
    made = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    if normals is None:
        made.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
        if known:
            _, true = cloud(mesh, replace(state, normals=True), seed=seed)
            estimated = np.asarray(made.normals)
            normals = np.where((estimated * true).sum(1, keepdims=True) < 0, -estimated, estimated)
        else:
            made.orient_normals_consistent_tangent_plane(NEIGHBOURS)
    if normals is not None:
        made.normals = open3d.utility.Vector3dVector(normals)
    return made


def poisson(made: Any, depth: int, trim: float = 0.0) -> Mesh:
    import open3d

    surface, density = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(made, depth=depth, n_threads=1)
    if trim > 0:
        surface.remove_vertices_by_mask(np.asarray(density) < np.quantile(density, trim))
    return Mesh(np.asarray(surface.vertices), np.asarray(surface.triangles))


def mean_chamfer(clouds: list[Any], truth: Mesh, depth: int, trim: float) -> float:
    found = [compare(poisson(made, depth, trim), truth, volume_samples=1)["chamfer"] for made in clouds]
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--depths", type=int, nargs="+", default=[6, 7, 8, 9, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--trim", type=float, default=0.0)
    options = parser.parse_args()
    begin = time.process_time()
    rows: dict[tuple[str, str], list[str]] = {}
    for name in options.shapes:
        mesh = truth(name)
        for label, state in STATES.items():
            for known in (True,) if state.normals else (False, True):
                clouds = [oriented(mesh, state, seed, known) for seed in options.seeds]
                chamfer = {depth: mean_chamfer(clouds, mesh, depth, options.trim) for depth in options.depths}
                best = min(options.depths, key=lambda depth: chamfer[depth])
                row = rows.setdefault((label, "known" if known else "guessed"), [])
                row.append(f"{chamfer.get(8, np.nan):.3f} / {chamfer[best]:.3f} ({best})")
                print(name, label, known, {d: round(c, 4) for d, c in chamfer.items()}, flush=True)
            rows.setdefault((label, "stated"), []).append(STATED[label][SHAPES.index(name)])
    print(f"{machine()}; {POINTS} points, seeds {options.seeds}; {(time.process_time() - begin) / 60:.1f} CPU minutes")
    print(table(["points", "normals point", *options.shapes], [[*key, *cells] for key, cells in rows.items()]))


if __name__ == "__main__":
    main()
