"""What a reader hands over: photos and cameras in the capture's own frame, before anything is normalised or scaled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.formats import PICTURES
from neural3d.scene.scene import View

MASK_FOLDERS = ("masks", "mask")
ROTATION_SLACK = 1e-3  # rotations further than this from orthonormal are mistakes, not rounding


@dataclass
class Frame:
    """One photo. camera: at the photo's stored size, in the capture's frame. split: the capture's own, if any."""

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None = None
    split: str | None = None
    source: Path = Path()  # the file that describes the frame, for messages
    any_size: bool = False  # the photo may be a reduced copy of what the camera describes (images_4)
    alpha: bool = False  # the photo is a picture of something cut out
    mask_as_alpha: bool = False  # by its mask

    def view(self, camera: Camera | None = None, downscale: int = 1) -> View:
        """The frame as a view, with its camera or another, its size divided by a whole number."""
        camera = camera or self.camera
        width, height = (max(1, round(n / downscale)) for n in (camera.width, camera.height))
        camera = camera.resized(width, height)
        return View(self.name, camera, self.image_path, self.mask_path, self.alpha, self.mask_as_alpha)


@dataclass
class Capture:
    """A capture as read.

    points: (N, 3) float64 and colours (N, 3) uint8. box: (2, 3), the region of interest if the format gives one.
    box_is_tight: it hugs the subject, so nothing else is worth finding. box_is_ball: what matters is the ball in it,
    so it need not grow when the frame is turned. upright: +z is up in the capture's frame,
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
    """A JSON object; UserError where the file is missing, cut off or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is no complete JSON (line {error.lineno}: {error.msg}); export it again, it may have been cut off."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object with 'frames'; is it the right file?")
    return content


def find_picture(path: Path) -> Path | None:
    """The file itself, or with one of the usual extensions where the name has none."""
    if path.is_file():
        return path
    return next((p for p in (path.with_name(path.name + e) for e in PICTURES) if p.is_file()), None)


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
    return next((candidate for candidate in candidates if candidate.is_file()), None)
