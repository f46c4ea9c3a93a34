"""Reader of the Middlebury multi-view sets: NAME_par.txt with one line per photo, a bounding box in README.txt.

A line is `name k11 … k33 r11 … r33 t1 t2 t3`, matrices row by row, and the projection is K [R | t] (Seitz et al. 2006).
The photos show a model before black cloth, so the scene is bounded by its box, and behind it is black.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.images.reading import read_header
from neural3d.scene.capture import Capture, Frame, find_mask, find_picture, pose_from
from neural3d.scene.readers.reader import Reader, named

NUMBER = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
TRIPLE = rf"\(?\s*({NUMBER})[\s,]+({NUMBER})[\s,]+({NUMBER})\s*\)?"


def read_middlebury(path: Path) -> Capture:
    """The capture of a _par.txt file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None
    rows = [line.split() for line in lines if line.strip()]
    counted = len(rows[0]) == 1 and rows[0][0].isdigit() if rows else False
    if counted and int(rows[0][0]) != len(rows) - 1:
        raise UserError(f"{path} announces {rows[0][0]} photos and lists {len(rows) - 1}; it may have been cut off.")
    frames = [_frame(path, row) for row in rows[counted:]]
    if not frames:
        raise UserError(f"{path} lists no photos; is it the right file?")
    capture = Capture("middlebury", path.parent, frames, unbounded=False, background="black")
    if (box := read_box(path.parent / "README.txt")) is not None:
        middle, half = box.mean(0), np.ptp(box, 0) / 2
        capture.box, capture.box_is_tight = np.stack([middle - 1.1 * half, middle + 1.1 * half]), True  # 10 % air
    else:
        capture.notes.append("README.txt gives no bounding box; the subject's place is estimated from the cameras.")
    return capture


def _frame(path: Path, row: list[str]) -> Frame:
    where = f"{path}, line of '{row[0]}'"
    try:
        numbers = np.array([float(word) for word in row[1:]])
    except ValueError as error:
        raise UserError(f"{where}: {error}; write 21 numbers after the name.") from None
    if len(numbers) != 21:
        raise UserError(f"{where} has {len(numbers)} numbers instead of 21; it may have been cut off.")
    k, rotation, t = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3), numbers[18:]
    if not np.isfinite(k).all() or min(k[0, 0], k[1, 1]) <= 0:
        raise UserError(f"{where}: the calibration matrix must have positive focal lengths; repair the line.")
    pose = pose_from(np.column_stack([rotation.T, -rotation.T @ t]), where)
    image = find_picture(path.parent / row[0])
    if image is None:
        raise UserError(f"{where}: photo {path.parent / row[0]} is missing; put it back or remove the line.")
    width, height, _ = read_header(image)
    params = torch.tensor([k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5], dtype=torch.float64)  # centres at integers
    camera = Camera("PINHOLE", width, height, params, pose)
    return Frame(row[0], camera, image, find_mask(image, path.parent, path.parent), source=path)


def read_box(path: Path) -> np.ndarray | None:
    """The two corners after the words "bounding box" in a data set's README.txt."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.search(rf"bounding box[^\n]*\n\s*{TRIPLE}\s*\n\s*{TRIPLE}", text, re.IGNORECASE)
    if match is None:
        return None
    try:
        corners = np.array([float(number) for number in match.groups()]).reshape(2, 3)
    except ValueError:  # damaged: the box is guessed
        return None
    return np.sort(corners, axis=0) if np.isfinite(corners).all() else None


READER = Reader(
    "middlebury", "Middlebury", "NAME_par.txt", named("*_par.txt"), lambda file, options: read_middlebury(file)
)
