"""Readers of transforms.json (instant-ngp, nerfstudio) and of transforms_{train,val,test}.json (NeRF, BlenderNeRF).

Both list frames with a camera-to-world matrix in OpenGL's camera frame (x right, y up, z backwards) and intrinsics per
frame or for all. instant-ngp's unit cube is 1/0.33 wide around the origin; its aabb_scale only says how far beyond the
scene reaches.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.bounds import convergence
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import LENSES
from neural3d.images.reading import read_header
from neural3d.scene.capture import Capture, Frame, find_mask, find_picture, in_any_case, pose_from, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.align import adopt_points
from neural3d.scene.readers.colmap import find_model
from neural3d.scene.readers.reader import Reader, named

OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
NGP_HALF_CUBE = 0.5 / 0.33  # instant-ngp maps x to 0.33 x + 0.5 and looks at the unit cube
BLENDER_HALF_CUBE = 1.5  # the NeRF paper's synthetic scenes lie within ±1.5
MODELS = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
    "SIMPLE_FISHEYE",
    "FISHEYE",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "OPENCV_FISHEYE",
    "EQUIRECTANGULAR",
)  # whose parameters the file has keys for
NGP_LENSES = ("ftheta_p0", "latlong", "equirectangular")  # instant-ngp's keys of lenses that are none of these
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")


def read_transforms(path: Path, images: str | None = None) -> Capture:
    """A transforms.json by itself: instant-ngp's and nerfstudio's captures of real places.

    images: a folder, such as images_4, with reduced copies of the photos that the file names.
    """
    content = read_json(path)
    frames = [_frame(path, {**content, **entry}, i) for i, entry in enumerate(_entries(path, content))]
    half = NGP_HALF_CUBE
    if "scale" in content or "offset" in content:
        half = 0.5 / _number(path, content, "scale", 0.33)
    capture = Capture("transforms", path, frames, upright=True)
    if "aabb_scale" in content:
        capture.box = np.array([[-half] * 3, [half] * 3])
        capture.unbounded = _number(path, content, "aabb_scale", 1) > 1
    _name_splits(path, content, frames)
    if images:
        _take_copies(path, frames, images)
    if "ply_file_path" in content:
        cloud = path.parent / str(content["ply_file_path"])
        capture.points = read_ply_points(in_any_case(cloud) or cloud)
    return capture


def read_blender(folder: Path) -> Capture:
    """transforms_train.json with transforms_val.json and transforms_test.json, where they exist.

    The add-on BlenderNeRF writes the same of any scene, with points3d.ply of its meshes; its test cameras have pictures
    only where somebody has rendered them. NeRF's own scenes and those of scripts made after NeRF's, told by a frame's
    `rotation` or by a field of view alone (the add-on says `fl_x`) and by where the cameras look, fill a known cube.
    """
    capture, nerfs = Capture("blender", folder, [], upright=True), False
    contents = {split: folder / f"transforms_{split}.json" for split in ("train", "val", "test")}
    for split, content in ((s, read_json(path)) for s, path in contents.items() if path.is_file()):
        entries = _entries(contents[split], content, allow_empty=True)
        if split != "train" and entries and not any(_picture(folder, entry) for entry in entries):
            capture.notes.append(f"{contents[split].name} names no picture that exists; its cameras are left out.")
            continue
        nerfs = nerfs or "fl_x" not in content or any("rotation" in entry for entry in entries)
        for i, entry in enumerate(entries):
            entry = {**content, **entry, "transform_matrix": _unscaled(entry.get("transform_matrix"))}
            capture.frames.append(replace(_frame(contents[split], entry, i), split=split))
    looked_at = convergence([frame.camera for frame in capture.frames])
    if nerfs and (looked_at is None or looked_at.abs().max() < BLENDER_HALF_CUBE):
        capture.box = np.array([[-BLENDER_HALF_CUBE] * 3, [BLENDER_HALF_CUBE] * 3])
        capture.unbounded, capture.background = False, "white"
    if (cloud := in_any_case(folder / "points3d.ply")) is not None:
        capture.points = read_ply_points(cloud)
    return capture


def _unscaled(matrix: Any) -> Any:
    """Columns of unit length: Blender renders along a camera's axes, however its object, or a parent, is scaled."""
    try:
        given = np.asarray(matrix, dtype=np.float64)
        lengths = np.linalg.norm(given[:3, :3], axis=0)
    except (TypeError, ValueError, IndexError):
        return matrix  # for `pose_from` to say what is wrong
    if given.shape != (4, 4) or not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return matrix
    given[:3, :3] /= lengths
    return given


