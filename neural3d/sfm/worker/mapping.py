"""COLMAP's mappers: from verified matches to cameras."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pycolmap

from neural3d.sfm.worker.features import use_lens, verification
from neural3d.sfm.worker.progress import watched

FEW = 20  # photos of a camera that find its focal length for the global mapper
SEEN = 30  # points that a photo must see to count as placed: as many as the incremental mapper asks of a pose

Models = list[pycolmap.Reconstruction]


class NoFocalLength(Exception):
    """The global mapper needs focal lengths, and none could be found."""


def map_photos(job: dict[str, Any], mapper: str, lens: str, seed: int, stage: str) -> Models:
    """Every separate model that a mapper finds with a lens, the largest first."""
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        use_lens(database, lens)
        total = database.num_images()
    if mapper == "incremental":
        return one_by_one(job, seed, stage, total)
    path = calibrated(job, seed)
    options = pycolmap.GlobalPipelineOptions()
    parts = options.mapper
    seeded(job, seed, options, parts.rotation_averaging, parts.global_positioning, parts.retriangulation)
    folder = emptied(job)
    models = watched(stage, total, lambda: 0, lambda: pycolmap.global_mapping(path, job["images"], folder, options))
    for model in models.values():
        take_out_unseen(model, model.reg_image_ids())  # it places all that match, whether or not their points fit
    return largest_first(models)


def one_by_one(
    job: dict[str, Any],
    seed: int,
    stage: str,
    total: int,
    names: Sequence[str] = (),
    start: str = "",
    held: bool = False,
) -> Models:
    """The incremental mapper on all photos or on those named; from a model in the folder `start`, if given.

    held: focal lengths stay as they are.
    """
    options = pycolmap.IncrementalPipelineOptions()
    seeded(job, seed, options, options.triangulation)
    options.image_names = list(names)
    options.ba_refine_focal_length = not held
    registered: list[None] = []
    folder = emptied(job)

    def run() -> Any:
        return pycolmap.incremental_mapping(
            job["database"], job["images"], folder, options, start, next_image_callback=lambda: registered.append(None)
        )

    return largest_first(watched(stage, total, lambda: len(registered), run))


def largest_first(models: dict[int, pycolmap.Reconstruction]) -> Models:
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def take_out_unseen(model: pycolmap.Reconstruction, photos: Iterable[int]) -> None:
    """Removes the poses of those photos that see too few of the model's points to be sure of them."""
    for i in [i for i in photos if model.image(i).num_points3D < SEEN]:
        model.deregister_frame(model.image(i).frame_id)


def go_on(
    job: dict[str, Any], model: pycolmap.Reconstruction, total: int, held: bool = False
) -> pycolmap.Reconstruction:
    """Places more photos, starting from a model and its cameras, which the database must agree with."""
    with contextlib.closing(pycolmap.Database.open(job["database"])) as database:
        for camera in database.read_all_cameras():
            if camera.camera_id in model.cameras:
                database.update_camera(model.camera(camera.camera_id))
    start = Path(job["scratch"]) / "start"
    start.mkdir(exist_ok=True)
    model.write(str(start))
    found = one_by_one(job, job["seed"], "placing the rest", total, start=str(start), held=held)
    return found[0] if found else model


def seeded(job: dict[str, Any], seed: int, options: Any, *parts: Any) -> None:
    """All random choices follow the seed."""
    for part in (options, options.mapper, *parts):
        part.random_seed = seed
    options.num_threads = job["threads"]
    options.min_model_size = 2  # COLMAP's 10 would throw small captures away


def emptied(job: dict[str, Any]) -> str:
    folder = Path(job["scratch"]) / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return str(folder)


def calibrated(job: dict[str, Any], seed: int) -> str:
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
    models = one_by_one(job, seed, "finding focal lengths", len(names), names)
    copy = str(Path(job["scratch"]) / "calibrated.db")
    shutil.copyfile(job["database"], copy)
    with contextlib.closing(pycolmap.Database.open(copy)) as database:
        for i in guessed:
            if not models or i not in models[0].cameras:
                raise NoFocalLength
            camera = models[0].camera(i)
            camera.has_prior_focal_length = True
            database.update_camera(camera)
        database.clear_two_view_geometries()
    verifier = pycolmap.GeometricVerifierOptions()
    verifier.num_threads = job["threads"]
    watched(
        "verifying matches", 1, lambda: 0,
        lambda: pycolmap.geometric_verification(copy, verifier, two_view_geometry_options=verification(job)),
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
