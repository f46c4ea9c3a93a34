"""Reader of OpenSfM's reconstruction.json, which OpenDroneMap keeps in opensfm/.

Shots have rotation (axis times radians) and translation, camera from world, in OpenCV's camera frame; the world is
metres east, north and up of reference_lla where GPS said where that is. Lengths of a lens are in units of the picture's
longer side, from its middle (OpenSfM's "Geometric models").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import Capture, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.brown import Brown, fitting_note, panorama
from neural3d.scene.readers.files import find_photos, guarded, make_frames, numbers, points_of, recognised
from neural3d.scene.readers.reader import Reader

RADIAL = {  # the number of radial coefficients, by projection_type
    "perspective": 2, "simple_radial": 1, "radial": 2, "brown": 3,
    "fisheye": 2, "fisheye_opencv": 4, "fisheye62": 6, "fisheye624": 6,
}  # fmt: skip
PANORAMAS = ("spherical", "equirectangular")

find_opensfm = recognised(
    ("reconstruction.json", "opensfm/reconstruction.json"),
    lambda head: head.lstrip().startswith("[") and '"projection_type"' in head,
)


def read_opensfm(file: Path, options: SceneOptions) -> Capture:
    """The reconstruction of most shots in the file."""
    return guarded(file, lambda: _read(file, options))


def _read(file: Path, options: SceneOptions) -> Capture:
    models = json.loads(file.read_bytes())
    model = max(models, key=lambda m: len(m["shots"]))
    shots, points = model["shots"], model.get("points", {}).values()
    place = model.get("reference_lla") or {}
    metric = any(place.get(key) for key in ("latitude", "longitude"))
    found = points_of((p["coordinates"] for p in points), (p.get("color", [128] * 3) for p in points))
    capture = Capture("opensfm", file, [], found, upright=True, metric=metric)
    others = sum(len(m["shots"]) for m in models) - len(shots)
    if others:
        capture.notes.append(f"Of {len(models)} reconstructions the largest was read; {others} photos are left out.")
    lenses = {name: _lens(file, name, entry) for name, entry in model["cameras"].items()}
    capture.notes += fitting_note([error for *_, error in lenses.values()])
    cameras = [Camera(*lenses[shot["camera"]][:4], _pose(file, name, shot)) for name, shot in shots.items()]
    project = file.parent.parent if file.parent.name == "opensfm" else file.parent
    photos = find_photos(file, list(shots), options.images, project)  # not the undistorted copies in opensfm/
    capture.frames = make_frames(file, photos, cameras, bool(options.images))
    return capture


def _pose(file: Path, name: str, shot: dict[str, Any]) -> torch.Tensor:
    rotation = _rotation(numbers(shot["rotation"], (3,), f"rotation of '{name}'"))
    t = numbers(shot["translation"], (3,), f"translation of '{name}'")
    return pose_from(np.column_stack([rotation.T, -rotation.T @ t]), f"{file}, shot '{name}'")


def _rotation(vector: np.ndarray) -> np.ndarray:
    """exp [v]×, the rotation by |v| radians about v (Rodrigues)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / max(angle, 1e-300)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _lens(file: Path, name: str, entry: dict[str, Any]) -> tuple[str, int, int, torch.Tensor, float]:
    """Model, size, parameters, error in pixels."""
    kind, width, height = entry["projection_type"], int(entry["width"]), int(entry["height"])
    if min(width, height) < 1:
        raise ValueError(f"camera '{name}' of {width}×{height}")
    if kind in PANORAMAS:
        return panorama(width, height)
    if kind not in RADIAL:
        raise UserError(
            f"{file}: camera '{name}' is of type '{kind}', which is not read; reconstruct with one of "
            f"{', '.join([*RADIAL, *PANORAMAS])}."
        )

    def number(key: str, default: Any = None) -> float:
        return float(numbers(entry[key] if default is None else entry.get(key, default), (), f"{key} of '{name}'"))

    longer = max(width, height)
    fx = longer * number("focal" if "focal" in entry else "focal_x")
    fy = fx if "focal" in entry else longer * number("focal_y", entry["focal_x"])
    if min(fx, fy) <= 0:
        raise ValueError(f"camera '{name}' has the focal length {min(fx, fy)}")
    middle = width / 2 + longer * number("c_x", 0.0), height / 2 + longer * number("c_y", 0.0)
    radial = tuple(number(f"k{i}", 0.0) for i in range(1, RADIAL[kind] + 1))
    prism = (number("s0", 0.0), number("s1", 0.0), number("s2", 0.0), number("s3", 0.0))
    projection = "equidistant" if kind.startswith("fisheye") else "perspective"
    model, params, error = Brown(
        width, height, fx, fy, *middle, radial, number("p1", 0.0), number("p2", 0.0), prism, projection=projection
    ).colmap()
    return model, width, height, params, error


READER = Reader(
    "opensfm", "OpenSfM, OpenDroneMap", "reconstruction.json in the folder or in opensfm", find_opensfm, read_opensfm
)
