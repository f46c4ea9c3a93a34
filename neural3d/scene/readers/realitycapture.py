"""Reader of RealityCapture's (RealityScan's) camera parameters: a .csv with a line per photo under a line of names.

    #name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2

is "Internal/External camera parameters": the camera's centre; degrees by which the camera, in OpenGL's frame, is turned
from looking straight down with its head to the north (+y), world_from_camera = Rz(−heading) Rx(pitch) Ry(roll) (Epic's
"Camera geometry in RealityScan", section 5.1, brought from north-east-down to east-north-up); the focal length as of
film 36 mm wide; the principal point in shares of the picture's longer side from its middle; Brown's lens with t1 and t2
for p₂ and p₁. "OpenCV-compliant" parameters give [R | t], camera from world, and pixels. Sizes are the photos'.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from neural3d.geometry.cameras import Camera
from neural3d.images.reading import read_header
from neural3d.scene.capture import Capture, pose_from
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.brown import Brown, fitting_note
from neural3d.scene.readers.files import find_photos, guarded, make_frames, numbers, read_lines, recognised
from neural3d.scene.readers.points import adopt_cloud
from neural3d.scene.readers.reader import Reader

FILM = 36.0  # mm, the width of the film that f is given for
ANGLES = ("x", "y", "alt", "heading", "pitch", "roll", "f")
MATRIX = ("tx", "ty", "tz", *(f"R{i}{j}" for i in range(3) for j in range(3)), "f_pix", "px_pix", "py_pix")


def _columns(line: str) -> dict[str, int]:
    """Where each name stands in a line of names: its first word, whatever is explained after it."""
    names = [part.split()[0] if part.strip() else "" for part in line.lstrip("# ").split(",")]
    return {name: i for i, name in reversed(list(enumerate(names)))}


def _is_header(line: str) -> bool:
    columns = _columns(line)
    return "name" in columns and any(all(name in columns for name in needed) for needed in (ANGLES, MATRIX))


find_realitycapture = recognised(("*.csv",), lambda head: any(_is_header(line) for line in head.splitlines()[:5]))


def read_realitycapture(file: Path, options: SceneOptions) -> Capture:
    """The capture of a .csv file; z is up, as RealityCapture has it."""
    return guarded(file, lambda: _read(file, options))


def _read(file: Path, options: SceneOptions) -> Capture:
    lines = list(read_lines(file))
    start = next(i for i, line in enumerate(lines) if _is_header(line))
    columns = _columns(lines[start])
    rows = list(csv.reader(line for line in lines[start + 1 :] if not line.startswith("#")))
    capture = Capture("realitycapture", file, [], upright=True)
    names = [row[columns["name"]].strip() for row in rows]
    photos = find_photos(file, names, options.images)
    cameras, errors = [], []
    for name, row, photo in zip(names, rows, photos):
        where = f"{file}, photo '{name}'"
        a = {key: float(numbers(row[i], (), f"{key} of '{name}'")) for key, i in columns.items() if key in _READ}
        width, height, _ = read_header(photo)
        lens = _lens(a, width, height)
        if min(lens.fx, lens.fy) <= 0:
            raise ValueError(f"focal length of '{name}' is {lens.fx}")
        model, params, error = lens.colmap()
        cameras.append(Camera(model, width, height, params, pose_from(_pose(a), where)))
        errors.append(error)
    capture.notes += fitting_note(errors)
    capture.frames = make_frames(file, photos, cameras, bool(options.images))
    adopt_cloud(capture, file)
    return capture


def _pose(a: dict[str, float]) -> np.ndarray:
    """world_from_camera (3, 4), OpenCV's camera frame."""
    if "R00" in a:
        rotation = np.array([[a[f"R{i}{j}"] for j in range(3)] for i in range(3)])
        return np.column_stack([rotation.T, -rotation.T @ [a["tx"], a["ty"], a["tz"]]])
    heading, pitch, roll = (np.radians(a[name]) for name in ("heading", "pitch", "roll"))
    cz, sz, cx, sx, cy, sy = (f(t) for t in (heading, pitch, roll) for f in (np.cos, np.sin))
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.column_stack([about_z @ about_x @ about_y @ np.diag([1, -1, -1]), [a["x"], a["y"], a["alt"]]])


def _lens(a: dict[str, float], width: int, height: int) -> Brown:
    if "f_pix" in a:
        focal, cx, cy = a["f_pix"], a["px_pix"], a["py_pix"]
    else:
        longer = max(width, height)
        focal = a["f"] / FILM * longer
        cx, cy = width / 2 + longer * a.get("px", 0), height / 2 + longer * a.get("py", 0)
    radial = tuple(a.get(f"k{i}", 0.0) for i in range(1, 5))
    return Brown(width, height, focal, focal, cx, cy, radial, p1=a.get("t2", 0.0), p2=a.get("t1", 0.0))


_READ = {*ANGLES, *MATRIX, "px", "py", "k1", "k2", "k3", "k4", "t1", "t2"}


READER = Reader(
    "realitycapture", "RealityCapture, RealityScan",
    "NAME.csv of internal and external camera parameters; points from a .ply beside",
    find_realitycapture, read_realitycapture,
)  # fmt: skip
