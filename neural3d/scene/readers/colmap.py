"""Reader of COLMAP models, text and binary: cameras, registered photos and sparse points.

A model is a folder with cameras, images and points3D as .bin or .txt (rigs and frames, written beside them since 3.12,
repeat what images says). Poses are stored camera from world, quaternions wxyz, camera frame OpenCV.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import LENSES
from neural3d.scene.capture import Capture, Frame, find_mask, find_picture, pose_from, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.reader import Reader

MODEL_IDS = [
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
    "RAD_TAN_THIN_PRISM_FISHEYE",
    "SIMPLE_DIVISION",
    "DIVISION",
    "SIMPLE_FISHEYE",
    "FISHEYE",
    "EUCM",
    "EQUIRECTANGULAR",
]  # by COLMAP's numbers
MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "colmap", ".")


@dataclass
class Photo:
    """A registered photo; where points were found in it: pixels xy (M, 2) and the points' ids, −1 for none."""

    name: str
    camera_id: int
    world_from_camera: Tensor
    xy: np.ndarray
    point_ids: np.ndarray


@dataclass
class Model:
    """What the files say; cameras by id as (model, width, height, params)."""

    folder: Path
    cameras: dict[int, tuple[str, int, int, list[float]]]
    photos: list[Photo]


def find_model(root: Path) -> Path | None:
    """The folder of a COLMAP model below a capture's root; of several in sparse/ the one with most photos' data."""
    numbered = [p for p in root.glob("sparse/[0-9]*") if is_model(p)]
    if numbered:
        return max(numbered, key=lambda p: (_file(p, "images").stat().st_size, -int(p.name) if p.name.isdigit() else 0))
    return next((root / name for name in MODEL_FOLDERS if is_model(root / name)), None)


def is_model(folder: Path) -> bool:
    return any((folder / f"cameras{e}").is_file() and (folder / f"images{e}").is_file() for e in (".bin", ".txt"))


def _file(folder: Path, name: str) -> Path:
    binary = folder / f"{name}.bin"
    return binary if binary.is_file() else folder / f"{name}.txt"


def read_colmap(root: Path, options: SceneOptions) -> Capture:
    """The capture in a folder that holds a model and photos, or is the model with photos up to two folders above."""
    folder = find_model(root)
    assert folder is not None
    model = read_model(folder)
    images = _images_folder(root, folder, options)
    frames = []
    source = _file(folder, "cameras")
    for photo in model.photos:
        if photo.camera_id not in model.cameras:
            raise UserError(f"{source} lacks camera {photo.camera_id} of photo '{photo.name}'; export the model again.")
        lens, width, height, params = model.cameras[photo.camera_id]
        camera = Camera(lens, width, height, torch.tensor(params, dtype=torch.float64), photo.world_from_camera)
        image = find_picture(images / photo.name) or images / photo.name
        mask = find_mask(image, images, images.parent)
        frames.append(Frame(photo.name, camera, image, mask, source=source, any_size=True))
    if not frames:
        raise UserError(f"{_file(folder, 'images')} lists no photo; run the reconstruction again.")
    capture = Capture("colmap", root, frames, read_points(folder), metric=_is_metric(root))
    if folder.name != "0" and folder.parent.name == "sparse":
        capture.notes.append(f"Of the models in sparse/, {folder.name} has most photos and was read.")
    return capture


def _is_metric(root: Path) -> bool:
    """Whether `neural3d process` could make z up and units metres, from the photos' GPS."""
    report = root / "process.json"
    return report.is_file() and bool(read_json(report).get("metric"))


def _images_folder(root: Path, model: Path, options: SceneOptions) -> Path:
    tops = dict.fromkeys((root, *([model.parent, model.parent.parent] if model == root else [])))
    names = [options.images] if options.images else ["images", "input", "image"]
    for top in tops:
        for name in names:
            if (top / name).is_dir():
                return top / name
        reduced = sorted(top.glob("images_*"), key=lambda p: (len(p.name), p.name))
        if reduced and not options.images:
            return reduced[0]
    looked = ", ".join(f"{name}/" for name in names)
    raise UserError(f"{root} holds a COLMAP model but no photos; looked for {looked} and images_N/ beside it.")


def read_model(folder: Path) -> Model:
    """Cameras and photos; UserError where a file is cut off, garbled, or names an unknown camera model."""
    cameras, images = _file(folder, "cameras"), _file(folder, "images")
    read = (_cameras_binary, _photos_binary) if cameras.suffix == ".bin" else (_cameras_text, _photos_text)
    return Model(folder, _guarded(read[0], cameras), _guarded(read[1], images))


