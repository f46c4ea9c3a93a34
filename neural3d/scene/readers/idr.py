"""Reader of cameras.npz as IDR, VolSDF, NeuS and DVR write them, and of MonoSDF's cropped DTU scans.

    world_mat_i    IDR (Yariv et al. 2020): K [R | t], to pixels whose centres are whole numbers.
                   DVR (Niemeyer et al. 2020): [R | t] alone, or K [R | t] with K to image coordinates in [-1, 1].
    camera_mat_i   DVR: K to [-1, 1], applied after world_mat. IDR's files carry it along without meaning.
    scale_mat_i    maps the unit sphere around the subject to the world.

Which of these world_mat is shows in the K it decomposes to: a principal point of hundreds of pixels, of nearly 0 with
focal lengths of a few units, or exactly the identity. `[scene] world_mat` overrides the guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.images.formats import PICTURES
from neural3d.images.reading import read_header
from neural3d.scene.capture import Capture, Frame, find_mask, pose_from
from neural3d.scene.options import SceneOptions, whole
from neural3d.scene.readers.reader import Reader, named

FILES = ("cameras_sphere.npz", "cameras.npz")  # NeuS's normalised file first
IMAGE_FOLDERS = ("image", "images", "rgb", ".")
DTU_FOCAL, DTU_SIZE = 2892.3, (1600, 1200)  # the one camera of the DTU data set, often shipped with smaller photos


WORLD_MATS = ("pixels", "normalised", "extrinsics")


@dataclass(frozen=True)
class IdrOptions:
    """What these captures may need to be told; None leaves it to the guess.

    calibration_size: [width, height] of the pictures that cameras were calibrated for.
    world_mat: what it maps to: "pixels" | "normalised" ([-1, 1]) | "extrinsics" (camera frame).
    """

    calibration_size: Any = None
    world_mat: str | None = None

    def check(self, where: str) -> None:
        size = self.calibration_size
        if size is not None and not (isinstance(size, (list, tuple)) and len(size) == 2 and all(map(whole, size))):
            raise UserError(f"{where}: calibration_size = {size!r} must be [width, height] in pixels.")
        if self.world_mat not in (None, *WORLD_MATS):
            raise UserError(f"{where}: world_mat = {self.world_mat!r} must be one of {', '.join(WORLD_MATS)}.")


def read_idr(path: Path, options: SceneOptions) -> Capture:
    """The capture of a cameras.npz file and the photos beside it, paired in the order of numbers and of names."""
    matrices, told = _load(path), options.of(IdrOptions)
    numbers = sorted((int(m[1]), m[1]) for key in matrices if (m := re.fullmatch(r"world_mat_(\d+)", key)))
    if not numbers:
        raise UserError(f"{path} holds no world_mat_0, world_mat_1, …; is it a camera file of IDR, NeuS or DVR?")
    images, photos = _photos(path.parent, options)
    if len(photos) != len(numbers):
        raise UserError(f"{path} describes {len(numbers)} cameras but {images} holds {len(photos)} photos; match them.")
    capture = Capture("idr", path.parent, [], mask_as_alpha=True)
    for (number, digits), photo in zip(numbers, photos):
        where = f"{path}, world_mat_{digits}"
        size = read_header(photo)[:2]
        k, pose = _decompose(matrices[f"world_mat_{digits}"], where)
        camera_mat = matrices.get(f"camera_mat_{digits}")
        k = _to_pixels(k, camera_mat, size, told.world_mat, where)
        k = _to_photo(k, size, told.calibration_size, where, capture.notes)
        params = torch.tensor([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], dtype=torch.float64)
        camera = Camera("PINHOLE", *size, params, pose_from(pose, where))
        mask = find_mask(photo, images, path.parent) or _numbered_mask(path.parent, number)
        capture.frames.append(Frame(photo.name, camera, photo, mask, source=path))
    capture.box_is_ball = True
    capture.box = _box(matrices, numbers[0][1], path)
    return capture


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {key: np.asarray(file[key], dtype=np.float64) for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own complaints
        raise UserError(f"{path} is cut off or no .npz file ({error}); copy it again from its source.") from None


def _photos(root: Path, options: SceneOptions) -> tuple[Path, list[Path]]:
    """The folder of photos and the photos sorted by name; *_rgb.* where normals and depths lie among them."""
    for name in [options.images] if options.images else IMAGE_FOLDERS:
        found = sorted(p for p in (root / name).glob("*") if p.suffix.lower() in PICTURES)
        found = [p for p in found if p.stem.endswith("_rgb")] or found
        if found:
            return root / name, found
    raise UserError(f"{root} has cameras but no photos; looked in {', '.join(n + '/' for n in IMAGE_FOLDERS[:3])}.")


def _numbered_mask(root: Path, number: int) -> Path | None:
    """mask/000.png, whatever the number of digits and the photo's name."""
    for folder in (root / "mask", root / "masks"):
        for path in folder.glob("*.png"):
            if path.stem.isdigit() and int(path.stem) == number:
                return path
    return None