def _entries(path: Path, content: dict[str, Any], allow_empty: bool = False) -> list[dict[str, Any]]:
    entries = content.get("frames")
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"{path} has no list 'frames'; is it a transforms.json?")
    if not entries and not allow_empty:
        raise UserError(f"{path} lists no frames; export the capture again.")
    return entries


def _picture(folder: Path, entry: dict[str, Any]) -> Path | None:
    """The photo that a frame names; file systems differ in slashes."""
    return find_picture(folder / PurePosixPath(str(entry.get("file_path")).replace("\\", "/")))


def _frame(path: Path, entry: dict[str, Any], index: int) -> Frame:
    file_path = entry.get("file_path")
    if not isinstance(file_path, str):
        raise UserError(f"{path}: frame {index} has no 'file_path'; name its photo there.")
    where = f"{path}, frame '{file_path}'"
    image = _picture(path.parent, entry)
    if image is None:
        raise UserError(f"{where}: photo {path.parent / file_path} is missing; put it back or remove the frame.")
    width, height, _ = read_header(image)
    width, height = round(_number(path, entry, "w", width)), round(_number(path, entry, "h", height))
    model, params = _lens(path, entry, width, height, where)
    pose = pose_from(entry.get("transform_matrix"), where) @ OPENCV_FROM_OPENGL
    inside = image.relative_to(path.parent) if image.is_relative_to(path.parent) else image
    mask = _mask(path, entry, image, inside, where)
    name = inside.relative_to("images").as_posix() if inside.parts[0] == "images" else inside.as_posix()
    return Frame(name, Camera(model, width, height, params, pose), image, mask, source=path)


def _mask(path: Path, entry: dict[str, Any], image: Path, inside: Path, where: str) -> Path | None:
    if named := entry.get("mask_path"):
        given = path.parent / str(named).replace("\\", "/")
        if (mask := find_picture(given)) is None:
            raise UserError(f"{where}: mask {given} is missing; put it back or remove 'mask_path'.")
        return mask
    # Blender's folders repeat photo names between splits, so only a folder of photos may have a folder of masks beside
    return find_mask(image, path.parent / inside.parts[0], path.parent) if inside.parts[0].startswith("image") else None


def _number(path: Path, entry: dict[str, Any], key: str, default: float) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{path}: '{key}' must be a finite number, not {value!r}.")
    return float(value)


