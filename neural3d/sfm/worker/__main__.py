"""Features, matches, cameras.

Reads a job (JSON, see `neural3d.sfm.solve.solve`) from stdin. Writes lines of JSON to stdout: {"stage", "done",
"total"} for progress, at last {"models", "error", "miss", "points", "angle", "lens", "tried"}: the names of the photos
of each model, the largest first; of that one the mean reprojection error in pixels and by the picture's long side, the
number of points, their angle (see `median_angle`) and the lens; what was tried, in words. COLMAP's log goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pycolmap

from neural3d.sfm.worker.attempts import search
from neural3d.sfm.worker.features import find_features, match, register_photos
from neural3d.sfm.worker.progress import tell


def main() -> None:
    job = json.loads(sys.stdin.read())
    pycolmap.logging.logtostderr = True
    pycolmap.set_random_seed(job["seed"])
    Path(job["scratch"]).mkdir(exist_ok=True)
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        register_photos(job, database)
        find_features(job, database)
        match(job, database)
    found = search(job)
    error, miss, points, angle, lens = 0.0, 0.0, 0, 0.0, ""
    if found.models:
        best = found.models[0]
        shutil.rmtree(job["sparse"], ignore_errors=True)
        Path(job["sparse"]).mkdir(parents=True)
        best.write(job["sparse"])
        error, points, angle = best.compute_mean_reprojection_error(), best.num_points3D(), median_angle(best)
        miss = error / max(max(camera.width, camera.height) for camera in best.cameras.values())
        lens = ", ".join(sorted({camera.model_name for camera in best.cameras.values()}))
    names = [sorted(model.image(i).name for i in model.reg_image_ids()) for model in found.models]
    tell(models=names, error=error, miss=miss, points=points, angle=angle, lens=lens, tried=found.tried)


def median_angle(model: pycolmap.Reconstruction) -> float:
    """Of the largest angles, in degrees, between the rays that meet in a point; the median of up to 2000 points."""
    centres = {i: model.image(i).projection_center() for i in model.reg_image_ids()}
    points = list(model.points3D.values())
    angles = [0.0]
    for point in points[:: max(1, len(points) // 2000)]:
        rays = np.array([point.xyz - centres[element.image_id] for element in point.track.elements])
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        angles.append(float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1)))))
    return float(np.median(angles))


if __name__ == "__main__":
    main()