def read_points(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Finite sparse points and colours; None where the model has none."""
    path = _file(folder, "points3D")
    if not path.is_file():
        return None
    _, points, colours = _guarded(_points_binary if path.suffix == ".bin" else _points_text, path)
    finite = np.isfinite(points).all(1)
    return (points[finite], colours[finite]) if finite.any() else None


def read_observations(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per photo the pixels (M, 2) where points were found, their ids (M,) and places (M, 3) in the model's frame."""
    path = _file(folder, "points3D")
    ids, points, _ = _guarded(_points_binary if path.suffix == ".bin" else _points_text, path)
    order = np.argsort(ids)
    ids, points = ids[order], points[order]
    found = {}
    for photo in read_model(folder).photos:
        known = np.isin(photo.point_ids, ids)
        seen = photo.point_ids[known]
        found[photo.name] = photo.xy[known], seen, points[np.searchsorted(ids, seen)]
    return found


def _guarded(read, path: Path):
    """read(path), with what goes wrong in a damaged file said in the user's words."""
    try:
        return read(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; a COLMAP model needs cameras and images.") from None
    except (struct.error, ValueError, IndexError, OverflowError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is cut off or garbled ({error}); export the model again.") from None


def _lens(path: Path, name: str, width: int, height: int, params: list[float]) -> tuple[str, int, int, list[float]]:
    if name not in LENSES:
        raise UserError(f"{path}: unknown camera model '{name}'; known are {', '.join(LENSES)}.")
    if len(params) != len(LENSES[name].names):
        raise ValueError(f"{name} has {len(LENSES[name].names)} parameters, not {len(params)}")
    if not np.isfinite(params).all() or width < 1 or height < 1:
        raise UserError(f"{path}: a {name} camera of {width}×{height} has parameters {params}; they must be finite.")
    return name, width, height, params


def _pose(path: Path, name: str, quaternion: tuple[float, ...], translation: tuple[float, ...]) -> Tensor:
    """world_from_camera of a quaternion wxyz (of any length but zero) and translation, camera from world."""
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite([norm, *translation]).all() or norm == 0:
        raise UserError(f"{path}: the pose of photo '{name}' holds NaN, infinity or a zero rotation; remove the photo.")
    w, x, y, z = np.asarray(quaternion) / norm
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    return pose_from(np.column_stack([rotation.T, -rotation.T @ np.asarray(translation)]), f"{path}, photo '{name}'")


# --- binary ----------------------------------------------------------------------------------------------------------


class _Bytes:
    """A cursor over a little-endian file; struct.error past its end."""

    def __init__(self, path: Path):
        self.data, self.at = path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise struct.error(f"ends {self.at - len(self.data)} bytes early")

    def table(self, rows: int, columns: list[tuple]) -> np.ndarray:
        layout, start = np.dtype(columns), self.at
        self.skip(rows * layout.itemsize)
        return np.frombuffer(self.data, layout, rows, start)

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value


def _cameras_binary(path: Path) -> dict[int, tuple[str, int, int, list[float]]]:
    file, cameras = _Bytes(path), {}
    for _ in range(file.take("Q")[0]):
        camera_id, model_id, width, height = file.take("iiQQ")
        if not 0 <= model_id < len(MODEL_IDS):
            raise UserError(f"{path}: unknown camera model number {model_id}; known are 0–{len(MODEL_IDS) - 1}.")
        params = list(file.take(f"{len(LENSES[MODEL_IDS[model_id]].names)}d"))
        cameras[camera_id] = _lens(path, MODEL_IDS[model_id], width, height, params)
    return cameras


def _photos_binary(path: Path) -> list[Photo]:
    file, photos = _Bytes(path), []
    for _ in range(file.take("Q")[0]):
        _, *numbers, camera_id = file.take("i7di")
        name = file.text()
        observed = file.table(file.take("Q")[0], [("xy", "<f8", 2), ("id", "<i8")])
        pose = _pose(path, name, tuple(numbers[:4]), tuple(numbers[4:]))
        photos.append(Photo(name, camera_id, pose, observed["xy"], observed["id"]))
    return photos


def _points_binary(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    file = _Bytes(path)
    count = file.take("Q")[0]
    if count * 43 > len(file.data):  # a point without track takes 43 bytes: the count itself is garbled
        raise struct.error(f"{count} points in {len(file.data)} bytes")
    layout, rows = struct.Struct("<Q3d3BdQ"), []  # id, place, colour, error, length of the track
    for _ in range(count):
        rows.append(layout.unpack_from(file.data, file.at))
        file.skip(layout.size + 8 * rows[-1][-1])  # track: image id, observation
    ids = np.array([row[0] for row in rows], np.int64)
    points = np.array([row[1:4] for row in rows], np.float64).reshape(-1, 3)
    colours = np.array([row[4:7] for row in rows], np.uint8).reshape(-1, 3)
    return ids, points, colours


# --- text ------------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[list[str]]:
    """Words of each line that is no comment; an empty list for an empty line, which images.txt uses."""
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line.startswith("#"):
            yield line.split()


def _cameras_text(path: Path) -> dict[int, tuple[str, int, int, list[float]]]:
    cameras = {}
    for words in filter(None, _lines(path)):
        params = [float(word) for word in words[4:]]
        cameras[int(words[0])] = _lens(path, words[1], int(words[2]), int(words[3]), params)
    return cameras


def _photos_text(path: Path) -> list[Photo]:
    photos = []
    lines = _lines(path)
    for words in lines:
        if not words:
            continue
        numbers, name = tuple(float(word) for word in words[1:8]), " ".join(words[9:])
        pose = _pose(path, name, numbers[:4], numbers[4:])
        observed = np.array(next(lines, []), dtype=np.float64).reshape(-1, 3)
        photos.append(Photo(name, int(words[8]), pose, observed[:, :2], observed[:, 2].astype(np.int64)))
    return photos


def _points_text(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array([words[:7] for words in filter(None, _lines(path))], dtype=np.float64).reshape(-1, 7)
    return table[:, 0].astype(np.int64), table[:, 1:4], table[:, 4:].astype(np.uint8)


READER = Reader(
    "colmap", "COLMAP, text or binary, every camera model",
    "cameras and images (.bin or .txt) in sparse/0, sparse, colmap/sparse/0, colmap or the folder itself",
    lambda path: path if find_model(path) else None, read_colmap,
)  # fmt: skip
