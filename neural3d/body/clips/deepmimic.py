"""DeepMimic's text: JSON of frames, each its duration, then where and how the root is, then a rotation for each joint.

The skeleton is in a file of its own, the character's; quaternions are wxyz, hinges one angle about z. Its figures face
+X, and are turned here to face +Z.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neural3d.body.clips.reader import MAX_FRAMES, Reader, load_bytes, parse_json, resampled
from neural3d.body.motion import Motion, relative
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_euler, quaternion_product, rotation_from_quaternion
from neural3d.geometry.skeletons import Skeleton

SIZES = {"none": 7, "spherical": 4, "revolute": 1, "fixed": 0}  # numbers a frame of each type; the root's is "none"
# The figure that the published clips humanoid3d_* are for (X. B. Peng, DeepMimic, MIT licence): metres, facing +X.
HUMANOID = [  # name, type, parent, from the parent
    ("root", "none", -1, (0.0, 0.0, 0.0)),
    ("chest", "spherical", 0, (0.0, 0.236151, 0.0)),
    ("neck", "spherical", 1, (0.0, 0.223894, 0.0)),
    ("right_hip", "spherical", 0, (0.0, 0.0, 0.084887)),
    ("right_knee", "revolute", 3, (0.0, -0.421546, 0.0)),
    ("right_ankle", "spherical", 4, (0.0, -0.40987, 0.0)),
    ("right_shoulder", "spherical", 1, (-0.02405, 0.2435, 0.18311)),
    ("right_elbow", "revolute", 6, (0.0, -0.274788, 0.0)),
    ("right_wrist", "fixed", 7, (0.0, -0.258947, 0.0)),
    ("left_hip", "spherical", 0, (0.0, 0.0, -0.084887)),
    ("left_knee", "revolute", 9, (0.0, -0.421546, 0.0)),
    ("left_ankle", "spherical", 10, (0.0, -0.40987, 0.0)),
    ("left_shoulder", "spherical", 1, (-0.02405, 0.2435, -0.18311)),
    ("left_elbow", "revolute", 12, (0.0, -0.274788, 0.0)),
    ("left_wrist", "fixed", 13, (0.0, -0.258947, 0.0)),
]


def read(path: Path) -> Motion:
    content = parse_json(path, load_bytes(path))
    frames = content.get("Frames")
    if not isinstance(frames, list):
        raise UserError(f"{path} has no 'Frames', so is no clip of DeepMimic's; give one such as humanoid3d_walk.txt.")
    if not frames:
        raise UserError(f"{path} holds no frames; export the clip again with its animation.")
    if len(widths := {len(frame) for frame in frames}) > 1 or len(frames) > MAX_FRAMES:
        raise UserError(f"{path}: frames must have one length, not {sorted(widths)}; export or copy it again.")
    values = np.array(frames, np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: frame {np.argwhere(~np.isfinite(values))[0][0]} is not finite; copy it again.")

    character = _character(path)
    joints = _joints(character) if character else HUMANOID
    names, types, parents, offsets, axes = zip(*[(*joint, (0.0, 0.0, 0.0))[:5] for joint in joints], strict=True)
    sizes = [SIZES[kind] for kind in types]
    if 1 + sum(sizes) != values.shape[1]:
        whose = character or "the published humanoid3d (no character's file lies beside the clip)"
        raise UserError(
            f"{path} has {values.shape[1]} numbers a frame, and {whose} asks for {1 + sum(sizes)}; put the character's "
            f"file beside the clip, named as the clip begins, such as {path.stem.split('_')[0]}.txt."
        )
    places, rotations = torch.from_numpy(values[:, 1:4]), _rotations(values, sizes)
    times, rate = _times(path, values[:, 0])
    notes = [] if character else ["No character's file beside it: taken to be of the published humanoid3d."]
    if rate is None:
        rate = 1 / float(np.median(np.diff(times)))
        rotations, places = resampled(torch.from_numpy(times), rate, rotations, places)
        notes.append(f"Frames of unlike durations were brought to {rate:.4g} a second.")

    # From the root, which faces +X and whose joints may have axes of their own, to rest frames parallel to a world +Z.
    facing = quaternion_from_euler(torch.tensor([-math.pi / 2], dtype=torch.float64), "Y")
    own = quaternion_from_euler(torch.tensor(axes, dtype=torch.float64).flip(-1), "ZYX")
    from_parent = torch.tensor(offsets, dtype=torch.float64)
    still, rest = _world(parents, from_parent, own[None])
    moved, _ = _world(parents, from_parent, quaternion_product(own, rotations))
    turn = rotation_from_quaternion(facing)
    turned = turn @ (moved @ still.mT) @ turn.T
    skeleton = Skeleton(names, parents, rest[0] @ turn.T)
    return Motion(
        path.stem,
        skeleton,
        relative(parents, turned),
        places @ turn.T,
        rate,
        content.get("Loop") == "wrap",
        tuple(notes),
    )


def _rotations(values: np.ndarray, sizes: list[int]) -> Tensor:
    """(T, J, 4), relative to each joint's axes at rest."""
    found, column = [], 1
    for size in sizes:
        own = torch.from_numpy(values[:, column : column + size])
        column += size
        found.append(own[:, -4:] if size >= 4 else quaternion_from_euler(own, "Z" * size))
    return torch.nn.functional.normalize(torch.stack(found, 1), dim=-1)


