"""Which cameras can be real, and from a simple lens to a richer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pycolmap

FIRST = "SIMPLE_RADIAL"
RICHER = {
    "SIMPLE_PINHOLE": ("OPENCV", "RADIAL"),
    "SIMPLE_RADIAL": ("OPENCV", "RADIAL"),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", "RADIAL_FISHEYE"),
}  # what is tried once photos agree, in this order
ENOUGH = 10  # photos that a camera must have taken before its richer lens and principal point are looked for
BETTER = 0.995  # of the reprojection error: a richer lens that leaves more is not worth its coefficients

OFF_CENTRE = 0.05  # of the picture's size: principal points further off than this are mistakes, unless cropped
SQUARE = 3e-3  # share by which fx and fy may differ once the principal point is free: good ones 0.1 %, plush 0.5 %
STRETCHED = 0.03  # share by which they may ever differ
SHORTEST, SHORTEST_FISHEYE, LONGEST = 0.3, 0.15, 8.0  # focal length by the picture's long side: 11 mm and 290 mm
AGAINST_EXIF = 1.4  # EXIF rounds to millimetres, and phones crop when they steady a film; more is a mistake
CLOSE_TO_EXIF = 1.15  # that far photos may correct it without being doubted
AS_GOOD = 1.1  # errors with EXIF's focal length by those with a free one, up to which photos do not tell which is right
AGAINST_OTHERS = 3.0  # between groups of photos of which EXIF says nothing
BENT = 0.5  # a corner may lie so much nearer to the middle, or farther, than without distortion


def implausible(camera: pycolmap.Camera, exif: float | None = None) -> str:
    """Why no real lens is like that; empty where one may be. exif: the focal length it should have, in pixels."""
    fx, fy = camera.focal_length_x, camera.focal_length_y
    fisheye, longest = "FISHEYE" in camera.model_name, max(camera.width, camera.height)
    size = f"{camera.width}×{camera.height} photos"
    if not np.isfinite(camera.params).all() or min(fx, fy) <= 0:
        return f"no finite camera for {size}"
    if stretch(camera) > STRETCHED:
        return f"focal lengths {fx:.0f} and {fy:.0f} px differ by {100 * stretch(camera):.0f} %"
    focal = (fx + fy) / 2
    if exif and not 1 / AGAINST_EXIF < focal / exif < AGAINST_EXIF:
        return f"focal length {focal:.0f} px, but EXIF says {exif:.0f}"
    if not (SHORTEST_FISHEYE if fisheye else SHORTEST) < focal / longest < LONGEST:
        return f"focal length {focal:.0f} px for {size}"
    if bent(camera):
        return f"a lens that bends the corners of {size} away"
    return ""


def bent(camera: pycolmap.Camera) -> bool:
    """Whether distortion moves a corner by more than BENT of its distance from the middle, or folds the picture."""
    focal = camera.mean_focal_length()
    middle = np.array([camera.principal_point_x, camera.principal_point_y])
    corner = np.maximum(middle, [camera.width, camera.height] - middle)
    straight = np.linspace(0, np.linalg.norm(corner) / focal, 33)[1:]  # radii without distortion, in focal lengths
    if "FISHEYE" in camera.model_name:
        straight = straight[straight < 1.5]  # there a radius is an angle; rays from behind are nobody's loss
    slopes = np.tan(straight) if "FISHEYE" in camera.model_name else straight
    across = slopes[:, None] * corner / np.linalg.norm(corner)
    pixels = np.asarray(camera.img_from_cam(np.column_stack([across, np.ones(len(across))])))
    radii = np.linalg.norm(pixels - middle, axis=1) / focal
    share = radii / straight
    return not ((np.diff(radii) > 0).all() and share.min() > 1 - BENT and share.max() < 1 + BENT)


def refusals(model: pycolmap.Reconstruction, exif: dict[int, float]) -> dict[int, str]:
    """Why cameras of a model, by id, cannot be real. exif: focal lengths in pixels by camera id, where known."""
    used = {model.image(i).camera_id for i in model.reg_image_ids()}
    cameras = {i: model.camera(i) for i in used}
    why = {i: implausible(camera, exif.get(i)) for i, camera in cameras.items()}
    relative = {i: c.mean_focal_length() / max(c.width, c.height) for i, c in cameras.items() if not why[i]}
    usual = float(np.median(list(relative.values()))) if relative else 1.0
    for i, focal in relative.items():
        if i not in exif and not 1 / AGAINST_OTHERS < focal / usual < AGAINST_OTHERS:
            why[i] = f"a focal length {focal / usual:.1f} times that of the other cameras"
    return {i: reason for i, reason in why.items() if reason}


def with_exif(model: pycolmap.Reconstruction, exif: dict[int, float], threads: int) -> pycolmap.Reconstruction | None:
    """The model with EXIF's focal lengths, where it has others that the photos do not tell; else None.

    Cameras that only go forward, as in a walk down a street, hardly tell their focal length: one that is s times as
    long fits as well once space is stretched s times along the way they look. That is where adjustment starts here.
    """
    ratios = [exif[i] / camera.mean_focal_length() for i, camera in model.cameras.items() if i in exif]
    photos = list(model.reg_image_ids())
    if not photos or len(ratios) < len(model.cameras) or 1 / CLOSE_TO_EXIF < np.median(ratios) < CLOSE_TO_EXIF:
        return None
    poses = {i: model.image(i).cam_from_world() for i in photos}
    ahead = np.mean([pose.rotation.matrix()[2] for pose in poses.values()], 0)
    ahead /= np.linalg.norm(ahead)
    stretch_ahead = np.eye(3) + (np.median(ratios) - 1) * np.outer(ahead, ahead)
    copy = pycolmap.Reconstruction(model)
    for i, pose in poses.items():
        image, centre = copy.image(i), stretch_ahead @ model.image(i).projection_center()
        there = pycolmap.Rigid3d(pose.rotation, -pose.rotation.matrix() @ centre)
        copy.frame(image.frame_id).set_cam_from_world(image.camera_id, there)
    for point in copy.points3D.values():
        point.xyz = stretch_ahead @ point.xyz
    for i, camera in copy.cameras.items():
        params = camera.params
        params[camera.focal_length_idxs()] *= exif[i] / camera.mean_focal_length()
        camera.params = params
    adjust(copy, threads, centres=False, held=True)
    worse = copy.compute_mean_reprojection_error() / model.compute_mean_reprojection_error()
    return None if worse > AS_GOOD or refusals(copy, exif) else copy


def has_exif(model: pycolmap.Reconstruction, exif: dict[int, float]) -> bool:
    """Whether all focal lengths are EXIF's, which no adjustment finds by itself."""
    return all(np.isclose(c.mean_focal_length(), exif.get(i, 0.0), rtol=1e-9) for i, c in model.cameras.items())


