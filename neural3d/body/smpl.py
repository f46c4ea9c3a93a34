"""SMPL, SMPL-H and SMPL-X files, `.npz` or the original `.pkl`, and all of the same layout.

Loper et al. 2015; Romero et al., "Embodied Hands" (SIGGRAPH Asia 2017); Pavlakos et al., "Expressive Body Capture"
(CVPR 2019). The files are their users' own: their licences forbid passing them on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.model import BodyModel, Hands
from neural3d.body.shape_space import ShapeSpace
from neural3d.body.unpickle import plain, read_pickle
from neural3d.errors import UserError

NEEDED = ("v_template", "shapedirs", "J_regressor", "kintree_table", "weights", "f")
EXPRESSIONS = {400: 300, 20: 10}  # SMPL-X: so many of so many shapes are of the body, the rest of the face
_SPINE = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
_FINGERS = tuple(
    f"{side}_{finger}{i}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for i in (1, 2, 3)
)
JOINT_NAMES = {
    24: (*_SPINE, "left_hand", "right_hand"),
    52: (*_SPINE, *_FINGERS),
    55: (*_SPINE, "jaw", "left_eye", "right_eye", *_FINGERS),
}


def read_smpl(path: Path) -> BodyModel:
    """The model in a file. Raises UserError where arrays are missing, do not belong together or are not finite."""
    arrays = read_pickle(path) if path.suffix.lower() == ".pkl" else _read_npz(path)
    if missing := [name for name in NEEDED if name not in arrays]:
        raise UserError(
            f"{path}: has no {' and no '.join(missing)}; it is no model of the SMPL family, or not all of one."
        )
    try:
        return _model(path.stem, {name: plain(value) for name, value in arrays.items() if _is_wanted(name)})
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: its arrays do not make a body ({error}); download the model anew.") from None


def _is_wanted(name: str) -> bool:
    return name in (*NEEDED, "posedirs", "vt", "ft", "joint_names") or name.startswith("hands_")


def _read_npz(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if _is_wanted(name) and not _is_pickled(file, name)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is no .npz of plain arrays ({error}); download the model anew.") from None


def _is_pickled(file: Any, name: str) -> bool:
    """Some files hold an object or two beside their arrays."""
    try:
        file[name]
    except ValueError:
        return True
    return False


def _model(name: str, arrays: dict[str, np.ndarray]) -> BodyModel:
    template = _floats(arrays, "v_template", (None, 3))
    count = len(template)
    shapes = _floats(arrays, "shapedirs", (count, 3, None)).permute(2, 0, 1).contiguous()
    weights = _floats(arrays, "weights", (count, None))
    joints = weights.shape[1]
    regressor = _floats(arrays, "J_regressor", (joints, count))
    correctives = template.new_zeros(0, count, 3)
    if "posedirs" in arrays:
        correctives = _floats(arrays, "posedirs", (count, 3, 9 * (joints - 1))).permute(2, 0, 1).contiguous()
    faces = torch.from_numpy(arrays["f"].astype(np.int64))
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= count:
        raise ValueError("f: triangles of vertices that do not exist")
    parents = tuple(int(p) for p in arrays["kintree_table"].astype(np.int64)[0][:joints])
    order = weights.argsort(dim=1, descending=True, stable=True)[:, : max(1, int((weights > 0).sum(1).max()))]
    texture: dict[str, Any] = {}
    if "vt" in arrays and "ft" in arrays:
        uv_faces = torch.from_numpy(arrays["ft"].astype(np.int64))
        texture = {"uv": _floats(arrays, "vt", (None, 2)), "uv_faces": uv_faces}
    bodies = EXPRESSIONS.get(len(shapes), len(shapes)) if joints == 55 else len(shapes)
    return BodyModel(
        name=name,
        template=template,
        faces=faces,
        shapes=shapes,
        correctives=correctives,
        rest=regressor @ template,
        rest_shapes=torch.einsum("jv,svc->sjc", regressor, shapes),
        parents=(-1, *parents[1:]),
        joint_names=_names(arrays, joints),
        bones=order.int(),
        weights=weights.gather(1, order),
        space=ShapeSpace(
            (*(f"beta{i}" for i in range(bodies)), *(f"expression{i}" for i in range(len(shapes) - bodies)))
        ),
        regressor=regressor,
        hands=_hands(arrays, joints),
        **texture,
    )


def _names(arrays: dict[str, np.ndarray], joints: int) -> tuple[str, ...]:
    """As the file has them (ours do), or as papers do."""
    if "joint_names" in arrays and arrays["joint_names"].shape == (joints,):
        return tuple(str(name) for name in arrays["joint_names"])
    return JOINT_NAMES.get(joints, tuple(f"joint{i}" for i in range(joints)))


def _hands(arrays: dict[str, np.ndarray], joints: int) -> Hands | None:
    if joints not in (52, 55) or "hands_componentsl" not in arrays:
        return None
    return Hands(
        torch.stack([_floats(arrays, f"hands_components{side}", (45, 45)) for side in "lr"]),
        torch.stack([_floats(arrays, f"hands_mean{side}", (45,)) for side in "lr"]),
        first=joints - 30,
    )


def _floats(arrays: dict[str, np.ndarray], name: str, shape: tuple[int | None, ...]) -> Float[Tensor, "..."]:
    """float32, of this shape (None: any). Raises ValueError."""
    value = arrays[name]
    if value.ndim != len(shape) or any(want not in (None, n) for want, n in zip(shape, value.shape, strict=True)):
        asked = " × ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {' × '.join(map(str, value.shape))}, not {asked}")
    found = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    if not found.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return found