def _decompose(world_mat: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """P ∝ K [R | t] → K upper triangular with positive diagonal and K₃₃ = 1, and world_from_camera [Rᵀ | −Rᵀt].

    By a QR decomposition of the inverse: (K R)⁻¹ = Rᵀ K⁻¹.
    """
    p = world_mat[:3]
    if world_mat.shape not in ((3, 4), (4, 4)) or not np.isfinite(p).all():
        raise UserError(f"{where} must be a 4×4 matrix of finite numbers; remove the view or repair it.")
    if abs(np.linalg.det(p[:, :3])) <= 1e-12 * np.abs(p[:, :3]).max() ** 3:
        raise UserError(f"{where} is no camera: its left 3×3 part is singular; remove the view or repair it.")
    p = p * np.sign(np.linalg.det(p[:, :3]))  # a projection's sign is free; rotations have determinant +1
    q, r = np.linalg.qr(np.linalg.inv(p[:, :3]))
    signs = np.sign(np.diag(r))
    rotation, k = (q * signs).T, np.linalg.inv(signs[:, None] * r)
    t = np.linalg.solve(k, p[:, 3])
    return k / k[2, 2], np.column_stack([rotation.T, -rotation.T @ t])


def _to_pixels(
    k: np.ndarray, camera_mat: np.ndarray | None, size: tuple[int, int], world_mat: str | None, where: str
) -> np.ndarray:
    """K to pixels with centres at +0.5, from whichever convention world_mat follows."""
    kind = world_mat or _convention(k, size, where)
    if kind == "extrinsics":
        if camera_mat is None:
            raise UserError(f"{where} is a pose without intrinsics and there is no camera_mat; add it to the file.")
        k = camera_mat[:3, :3] / camera_mat[2, 2]
        kind = "pixels" if k[0, 2] > 2 else "normalised"
    if kind == "pixels":
        return k + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    width, height = size  # −1 and 1 are the centres of the first and the last pixel
    to_pixels = np.array([[(width - 1) / 2, 0, width / 2], [0, (height - 1) / 2, height / 2], [0, 0, 1]])
    return to_pixels @ k


def _convention(k: np.ndarray, size: tuple[int, int], where: str) -> str:
    if np.abs(k - np.eye(3)).max() < 1e-3:
        return "extrinsics"
    centre = np.abs(k[:2, 2])
    if (centre < 1).all() and k[0, 0] < 20:
        return "normalised"
    if (centre > 0.05 * np.array(size)).all():
        return "pixels"
    raise UserError(
        f"{where} has focal length {k[0, 0]:.3g} and principal point ({k[0, 2]:.3g}, {k[1, 2]:.3g}), which fits "
        'neither pixels nor [-1, 1]; set world_mat = "pixels", "normalised" or "extrinsics" in [scene].'
    )


def _to_photo(
    k: np.ndarray, size: tuple[int, int], calibrated: Sequence[int] | None, where: str, notes: list[str]
) -> np.ndarray:
    """K for the photo, which may be a smaller or centrally cropped copy of what the camera was calibrated for.

    MonoSDF cuts DTU's 1600×1200 to the central 1200×1200 and shrinks that to 384×384; in general: the largest central
    part of the calibrated picture that has the photo's shape, resized.
    """
    if calibrated is None:
        if k[0, 2] < size[0] and k[1, 2] < size[1] and size != DTU_SIZE:
            return k
        if abs(k[0, 0] / DTU_FOCAL - 1) > 0.01:
            raise UserError(
                f"{where} has its principal point at ({k[0, 2]:.0f}, {k[1, 2]:.0f}), outside the {size[0]}×{size[1]} "
                "photo; set calibration_size = [width, height] of the pictures it was calibrated for in [scene]."
            )
        calibrated = DTU_SIZE
    if tuple(calibrated) == size:
        return k
    scale = max(size[0] / calibrated[0], size[1] / calibrated[1])
    cut = [(calibrated[i] - size[i] / scale) / 2 for i in (0, 1)]
    note = f"Cameras are of {calibrated[0]}×{calibrated[1]} pictures; photos are taken to be the central part, resized."
    if note not in notes:
        notes.append(note)
    to_photo = np.array([[scale, 0, -cut[0] * scale], [0, scale, -cut[1] * scale], [0, 0, 1]])
    return to_photo @ k


def _box(matrices: dict[str, np.ndarray], digits: str, path: Path) -> np.ndarray | None:
    """The cube around the unit sphere that scale_mat maps to the world."""
    scale_mat = matrices.get(f"scale_mat_{digits}")
    if scale_mat is None:
        return None
    if scale_mat.shape != (4, 4) or not np.isfinite(scale_mat).all() or not scale_mat[0, 0] > 0:
        raise UserError(f"{path}: scale_mat_{digits} must be a 4×4 matrix of scale and offset; repair it.")
    centre, radius = scale_mat[:3, 3], np.cbrt(abs(np.linalg.det(scale_mat[:3, :3])))
    return np.stack([centre - radius, centre + radius])


READER = Reader(
    "idr", "IDR, NeuS, DVR, MonoSDF", ", ".join(FILES), named(*FILES), read_idr, options=IdrOptions, unnamed=".npz"
)