def take_out(model: pycolmap.Reconstruction, cameras: Iterable[int]) -> None:
    """Removes the poses of photos that these cameras took."""
    for i in [i for i in model.reg_image_ids() if model.image(i).camera_id in set(cameras)]:
        model.deregister_frame(model.image(i).frame_id)


def convert(camera: pycolmap.Camera, lens: str) -> None:
    """Another lens in place: what both know stays, what the old one lacked is zero."""
    known = dict(zip(camera.params_info.split(", "), camera.params))
    fx, fy = camera.focal_length_x, camera.focal_length_y
    k = known.get("k", known.get("k1", 0.0))
    if ("FISHEYE" in lens) != ("FISHEYE" in camera.model_name):
        known, k = {key: known[key] for key in ("cx", "cy")}, 0.0  # their coefficients mean other things
    known |= {"f": (fx + fy) / 2, "fx": fx, "fy": fy, "k": k, "k1": k}
    names = pycolmap.Camera.create_from_model_name(1, lens, 1.0, 1, 1).params_info.split(", ")
    camera.model = getattr(pycolmap.CameraModelId, lens)
    camera.params = [known.get(name, 0.0) for name in names]


def adjust(model: pycolmap.Reconstruction, threads: int, centres: bool, held: bool = False) -> None:
    """Bundle adjustment of everything; with principal points only of cameras with ENOUGH photos.

    held: focal lengths stay as they are.
    """
    options, config = pycolmap.BundleAdjustmentOptions(), pycolmap.BundleAdjustmentConfig()
    options.print_summary = False
    options.refine_principal_point = centres
    options.refine_focal_length = not held
    options.ceres.solver_options.num_threads = threads
    for i in model.reg_image_ids():
        config.add_image(i)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    for i in few_photos(model) if centres else ():
        config.set_constant_cam_intrinsics(i)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()


