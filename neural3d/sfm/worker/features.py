"""COLMAP's database of a capture: its photos and their cameras, features, and matches verified by geometry."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from neural3d.sfm.worker.lenses import convert
from neural3d.sfm.worker.matching import coarse_scores, largest, promising
from neural3d.sfm.worker.progress import tell, watched

LARGEST = 1600  # pixels of a photo's long side in which features are looked for: more cost minutes and place no more
FEW = 20  # photos of which all pairs are matched at once
FEW_FEATURES = 1000  # of a photo, with which it is looked at again for fainter ones
FAINTER = (0.0025, 0.001)  # contrasts, of 1, at which features are then taken; at first it is COLMAP's 0.0067
MOST = 150  # photos of which all pairs are matched where too few could be placed

Pairs = list[tuple[str, str]]


def register_photos(job: dict[str, Any], database: pycolmap.Database) -> None:
    """Photos and their cameras, in the order given: ids never depend on which thread was first."""
    if database.num_images() == sum(len(group["names"]) for group in job["cameras"]):
        return
    database.clear_all_tables()
    for group in job["cameras"]:
        options = pycolmap.ImageReaderOptions()
        options.camera_model, options.camera_params = job["lens"], group["params"]
        pycolmap.import_images(job["database"], job["images"], pycolmap.CameraMode.SINGLE, group["names"], options)


def use_lens(database: pycolmap.Database, lens: str) -> None:
    for camera in database.read_all_cameras():
        if camera.model_name != lens:
            convert(camera, lens)
            database.update_camera(camera)


def find_features(job: dict[str, Any], database: pycolmap.Database) -> None:
    names = [name for group in job["cameras"] for name in group["names"]]
    extract(job, database, names, pycolmap.FeatureExtractionOptions(), "finding features")


def look_again(job: dict[str, Any], database: pycolmap.Database) -> bool:
    """Fainter features where there are few, as in photos of smooth, evenly coloured things. Are there any such photos?

    If so, matches, which count features by number, are gone. Not done from the start: faint features are less exact
    than others, and where those do, more are no gain.
    """
    ids = {image.name: image.image_id for image in database.read_all_images()}
    found = False
    for contrast in FAINTER:
        poor = sorted(name for name, i in ids.items() if database.num_keypoints_for_image(i) < FEW_FEATURES)
        if not poor:
            break
        found = True
        database.clear_matches()
        forget_features(database, {ids[name] for name in poor})
        options = pycolmap.FeatureExtractionOptions()
        options.sift.peak_threshold = contrast
        extract(job, database, poor, options, "finding fainter features")
    return found


def extract(job: dict[str, Any], database: pycolmap.Database, names: list[str], options: Any, stage: str) -> None:
    """Features of those photos that have none in the database."""
    ids = [image.image_id for image in database.read_all_images() if image.name in set(names)]
    options.num_threads, options.max_image_size = job["threads"], LARGEST
    masked = [name for name in names if Path(job["masks"], f"{name}.png").is_file()]
    rest = sorted(set(names) - set(masked))  # by themselves: in a folder of masks COLMAP asks for all

    def run() -> None:
        for some, masks in ((masked, job["masks"]), (rest, "")):
            reader = pycolmap.ImageReaderOptions()
            reader.mask_path = masks  # no features where NAME.jpg.png is black
            if some:
                pycolmap.extract_features(
                    job["database"], job["images"], some, reader_options=reader, extraction_options=options
                )

    watched(stage, len(names), lambda: sum(database.exists_keypoints(i) for i in ids), run)


def forget_features(database: pycolmap.Database, ids: set[int]) -> None:
    """pycolmap can only forget those of all photos: the others' are written again."""
    others = [i.image_id for i in database.read_all_images() if i.image_id not in ids]
    kept = [(i, database.read_keypoints(i), database.read_descriptors(i)) for i in others]
    database.clear_keypoints()
    database.clear_descriptors()
    for i, keypoints, descriptors in kept:
        database.write_keypoints(i, keypoints)
        database.write_descriptors(i, descriptors)


