"""Geometry that lies far from its file's origin (UTM, ECEF), and how each file keeps what float32 cannot hold.

float32 has 24 bits: at a northing of 5,411,932 m that is half a metre. What lies further from the origin than FAR times
its size is written in double, or about an offset o: a round number in its middle, in the file's own axes.

| file                 | written, where it is far                                  | read                          |
| -------------------- | --------------------------------------------------------- | ----------------------------- |
| .ply (mesh), .obj    | the coordinates themselves, double or with 15 digits      | as they are                   |
| .glb, also of splats | about o, which is the root node's translation             | with it, by all readers       |
| .usdz                | the same                                                  | with it                       |
| .stl, .splat, .spz,  | about o, which stands in FILE.offset beside: x y z        | o added where there is such a |
| .sog                 |                                                           | file, also of others' making  |
| .ply (splats)        | about o, which a comment of the header says: offset x y z | o added                       |

Nearer geometry is written as it always was. In memory meshes far away are float64; splats, which are float32, come with
their offset (`files.splats.SplatFile`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from neural3d.disk import replacing
from neural3d.errors import UserError

FAR = 100.0  # sizes from the origin, from which on float32 rounds to more than 6e-6 of the size
MANY = 100_000  # points that tell where all are


def offset_of(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3"]:
    """o for points given in double; 0 where float32 serves. Strays, as splats have, do not count."""
    if not len(points):
        return np.zeros(3)
    some = np.asarray(points, np.float64)[:: -(-len(points) // MANY)]
    low, middle, high = np.quantile(some, [0.02, 0.5, 0.98], axis=0)
    size = float((high - low).max()) or 1.0  # all at one place: any size will do
    if not np.abs(middle).max() > FAR * size:
        return np.zeros(3)
    step = 10.0 ** math.floor(math.log10(size))
    return np.round(middle / step) * step


def moved_by(offset: Sequence[float] | np.ndarray) -> Float[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def as_text(offset: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{v:.15g}" for v in offset)


def from_text(text: str) -> Float[np.ndarray, "3"] | None:
    """None where the text is no three finite numbers."""
    try:
        offset = np.array([float(word) for word in text.split()])
    except ValueError:
        return None
    return offset if offset.shape == (3,) and np.isfinite(offset).all() else None


def offset_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.offset")


def read_offset(path: Path) -> Float[np.ndarray, "3"]:
    """What stands beside a file; 0 where nothing does. Raises UserError where that is no offset."""
    beside = offset_file(path)
    if not beside.is_file():
        return np.zeros(3)
    offset = from_text(beside.read_text(errors="replace"))
    if offset is None:
        raise UserError(
            f"{beside} must hold three numbers, x y z, that are added to {path.name}; correct or remove it."
        )
    return offset


def write_offset(path: Path, offset: Float[np.ndarray, "3"]) -> None:
    """Beside a file; an old one goes where the new is 0."""
    if offset.any():
        with replacing(offset_file(path)) as part:
            part.write_text(as_text(offset) + "\n")
    else:
        offset_file(path).unlink(missing_ok=True)
