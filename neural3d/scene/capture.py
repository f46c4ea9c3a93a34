"""What a reader hands over: photos and cameras in the capture's own frame, before anything is normalised or scaled."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.images.formats import PICTURES
from neural3d.scene.scene import View

MASK_FOLDERS = ("masks", "mask")
ROTATION_SLACK = 1e-3  # rotations further than this from orthonormal are mistakes, not rounding


@dataclass
class Frame:
    """One photo. camera: at the photo's stored size, in the capture's frame. split: the capture's own, if any.

    lens: the camera that took the photo, where `camera` is that of a part of it (see `scene.panorama`).
    """

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None = None
    split: str | None = None
    source: Path = Path()  # the file that describes the frame, for messages
    any_size: bool = False  # the photo may be a reduced copy of what the camera describes (images_4)
    alpha: bool = False  # the photo is a picture of something cut out
    mask_as_alpha: bool = False  # by its mask
    lens: Camera | None = None

    def view(self, camera: Camera | None = None, downscale: int = 1) -> View:
        """The frame as a view, with its camera or another, its size divided by a whole number."""
        camera, lens = camera or self.camera, self.lens
        if lens is not None:  # it moves as the camera does
            offset = torch.linalg.inv(self.camera.world_from_camera) @ lens.world_from_camera
            lens = _divided(replace(lens, world_from_camera=camera.world_from_camera @ offset), downscale)
        camera = _divided(camera, downscale)
        return View(self.name, camera, self.image_path, self.mask_path, self.alpha, self.mask_as_alpha, lens)


def _divided(camera: Camera, by: int) -> Camera:
    return camera.resized(*(max(1, round(n / by)) for n in (camera.width, camera.height)))


@dataclass
class Capture:
    """A capture as read.

    points: (N, 3) float64 and colours (N, 3) uint8. box: (2, 3), the region of interest if the format gives one.
    box_is_tight: it hugs the subject, so nothing else is worth finding. box_is_ball: what matters is the ball in it,
    so it need not grow when the frame is turned. upright: the axis `up_axis` is up in the capture's frame,
    by custom of the format. metric: GPS has measured that, and that a unit is a metre.
    unbounded: None = decide by whether photos have alpha. mask_as_alpha: masks, if any, are silhouettes.
    silhouettes: pictures are cut out, by alpha or mask (known after photos.check_photos).
    """

    reader: str
    path: Path
    frames: list[Frame]
    points: tuple[np.ndarray, np.ndarray] | None = None
    box: np.ndarray | None = None
    box_is_tight: bool = False
    box_is_ball: bool = False
    upright: bool = False
    up_axis: str = "z"
    metric: bool = False
    unbounded: bool | None = None
    background: str | None = None
    mask_as_alpha: bool = False
    silhouettes: bool = False
    notes: list[str] = field(default_factory=list)


def pose_from(matrix: Any, where: str) -> Tensor:
    """A rigid (4, 4) float64 pose from a (3|4, 4) matrix that is one up to rounding, polished to the nearest rotation.

    Raises UserError, starting with `where` (file and frame), for other shapes, NaN or Inf, mirrored or scaled ones.
    """
    try:
        given = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape not in ((3, 4), (4, 4)):
        raise UserError(f"{where}: the pose must be a 4×4 matrix of numbers; write the camera's matrix there.")
    if not np.isfinite(given).all():
        raise UserError(f"{where}: the pose holds NaN or infinity; remove the frame or repair its pose.")
    rotation = given[:3, :3]
    u, sizes, vt = np.linalg.svd(rotation)
    if (det := np.linalg.det(rotation)) <= 0:
        raise UserError(f"{where}: the pose is left-handed (determinant {det:.3g}); flip one axis in the exporter.")
    if abs(sizes - 1).max() > ROTATION_SLACK:
        kind = f"scaled by {sizes.mean():.4g}" if np.ptp(sizes) < ROTATION_SLACK * sizes.mean() else "sheared"
        raise UserError(
            f"{where}: the pose's rotation is {kind}; export poses whose first three columns have unit length."
        )
    if given.shape == (4, 4) and abs(given[3] - [0, 0, 0, 1]).max() > ROTATION_SLACK:
        raise UserError(f"{where}: the pose's last row must be 0 0 0 1; write the camera's matrix there.")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = torch.from_numpy(u @ vt), torch.from_numpy(given[:3, 3])
    return pose


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in UTF-8, -16 or -32; UserError where the file is missing, cut off or something else."""
    try:
        content = json.loads(path.read_bytes())  # in whichever of these, with a byte-order mark or without
    except FileNotFoundError:
        raise UserError(f"{path} is missing; check the path.") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is no complete JSON (line {error.lineno}: {error.msg}); export it again, it may have been cut off."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object with 'frames'; is it the right file?")
    return content


def head_of(path: Path, count: int = 1 << 16) -> bytes:
    """The first bytes of a file, −1 for all; none where it cannot be read: whoever looks whose it is raises nothing."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def find_picture(path: Path) -> Path | None:
    """The file itself, or with one of the usual extensions where the name has none; see `in_any_case`."""
    return _first_file([path, *(path.with_name(path.name + e) for e in PICTURES)])


def in_any_case(path: Path) -> Path | None:
    """What lies at the path, or where names, folders' too, differ from it in case only: lists come from other systems.

    None where nothing does; the first by name where several do.
    """
    if path.exists() or path.parent == path:
        return path
    folder = in_any_case(path.parent)
    if folder is None or not folder.is_dir():
        return None
    name = _names_in(folder, folder.stat().st_mtime_ns).get(path.name.lower())
    return None if name is None else folder / name


@functools.lru_cache(maxsize=64)
def _names_in(folder: Path, changed: int) -> dict[str, str]:
    """Names by their lower case; `changed`, the folder's time, tells a listing from a later one."""
    return {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}


def _first_file(candidates: list[Path]) -> Path | None:
    """The first that is a file as it is written, else the first that is one in another case."""
    exact = next((p for p in candidates if p.is_file()), None)
    return exact or next((f for p in candidates if (f := in_any_case(p)) and f.is_file()), None)


def find_mask(image: Path, images: Path, root: Path) -> Path | None:
    """The mask of a photo NAME.jpg below the folder `images`.

    In folders of `root` named masks or mask (for photos in images_4, in masks_4 or mask_4 first): NAME.jpg.png
    (COLMAP's way), NAME.png, NAME.mask.png, NAME.jpg. Else beside the photo: NAME.mask.png, NAME_mask.png,
    NAME.jpg.png.
    """
    inside = image.relative_to(images) if image.is_relative_to(images) else Path(image.name)
    suffix = images.name[6:] if images.name.startswith("images") else ""
    folders = dict.fromkeys(f"{name}{end}" for end in (suffix, "") for name in MASK_FOLDERS)
    stem = inside.stem
    candidates = [
        root / folder / inside.parent / name
        for folder in folders
        for name in (inside.name + ".png", f"{stem}.png", f"{stem}.mask.png", inside.name)
    ]
    candidates += [image.with_name(name) for name in (f"{stem}.mask.png", f"{stem}_mask.png", image.name + ".png")]
    return _first_file(candidates)
