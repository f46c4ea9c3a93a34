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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

POLL = 0.3  # seconds between looks at how far a stage has come
ENOUGH = 10  # photos that a camera must have taken for its principal point to be found
FEW = 20  # photos of a camera that find its focal length for the global mapper
OFF_CENTRE = 0.05  # of the picture's size: principal points further off than this are mistakes, unless cropped
SQUARE = 1e-3  # share by which fx and fy may differ for other reasons


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
    masked = [name for name in names if Path(job["masks"], f"{name}.png").is_file()]
    rest = sorted(set(names) - set(masked))  # by themselves: in a folder of masks COLMAP asks for all

    def extract() -> None:
        for some, masks in ((masked, job["masks"]), (rest, "")):
            reader = pycolmap.ImageReaderOptions()
            reader.mask_path = masks  # no features where NAME.jpg.png is black
            if some:
                pycolmap.extract_features(
                    job["database"], job["images"], some, reader_options=reader, extraction_options=options
                )

    watched("finding features", len(names), lambda: sum(database.exists_keypoints(i) for i in ids), extract)


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


Models = dict[int, pycolmap.Reconstruction]


def find_cameras(job: dict[str, Any], total: int) -> Models:
    """Every separate model."""
    if job["mapper"] == "incremental":
        return one_by_one(job, "finding cameras", total)
    database = calibrated(job)
    options = pycolmap.GlobalPipelineOptions()
    mapper = options.mapper
    seeded(job, options, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation)
    folder = emptied(job["models"])
    return watched(
        "finding cameras", total, lambda: 0, lambda: pycolmap.global_mapping(database, job["images"], folder, options)
    )


def one_by_one(job: dict[str, Any], stage: str, total: int, names: Sequence[str] = ()) -> Models:
    """The incremental mapper on all photos, or on those named."""
    options = pycolmap.IncrementalPipelineOptions()
    seeded(job, options, options.triangulation)
    options.image_names = list(names)
    registered: list[None] = []
    folder = emptied(job["models"])

    def run() -> Models:
        return pycolmap.incremental_mapping(
            job["database"], job["images"], folder, options, next_image_callback=lambda: registered.append(None)
        )

    return watched(stage, total, lambda: len(registered), run)


def seeded(job: dict[str, Any], options: Any, *parts: Any) -> None:
    """All random choices follow the seed."""
    for part in (options, options.mapper, *parts):
        part.random_seed = job["seed"]
    options.num_threads = job["threads"]
    options.min_model_size = 2  # COLMAP's 10 would throw small captures away


def emptied(folder: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
    return folder


def calibrated(job: dict[str, Any]) -> str:
    """A database whose cameras have a focal length: the job's own, or a copy with those that a few photos give.

    The global mapper takes directions between photos as they are, and with a guessed focal length (no EXIF, no K.txt)
    they are wrong: on fox its poses then come out 20 degrees off, with a small reprojection error all the same. The
    incremental mapper finds focal lengths by itself, so it goes before on photos that match well, and the pairs are
    verified anew with what it found.
    """
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        guessed = {c.camera_id for c in database.read_all_cameras() if not c.has_prior_focal_length}
        names = linked_photos(database, guessed)
    if not guessed:
        return str(job["database"])
    models = one_by_one(job, "finding focal lengths", len(names), names)
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    copy = str(Path(job["models"]).with_name("calibrated.db"))
    shutil.copyfile(job["database"], copy)
    with contextlib.closing(pycolmap.Database.open(copy)) as database:
        for i in guessed:
            if best is None or i not in best.cameras:
                raise SystemExit("no focal lengths could be found for the global mapper; take --mapper incremental")
            camera = best.camera(i)
            camera.has_prior_focal_length = True
            database.update_camera(camera)
        database.clear_two_view_geometries()
    verifier, verification = pycolmap.GeometricVerifierOptions(), pycolmap.TwoViewGeometryOptions()
    verifier.num_threads = job["threads"]
    verification.ransac.random_seed = job["seed"]
    watched(
        "verifying matches", 1, lambda: 0,
        lambda: pycolmap.geometric_verification(copy, verifier, two_view_geometry_options=verification),
    )  # fmt: skip
    return copy


def linked_photos(database: pycolmap.Database, cameras: set[int]) -> list[str]:
    """Of each camera up to FEW photos, each sharing most matches with those before."""
    images = {image.image_id: image for image in database.read_all_images()}
    shared: Counter[tuple[int, int]] = Counter()
    for pair, count in zip(*database.read_two_view_geometry_num_inliers()):
        a, b = pycolmap.pair_id_to_image_pair(pair)
        shared[a, b] = shared[b, a] = count
    chosen: list[int] = []
    for camera in sorted(cameras):
        left = [i for i, image in images.items() if image.camera_id == camera]
        for _ in range(min(FEW, len(left))):
            among = chosen or list(images)
            left.sort(key=lambda i: -sum(shared[i, j] for j in among))
            chosen.append(left.pop(0))
    return [images[i].name for i in chosen]


def refine_centres(model: pycolmap.Reconstruction, threads: int) -> bool:
    """Bundle adjustment of everything, principal points too; whether the outcome is to be believed.

    While cameras are found these stay in the middle of the picture, since they and the poses can make up for each
    other. At the end many photos decide: real lenses are never centred, and poses come out up to three times as exact.
    Pixels are square: where fx and fy move apart, the principal point took up something else.
    """
    taken = Counter(model.image(i).camera_id for i in model.reg_image_ids())
    if min(taken.values()) < ENOUGH:
        return False
    before = {i: (centre(camera), stretch(camera)) for i, camera in model.cameras.items()}
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.ceres.solver_options.num_threads = threads
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    return all(
        np.abs(centre(camera) - before[i][0]).max() < OFF_CENTRE and stretch(camera) < max(before[i][1], SQUARE)
        for i, camera in model.cameras.items()
    )


def centre(camera: pycolmap.Camera) -> np.ndarray:
    """The principal point as a share of the picture's size."""
    return np.array([camera.principal_point_x / camera.width, camera.principal_point_y / camera.height])


def stretch(camera: pycolmap.Camera) -> float:
    """How far the two focal lengths differ, as a share."""
    return abs(camera.focal_length_x / camera.focal_length_y - 1)


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
