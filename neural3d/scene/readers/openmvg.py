"""Reader of OpenMVG's sfm_data.json.

Poses are a rotation, camera from world in OpenCV's frame, and the camera's centre. Pixel centres are whole numbers, so
that principal points move by half a pixel. cereal writes pointers: the name of a class where it occurs first, then its
number alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import Capture, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.brown import Brown, fitting_note, panorama
from neural3d.scene.readers.files import (
    find_photos,
    guarded,
    make_frames,
    numbers,
    points_of,
    recognised,
    unplaced_note,
)
from neural3d.scene.readers.reader import Reader

DISTORTION = {  # where the coefficients are, and how many of them there are: radial ones, then tangential ones
    "pinhole": ("", 0, 0),
    "pinhole_radial_k1": ("disto_k1", 1, 0),
    "pinhole_radial_k3": ("disto_k3", 3, 0),
    "pinhole_brown_t2": ("disto_t2", 3, 2),
    "fisheye": ("fisheye", 4, 0),
}
FIRST = 1 << 31  # the bit of an id that says: here it is told, not only mentioned

find_openmvg = recognised(
    ("sfm_data.json", "*.json", "reconstruction*/sfm_data.json", "*/sfm_data.json"),
    lambda head: '"sfm_data_version"' in head,
)


def read_openmvg(file: Path, options: SceneOptions) -> Capture:
    """The views that have a pose and an intrinsic, and the structure."""
    return guarded(file, lambda: _read(file, options))


def _read(file: Path, options: SceneOptions) -> Capture:
    content = json.loads(file.read_bytes())
    views = [view for _, _, view in _pointers(content["views"])]
    poses = {pose["key"]: pose["value"] for pose in content["extrinsics"]}
    lenses = {key: _lens(file, kind, entry) for key, kind, entry in _pointers(content["intrinsics"])}
    placed = [view for view in views if view["id_pose"] in poses and view["id_intrinsic"] in lenses]
    if not placed:
        raise UserError(
            f"{file} has no poses: it lists photos only. OpenMVG keeps reconstructions in sfm_data.bin unless told "
            "otherwise; convert that: openMVG_main_ConvertSfM_DataFormat -i sfm_data.bin -o sfm_data.json."
        )
    capture = Capture("openmvg", file, [], points_of(point["value"]["X"] for point in content.get("structure", [])))
    capture.notes += unplaced_note(len(views) - len(placed), len(views))
    capture.notes += fitting_note([error for *_, error in lenses.values()])
    root = content.get("root_path", "")
    names = ["/".join(filter(None, (root, view.get("local_path", ""), view["filename"]))) for view in placed]
    cameras = [
        Camera(*lenses[view["id_intrinsic"]][:4], _pose(file, name, poses[view["id_pose"]]))
        for view, name in zip(placed, names)
    ]
    capture.frames = make_frames(file, find_photos(file, names, options.images), cameras, bool(options.images))
    return capture


def _pointers(entries: list[dict[str, Any]]) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Key, class and data of each pointer of a map; "" for the class where it is that of the map itself."""
    kinds: dict[int, str] = {}
    told: dict[int, dict[str, Any]] = {}
    for entry in entries:
        value, pointer = entry["value"], entry["value"]["ptr_wrapper"]
        kind, id_ = value.get("polymorphic_id", 0) & ~FIRST, pointer["id"] & ~FIRST
        if "polymorphic_name" in value:
            kinds[kind] = value["polymorphic_name"]
        if "data" in pointer:
            told[id_] = pointer["data"]
        yield entry["key"], kinds.get(kind, ""), told[id_]


def _pose(file: Path, name: str, pose: dict[str, Any]) -> torch.Tensor:
    rotation = numbers(pose["rotation"], (3, 3), f"rotation of '{name}'")
    centre = numbers(pose["center"], (3,), f"center of '{name}'")
    return pose_from(np.column_stack([rotation.T, centre]), f"{file}, view '{name}'")


def _lens(file: Path, kind: str, entry: dict[str, Any]) -> tuple[str, int, int, torch.Tensor, float]:
    """Model, size, parameters, error in pixels."""
    entry = {**entry, **entry.get("value0", {})}  # a spherical lens keeps its size in the part that all lenses share
    width, height = int(entry["width"]), int(entry["height"])
    if kind == "spherical":
        return panorama(width, height)
    if kind not in DISTORTION:
        raise UserError(f"{file}: intrinsics of type '{kind}' are not read; use one of {', '.join(DISTORTION)}.")
    key, radial, tangential = DISTORTION[kind]
    k = numbers(entry[key], (radial + tangential,), key).tolist() if key else []
    focal = float(numbers(entry["focal_length"], (), "focal_length"))
    cx, cy = numbers(entry["principal_point"], (2,), "principal_point") + 0.5
    if focal <= 0 or min(width, height) < 1:
        raise ValueError(f"intrinsics of {width}×{height} with the focal length {focal}")
    p1, p2 = k[radial:] or (0.0, 0.0)
    projection = "equidistant" if kind == "fisheye" else "perspective"
    lens = Brown(width, height, focal, focal, cx, cy, tuple(k[:radial]), p1, p2, projection=projection)
    model, params, error = lens.colmap()
    return model, width, height, params, error


READER = Reader("openmvg", "OpenMVG", "sfm_data.json in the folder or one below it", find_openmvg, read_openmvg)