def few_photos(model: pycolmap.Reconstruction) -> set[int]:
    taken = Counter(model.image(i).camera_id for i in model.reg_image_ids())
    return {i for i, count in taken.items() if count < ENOUGH}


def refined(
    model: pycolmap.Reconstruction, exif: dict[int, float], threads: int, lens: str = "", held: bool = False
) -> pycolmap.Reconstruction | None:
    """A copy, adjusted as a whole; with another lens, if given, for each camera that took ENOUGH photos.

    held: focal lengths stay as they are, and principal points, which photos tell even less, in the middle.

    A lens of more coefficients than that with which the poses were found: those take up mistakes while few photos
    constrain them, and many photos decide. None where no camera took as many, or where the outcome is implausible.
    """
    copy = pycolmap.Reconstruction(model)
    chosen = {model.image(i).camera_id for i in model.reg_image_ids()} - few_photos(model)
    if lens and not chosen:
        return None
    for i in chosen if lens else ():
        convert(copy.camera(i), lens)
    adjust(copy, threads, centres=False, held=held)
    if refusals(copy, exif):
        return None
    return copy if held else with_centres(copy, exif, threads) or copy


def is_better(richer: pycolmap.Reconstruction, simple: pycolmap.Reconstruction) -> bool:
    return richer.compute_mean_reprojection_error() < BETTER * simple.compute_mean_reprojection_error()


def with_centres(
    model: pycolmap.Reconstruction, exif: dict[int, float], threads: int
) -> pycolmap.Reconstruction | None:
    """The model with principal points refined; None where the outcome is not to be believed.

    While cameras are found these stay in the middle of the picture, since they and the poses can make up for each
    other. At the end many photos decide: real lenses are never centred, and poses come out up to three times as exact.
    Pixels are square: where fx and fy, free, move apart, the principal point took up something else. On plush, whose
    lens has one focal length, it went 14 pixels astray and turned the poses by 0.7 degrees.
    """
    refined, few = pycolmap.Reconstruction(model), few_photos(model)
    if not {model.image(i).camera_id for i in model.reg_image_ids()} - few:
        return None
    witness = pycolmap.Reconstruction(model)
    for camera in witness.cameras.values():
        if len(camera.focal_length_idxs()) == 1:
            convert(camera, "OPENCV_FISHEYE" if "FISHEYE" in camera.model_name else "OPENCV")
    adjust(witness, threads, centres=True)
    if any(stretch(witness.camera(i)) > max(stretch(before), SQUARE) for i, before in model.cameras.items()):
        return None
    adjust(refined, threads, centres=True)
    if any(np.abs(centre(refined.camera(i)) - centre(c)).max() > OFF_CENTRE for i, c in model.cameras.items()):
        return None
    return None if refusals(refined, exif) else refined


def centre(camera: pycolmap.Camera) -> np.ndarray:
    """The principal point as a share of the picture's size."""
    return np.array([camera.principal_point_x / camera.width, camera.principal_point_y / camera.height])


def stretch(camera: pycolmap.Camera) -> float:
    """How far the two focal lengths differ, as a share."""
    return abs(camera.focal_length_x / camera.focal_length_y - 1)
