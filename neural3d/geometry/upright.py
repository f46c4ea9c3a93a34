"""Which way is up in files: how those that we write stand, and what is taken for up in those that we read.

| file                    | written                                                        | read: up is           |
| ----------------------- | -------------------------------------------------------------- | --------------------- |
| .glb, .usdz, .obj       | turned so that +Y is up, as glTF and USDZ ask and readers of   | +y                    |
|                         | OBJ expect                                                     |                       |
| .spz, splats as .gs.glb | the same; the axes of .spz are x right, y up, z backward       | +y                    |
| .ply, .stl              | in the capture's own frame: these say nothing of up, and join  | +z                    |
|                         | what else there is of the capture                              |                       |
| splats: .ply, .splat,   | in the capture's own frame; .ply and .sog say what is up       | what it says, else −y |
| .compressed.ply, .sog   |                                                                |                       |

Rotations are about the origin and go into the vertices; units stay the capture's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.bounds import rotation_to_z

Y_UP = (".glb", ".gltf", ".obj", ".off", ".usdz", ".spz")
AXES = ("y", "z", "capture")
Y_FROM_Z = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)  # z-up to y-up, as is usual
RDF_FROM_RUB = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))  # .ply's axes from those of .spz


def axis_of(path: Path, up: str | None) -> str:
    """ "y", "z" or "capture": how a file of this name is to stand. up: what the user says, None: what is usual."""
    if up is not None and up not in AXES:
        raise UserError(f"Unknown up axis {up!r}; choose one of {', '.join(AXES)}.")
    return up or ("y" if path.suffix.lower() in Y_UP else "capture")


def file_from_own(path: Path, up: str | None, native_up: Sequence[float] | Tensor) -> Float[Tensor, "4 4"]:
    """The rotation that stands what is to be written upright: `native_up`, its own direction up, becomes +Y or +Z.

    The smallest such rotation from z up, followed by the usual one to y up. Of splats the result has the axes of .ply,
    of which the writer of .spz turns y and z around. Raises UserError for an unknown `up`.
    """
    axis = axis_of(path, up)
    rotation = torch.eye(4, dtype=torch.float64)
    if axis == "capture":
        return rotation
    direction = torch.nn.functional.normalize(torch.as_tensor(native_up, dtype=torch.float64), dim=0)
    rotation[:3, :3] = rotation_to_z(direction)
    if axis == "y":
        rotation[:3, :3] = Y_FROM_Z @ rotation[:3, :3]
    return RDF_FROM_RUB @ rotation if path.suffix.lower() == ".spz" else rotation
