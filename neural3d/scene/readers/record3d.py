"""Record3D: a shared .r3d file (a zip), such a file unzipped, or its export "EXR + RGB", all with one JSON of metadata.

    metadata, rgbd/0.jpg, rgbd/1.jpg, …   or   metadata.json, rgb/0.jpg, …   (depth lies beside, compressed or as EXR)

`poses` are qx, qy, qz, qw, tx, ty, tz, to the world from the camera, in OpenGL's camera frame of the picture as stored;
`K` is column by column, in pixels of a picture of `w` × `h`, and `perFrameIntrinsicCoeffs` fx, fy, cx, cy of each
(https://github.com/marek-simonik/record3d, issues 27, 33, 36, 64). Older versions begin at the identity, whichever way
the phone was held: what is up, the cameras say.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.bounds import every_nth
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.scene.capture import Capture, Frame, find_picture, head_of, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.arkit import MOST, arkit_camera
from neural3d.scene.readers.reader import Reader

LAYOUTS = (("metadata", "rgbd"), ("metadata.json", "rgb"), ("metadata.json", "rgbd"))
INSIDE = re.compile(r"metadata|rgbd/\d+\.jpg")


def find_record3d(path: Path) -> Path | None:
    if path.suffix.lower() == ".r3d":
        return path if path.is_file() and zipfile.is_zipfile(path) else None  # RED's camera raw ends so, too
    return path if _layout(path) else None


def _layout(folder: Path) -> tuple[Path, Path] | None:
    """The file of metadata, where it is Record3D's, and the folder of photos."""
    for metadata, photos in ((folder / m, folder / p) for m, p in LAYOUTS):
        if photos.is_dir() and b'"poses"' in (content := head_of(metadata, -1)) and b'"K"' in content:
            return metadata, photos
    return None


def read_record3d(path: Path, options: SceneOptions) -> Capture:
    folder = _unpacked(path) if path.is_file() else path
    layout = _layout(folder)
    if layout is None:
        raise UserError(f"{path} holds no metadata with 'poses' and 'K', or no photos; share it from Record3D again.")
    metadata, photos = layout
    content = read_json(metadata)
    poses, pinholes = _tables(metadata, content)
    size = tuple(round(_array(metadata, content, key, 1)[0, 0]) for key in ("w", "h"))
    known = [(i, photo) for i in range(len(poses)) if (photo := find_picture(photos / str(i)))]
    if not known:
        raise UserError(f"{photos} holds none of the {len(poses)} photos (0.jpg, 1.jpg, …); share the film again.")
    frames = []
    for i, photo in every_nth(known, MOST):
        pose = np.eye(4)
        x, y, z, w = poses[i, :4]
        pose[:3, :3], pose[:3, 3] = rotation_from_quaternion(torch.tensor([w, x, y, z])), poses[i, 4:]
        camera = arkit_camera(pinholes[i], (size[0], size[1]), pose, f"{metadata}, pose {i}")
        frames.append(Frame(f"{i:05d}{photo.suffix}", camera, photo, source=metadata))
    capture = Capture("record3d", path, frames)
    if len(frames) < len(known):
        capture.notes.append(f"Of {len(known)} frames of the film, {len(frames)} are taken, evenly spaced.")
    if path.is_file():
        capture.notes.append(f"The photos in {path.name} were unpacked into {folder.name} beside it.")
    return capture


def _tables(file: Path, content: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Poses (N, 7), and fx, fy, cx, cy of each (N, 4)."""
    poses = _array(file, content, "poses", 7)
    if (np.linalg.norm(poses[:, :4], axis=1) < 1e-6).any():
        raise UserError(f"{file}: 'poses' holds a rotation of nothing; share the film again.")
    if "perFrameIntrinsicCoeffs" in content:
        pinholes = _array(file, content, "perFrameIntrinsicCoeffs", 4)
    else:
        pinholes = np.repeat(_array(file, content, "K", 9)[:1, [0, 4, 6, 7]], len(poses), axis=0)
    if len(pinholes) != len(poses) or pinholes[:, :2].min() <= 0:
        raise UserError(f"{file}: {len(poses)} poses need as many positive focal lengths; share the film again.")
    return poses, pinholes


def _array(file: Path, content: dict[str, Any], key: str, columns: int) -> np.ndarray:
    try:
        values = np.asarray(content.get(key), np.float64).reshape(-1, columns)
    except (TypeError, ValueError):
        values = np.zeros((0, columns))
    if not len(values) or not np.isfinite(values).all():
        raise UserError(f"{file}: '{key}' must be rows of {columns} finite numbers; share the film again.")
    return values


def _unpacked(file: Path) -> Path:
    """The folder NAME-r3d beside the file, with its metadata and photos, made at the first time."""
    folder = file.with_name(f"{file.stem}-r3d")
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        with zipfile.ZipFile(file) as archive:
            if folder.exists():
                if "metadata" in archive.namelist() and head_of(folder / "metadata", -1) == archive.read("metadata"):
                    return folder
                raise UserError(f"{folder} exists and is not of {file.name}; move one of them, or give the folder.")
            archive.extractall(partial, [name for name in archive.namelist() if INSIDE.fullmatch(name)])
        partial.rename(folder)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{file} cannot be unpacked beside it ({error}); unzip it elsewhere, and give that.") from None
    return folder


READER = Reader(
    "record3d", "Record3D", "NAME.r3d; metadata with rgbd; metadata.json with rgb", find_record3d, read_record3d
)