def _times(path: Path, durations: np.ndarray) -> tuple[np.ndarray, float | None]:
    """When frames are, and their rate where all but the last, which leads nowhere, last as long."""
    if len(durations) == 1:
        return np.zeros(1), 1 / durations[0] if durations[0] > 0 else 30.0
    if not (durations[:-1] > 0).all():
        raise UserError(f"{path}: frame {np.argmin(durations[:-1])} lasts {durations[:-1].min()} s; copy it again.")
    median = float(np.median(durations[:-1]))
    alike = np.abs(durations[:-1] - median).max() < 1e-3 * median
    times = np.concatenate([[0.0], np.cumsum(durations[:-1])])
    if times[-1] / median > MAX_FRAMES:
        raise UserError(f"{path}: lasts {times[-1]:.3g} s, of frames of {median:.3g} s; correct the durations.")
    return times, 1 / median if alike else None


def _world(parents: tuple[int, ...], offsets: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (T, J, 3, 3) and places (T, J, 3) of frames, the root's at its offset."""
    rotations = rotation_from_quaternion(local)
    found, places = [rotations[:, 0]], [offsets[0].expand(len(local), 3)]
    for joint, parent in enumerate(parents[1:], 1):
        found.append(found[parent] @ rotations[:, joint])
        places.append(places[parent] + found[parent] @ offsets[joint])
    return torch.stack(found, 1), torch.stack(places, 1)


def _character(path: Path) -> Path | None:
    """The file whose name the clip's begins with: humanoid3d.txt beside humanoid3d_walk.txt, or in ../characters."""
    words = path.stem.split("_")
    names = ["_".join(words[:count]) for count in range(len(words) - 1, 0, -1)]
    folders = (path.parent, path.parent / "characters", path.parent.parent / "characters")
    places = (folder / f"{name}{path.suffix}" for name in names for folder in folders)
    return next((place for place in places if place.is_file()), None)


def _joints(path: Path) -> list[tuple[Any, ...]]:
    """(name, type, parent, offset, axes) of each joint of a character's file."""
    try:
        joints = parse_json(path, load_bytes(path))["Skeleton"]["Joints"]
        found = [
            (
                str(joint["Name"]),
                "none" if int(joint["Parent"]) < 0 else str(joint["Type"]),
                int(joint["Parent"]),
                tuple(float(joint[f"Attach{axis}"]) if int(joint["Parent"]) >= 0 else 0.0 for axis in "XYZ"),
                tuple(float(joint.get(f"AttachTheta{axis}", 0)) for axis in "XYZ"),
            )
            for joint in joints
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no whole character of DeepMimic's ({error!r}); copy it again.") from None
    if strange := [joint for joint in found if joint[1] not in SIZES]:
        raise UserError(f"{path}: joint '{strange[0][0]}' is {strange[0][1]}; known are {', '.join(SIZES)}.")
    return found


READER = Reader("deepmimic", "DeepMimic", (".txt", ".json"), read)
