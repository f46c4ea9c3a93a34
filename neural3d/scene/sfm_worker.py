"""A process of its own for COLMAP: features, matches, cameras. Started by `neural3d.scene.sfm`, never imported.

Alone, because native code that fails takes its process along, logs to stderr, and brings a SQLite of its own: two
copies of SQLite in one process corrupt a database. Imports nothing of neural3d, so that it starts at once.

Reads a job (JSON, see `sfm.solve`) from stdin. Writes lines of JSON to stdout: {"stage", "done", "total"} for progress,
at last {"models", "error", "points", "angle"}: the names of the photos of each model, the largest first; of that one
the mean reprojection error in pixels, the number of points and their angle (see `median_angle`). COLMAP's log goes to
stderr.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

POLL = 0.3  # seconds between looks at how far a stage has come
ENOUGH = 10  # photos that a camera must have taken for its principal point to be found
OFF_CENTRE = 0.05  # of the picture's size: principal points further off than this are mistakes, unless cropped


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def watched(stage: str, total: int, done: Callable[[], int], work: Callable[[], Any]) -> Any:
    """work() in a thread of its own, `done` told meanwhile; raises what it raises."""
    outcome: dict[str, Any] = {}

    def attempt() -> None:
        try:
            outcome["result"] = work()
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    last = -1
    while thread.is_alive():
        if (now := min(done(), total)) != last:
            tell(stage=stage, done=now, total=total)
            last = now
        thread.join(POLL)
    if "error" in outcome:
        raise outcome["error"]
    if last != total:
        tell(stage=stage, done=total, total=total)
    return outcome["result"]


def register_photos(job: dict[str, Any], database: pycolmap.Database) -> None:
    """Photos and their cameras, in the order given: ids never depend on which thread was first."""
    if database.num_images() == sum(len(group["names"]) for group in job["cameras"]):
        return
    database.clear_all_tables()
    for group in job["cameras"]:
        options = pycolmap.ImageReaderOptions()
        options.camera_model, options.camera_params = job["camera_model"], group["params"]
        pycolmap.import_images(job["database"], job["images"], pycolmap.CameraMode.SINGLE, group["names"], options)


def find_features(job: dict[str, Any], database: pycolmap.Database) -> None:
    names = [name for group in job["cameras"] for name in group["names"]]
    ids = [image.image_id for image in database.read_all_images()]
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = job["threads"]
    watched(
        "finding features", len(names),
        lambda: sum(database.exists_keypoints(i) for i in ids),
        lambda: pycolmap.extract_features(job["database"], job["images"], names, extraction_options=options),
    )  # fmt: skip


def match(job: dict[str, Any], database: pycolmap.Database) -> None:
    """Matches the pairs listed in the job's file, verified by geometry; those already in the database are skipped."""
    matching, listed = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
    verification = pycolmap.TwoViewGeometryOptions()
    matching.num_threads = job["threads"]
    verification.ransac.random_seed = job["seed"]
    listed.match_list_path = job["pairs"]
    watched(
        "matching", len(Path(job["pairs"]).read_text().splitlines()),
        database.num_matched_image_pairs,
        lambda: pycolmap.match_image_pairs(
            job["database"], matching_options=matching, pairing_options=listed, verification_options=verification
        ),
    )  # fmt: skip


def find_cameras(job: dict[str, Any], total: int) -> dict[int, pycolmap.Reconstruction]:
    """Every separate model. All random choices follow the seed."""
    folder = Path(job["models"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    places = job["database"], job["images"], str(folder)
    registered: list[None] = []

    def seeded(options: Any, *parts: Any) -> None:
        for part in (options, options.mapper, *parts):
            part.random_seed = job["seed"]
        options.num_threads = job["threads"]
        options.min_model_size = 2  # COLMAP's 10 would throw small captures away

    def one_by_one() -> dict[int, pycolmap.Reconstruction]:
        options = pycolmap.IncrementalPipelineOptions()
        seeded(options, options.triangulation)
        return pycolmap.incremental_mapping(*places, options, next_image_callback=lambda: registered.append(None))

    def all_at_once() -> dict[int, pycolmap.Reconstruction]:
        options = pycolmap.GlobalPipelineOptions()
        mapper = options.mapper
        seeded(options, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation)
        return pycolmap.global_mapping(*places, options)

    run = all_at_once if job["mapper"] == "global" else one_by_one
    return watched("finding cameras", total, lambda: len(registered), run)


def refine_centres(model: pycolmap.Reconstruction, threads: int) -> bool:
    """Bundle adjustment of everything, principal points too; whether the outcome is to be believed.

    While cameras are found these stay in the middle of the picture, since they and the poses can make up for each
    other. At the end many photos decide: on real lenses, which are never centred, poses come out up to three times as
    exact.
    """
    taken = Counter(model.image(i).camera_id for i in model.reg_image_ids())
    if min(taken.values()) < ENOUGH:
        return False
    before = {i: np.array([c.principal_point_x, c.principal_point_y]) for i, c in model.cameras.items()}
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.ceres.solver_options.num_threads = threads
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    moved = [
        abs(np.array([c.principal_point_x, c.principal_point_y]) - before[i]) / [c.width, c.height]
        for i, c in model.cameras.items()
    ]
    return bool(np.max(moved) < OFF_CENTRE)


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


def main() -> None:
    job = json.loads(sys.stdin.read())
    pycolmap.logging.logtostderr = True
    pycolmap.set_random_seed(job["seed"])
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        register_photos(job, database)
        find_features(job, database)
        match(job, database)
        total = database.num_images()
    models = sorted(find_cameras(job, total).values(), key=lambda model: -model.num_reg_images())
    shutil.rmtree(job["models"])
    error, points, angle = 0.0, 0, 0.0
    if models:
        best = Path(job["sparse"])
        best.mkdir(parents=True, exist_ok=True)
        models[0].write(str(best))
        refined = pycolmap.Reconstruction(str(best))
        if watched("refining cameras", 1, lambda: 0, lambda: refine_centres(refined, job["threads"])):
            refined.write(str(best))
            models[0] = refined
        error, points = models[0].compute_mean_reprojection_error(), models[0].num_points3D()
        angle = median_angle(models[0])
    names = [sorted(model.image(i).name for i in model.reg_image_ids()) for model in models]
    tell(models=names, error=error, points=points, angle=angle)


if __name__ == "__main__":
    main()