def match(job: dict[str, Any], database: pycolmap.Database) -> None:
    pairs = first_pairs(job, database)
    count = database.num_images()
    what = "matching all pairs" if 2 * len(pairs) == count * (count - 1) else f"matching {job['which']}"
    verify(job, database, what, pairs)


def first_pairs(job: dict[str, Any], database: pycolmap.Database) -> Pairs:
    """The job's pairs and, where it asks for similar ones, those that look alike."""
    pairs = {tuple(pair) for pair in job["pairs"]}
    if job["similar"]:
        pairs |= set(similar_pairs(job, database))
    return sorted(pairs)


def similar_pairs(job: dict[str, Any], database: pycolmap.Database) -> Pairs:
    """Of each photo those most alike; all pairs of a capture so small that these are all."""
    photos = sorted(database.read_all_images(), key=lambda image: image.name)
    names = [photo.name for photo in photos]
    if len(names) <= FEW:
        return list(combinations(names, 2))
    coarse = [
        largest(database.read_descriptors(photo.image_id).data, scales(database.read_keypoints(photo.image_id)))
        for photo in photos
    ]
    total = len(photos) * (len(photos) - 1) // 2

    def progress(done: int) -> None:
        if done % 500 == 0 or done == total:
            tell(stage="comparing all pairs by few features", done=done, total=total)

    scores = coarse_scores(coarse, job["threads"], progress)
    return [(names[i], names[j]) for i, j in promising(scores, len(names))]


def scales(keypoints: np.ndarray) -> np.ndarray:
    """Of COLMAP's keypoints (n, 6): x, y and an affine frame in pixels."""
    return np.sqrt(np.abs(keypoints[:, 2] * keypoints[:, 5] - keypoints[:, 3] * keypoints[:, 4]))


def match_harder(job: dict[str, Any], database: pycolmap.Database) -> None:
    """More matches in each of all pairs: by fainter features where photos have few, and by COLMAP's guided matching.

    Once two photos' geometry is known, features along epipolar lines may match that are too alike elsewhere. Matches
    found before are kept and only verified anew. Of many photos: pairs that matched before, or as at first.
    """
    names = {image.image_id: image.name for image in database.read_all_images()}
    matched = [pycolmap.pair_id_to_image_pair(i) for i in database.read_two_view_geometry_num_inliers()[0]]
    database.clear_two_view_geometries()
    fainter = look_again(job, database)
    if len(names) <= MOST:
        pairs = list(combinations(sorted(names.values()), 2))
    elif fainter:
        pairs = first_pairs(job, database)
    else:
        pairs = sorted((names[a], names[b]) for a, b in matched)
    verify(job, database, "matching more thoroughly", pairs, guided=True)


def verify(
    job: dict[str, Any], database: pycolmap.Database, stage: str, pairs: Sequence[tuple], guided: bool = False
) -> None:
    """Matches pairs of photos and verifies them by geometry; those already in the database are skipped."""
    matching, listed = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
    matching.num_threads, matching.guided_matching = job["threads"], guided
    path = Path(job["scratch"]) / "pairs.txt"
    path.write_text("".join(f"{a} {b}\n" for a, b in pairs))
    listed.match_list_path = str(path)
    watched(
        stage, len(pairs),
        database.num_verified_image_pairs if guided else database.num_matched_image_pairs,
        lambda: pycolmap.match_image_pairs(
            job["database"], matching_options=matching, pairing_options=listed, verification_options=verification(job)
        ),
    )  # fmt: skip


def verification(job: dict[str, Any]) -> pycolmap.TwoViewGeometryOptions:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = job["seed"]
    options.ransac.dyn_num_trials_multiplier = 1.0  # COLMAP's 3 takes twice as long and finds half a per cent more
    return options