def _lens(path: Path, entry: dict[str, Any], width: int, height: int, where: str) -> tuple[str, Tensor]:
    """COLMAP model and parameters from fl_x, fl_y or camera_angle_x, camera_angle_y, and OpenCV's coefficients."""
    a = {key: _number(path, entry, key, 0.0) for key in _COEFFICIENTS}
    model = entry.get("camera_model", "OPENCV_FISHEYE" if entry.get("is_fisheye") else "OPENCV")
    other = next((key for key in NGP_LENSES if entry.get(key)), model)
    if other not in MODELS:
        raise UserError(
            f"{where}: unknown camera model '{other}'; write one of PINHOLE, OPENCV, FULL_OPENCV, OPENCV_FISHEYE, "
            "EQUIRECTANGULAR as 'camera_model', or, where it is none of these, cut its photos into perspective views."
        )
    if model == "EQUIRECTANGULAR":
        return model, torch.tensor([width, height], dtype=torch.float64)
    fx = _focal(path, entry, "fl_x", "camera_angle_x", width)
    fy = _focal(path, entry, "fl_y", "" if "fl_x" in entry else "camera_angle_y", height) or fx
    fx = fx or fy
    if fx is None or fy is None or min(fx, fy) <= 0:
        raise UserError(f"{where}: no positive focal length; add 'fl_x' in pixels or 'camera_angle_x' in radians.")
    pinhole = [fx, fy, _number(path, entry, "cx", width / 2), _number(path, entry, "cy", height / 2)]
    if LENSES[model].projection == "equidistant":
        return "OPENCV_FISHEYE", torch.tensor([*pinhole, a["k1"], a["k2"], a["k3"], a["k4"]], dtype=torch.float64)
    if a["k4"]:
        raise UserError(f"{where}: programs disagree on 'k4' of lenses that are no fisheyes; refit with k1–k3, p1, p2.")
    if a["k3"]:
        values = [*pinhole, a["k1"], a["k2"], a["p1"], a["p2"], a["k3"], 0, 0, 0]
        return "FULL_OPENCV", torch.tensor(values, dtype=torch.float64)
    if not any(a.values()):
        return "PINHOLE", torch.tensor(pinhole, dtype=torch.float64)
    return "OPENCV", torch.tensor([*pinhole, a["k1"], a["k2"], a["p1"], a["p2"]], dtype=torch.float64)


def _focal(path: Path, entry: dict[str, Any], focal: str, angle: str, size: int) -> float | None:
    """Pixels: given, or size / 2 / tan(angle / 2)."""
    if focal in entry:
        return _number(path, entry, focal, 0)
    return size / 2 / math.tan(_number(path, entry, angle, 0) / 2) if entry.get(angle) else None


def _take_copies(path: Path, frames: list[Frame], images: str) -> None:
    """Replaces each photo's first folder below the capture's by `images`."""
    for frame in frames:
        inside = frame.image_path.relative_to(path.parent)
        copy = path.parent / images / Path(*inside.parts[1:])
        frame.image_path, frame.any_size = find_picture(copy) or copy, True


def _name_splits(path: Path, content: dict[str, Any], frames: list[Frame]) -> None:
    """nerfstudio's optional train_filenames, val_filenames, test_filenames."""
    by_path = {frame.image_path: frame for frame in frames}
    for split in ("train", "val", "test"):
        for name in content.get(f"{split}_filenames", []):
            image = find_picture(path.parent / name)
            if image not in by_path:
                raise UserError(f"{path}: '{split}_filenames' names '{name}', which is no frame; remove it there.")
            by_path[image].split = split


def read_ply_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points and colours of a PLY cloud (grey where it has none)."""
    import trimesh  # slow to import, rarely needed

    try:
        cloud: Any = trimesh.load(path, process=False)  # a cloud, or a mesh if it has faces
        points = np.asarray(cloud.vertices, dtype=np.float64)
        colours = np.asarray(cloud.colors if hasattr(cloud, "colors") else cloud.visual.vertex_colors)
    except (OSError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"Point cloud {path} cannot be read ({error}); repair it or remove 'ply_file_path'.") from None
    if colours.shape[:1] != points.shape[:1]:
        colours = np.full((len(points), 3), 128)
    return points, colours[:, :3].astype(np.uint8)


def _read(file: Path, options: SceneOptions) -> Capture:
    capture = read_transforms(file, options.images)
    if capture.points is None and (model := find_model(file.parent)):
        adopt_points(capture, model)
    return capture


READER = Reader(
    "transforms", "nerfstudio, instant-ngp", "transforms.json", named("transforms.json"), _read, unnamed=".json"
)
BLENDER = Reader(
    "blender", "NeRF's synthetic scenes, BlenderNeRF", "transforms_{train,val,test}.json",
    named("transforms_train.json"), lambda file, options: read_blender(file.parent),
)  # fmt: skip
