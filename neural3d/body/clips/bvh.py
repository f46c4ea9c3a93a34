"""BVH: Biovision's text of a hierarchy and of channels per frame, which every motion capture program writes.

Joints have no axes of their own: at rest all frames are parallel to the world's, as in `Skeleton`. The format knows no
unit. Channels of a joint are applied in the order in which they are named, the first outermost.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from neural3d.body.clips.reader import MAX_FRAMES, Reader, load_bytes
from neural3d.body.motion import Motion
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.geometry.rotations import euler_from_rotation, quaternion_from_euler, rotation_from_quaternion
from neural3d.geometry.skeletons import Skeleton

UNITS = {"metres": 1.0, "centimetres": 0.01, "inches": 0.0254, "units of CMU's": 0.0254 / 0.45, "millimetres": 0.001}
HEIGHT = 1.7  # metres: of whoever was recorded, where units are guessed
ORDER = "ZXY"  # as written
END = "_end"  # of the name of what an End Site makes


@dataclass
class Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)


def read(path: Path) -> Motion:
    try:
        text = load_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        text = load_bytes(path).decode("latin-1")
    parts = re.split(r"^\s*MOTION\b", text, maxsplit=1, flags=re.MULTILINE)
    if not re.match(r"\s*HIERARCHY\b", text) or len(parts) != 2:
        raise UserError(f"{path} is no BVH file: it lacks HIERARCHY or MOTION; export it again as BVH.")
    joints = _hierarchy(path, parts[0].split()[1:])
    values, seconds, notes = _frames(path, parts[1], sum(len(joint.channels) for joint in joints))
    if not len(values):
        raise UserError(f"{path} holds no frames; export the clip again with its animation.")

    offsets = np.array([joint.offset for joint in joints])
    rotations, moved, column = [], {}, 0
    for index, joint in enumerate(joints):
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        kinds = [(channel[0], k) for k, channel in enumerate(joint.channels) if channel[1:] == "ROTATION"]
        degrees = torch.from_numpy(own[:, [k for _, k in kinds]])
        rotations.append(quaternion_from_euler(torch.deg2rad(degrees), "".join(axis for axis, _ in kinds)))
        if any(channel[1:] == "POSITION" for channel in joint.channels):
            moved[index] = np.tile(offsets[index], (len(own), 1))
            for k, channel in enumerate(joint.channels):
                if channel[1:] == "POSITION":
                    moved[index][:, "XYZ".index(channel[0])] = own[:, k]
    places = moved.pop(0, np.tile(offsets[0], (len(values), 1)))
    notes += _settle(joints, offsets, moved)

    rest = offsets.copy()
    for index, joint in enumerate(joints[1:], 1):
        rest[index] += rest[joint.parent]
    unit, said = _unit(rest)
    skeleton = Skeleton(
        tuple(joint.name for joint in joints), tuple(joint.parent for joint in joints), torch.from_numpy(rest * unit)
    )
    return Motion(
        path.stem,
        skeleton,
        torch.stack(rotations, 1),
        torch.from_numpy(places * unit),
        1 / seconds,
        notes=(said, *notes),
    )


def _hierarchy(path: Path, words: list[str]) -> list[Joint]:
    """All joints, parents first; an End Site with an offset is one too, named after its parent."""

    def broken(why: str) -> UserError:
        return UserError(f"{path} has a broken hierarchy: {why}; export it again as BVH.")

    joints: list[Joint] = []
    open_joints: list[int] = []  # indices of those whose brace is open
    at = 0
    while at < len(words):
        word = words[at].upper()
        if word in ("ROOT", "JOINT", "END"):
            try:
                brace = words.index("{", at)
            except ValueError:
                raise broken(f"'{' '.join(words[at : at + 2])}' has no opening brace") from None
            name = " ".join(words[at + 1 : brace])
            if (word == "ROOT") == bool(joints):
                raise broken(f"'{name}' is a second root" if joints else f"'{name}' comes before any ROOT")
            if word != "ROOT" and not open_joints:
                raise broken(f"'{name}' lies outside of the root")
            parent = open_joints[-1] if open_joints else -1
            if word == "END":
                name = joints[parent].name + END
            open_joints.append(len(joints))
            joints.append(Joint(name, parent))
            at = brace + 1
        elif word == "}":
            if not open_joints:
                raise broken("a closing brace too many")
            open_joints.pop()
            at += 1
        elif word == "OFFSET" and open_joints:
            joints[open_joints[-1]].offset = [float(word) for word in words[at + 1 : at + 4]]
            at += 4
        elif word == "CHANNELS" and open_joints:
            count = int(words[at + 1])
            channels = [word.upper() for word in words[at + 2 : at + 2 + count]]
            if strange := [c for c in channels if not re.fullmatch("[XYZ](POSITION|ROTATION)", c)]:
                raise broken(f"'{joints[open_joints[-1]].name}' has {count} channels, of which {strange[0]} is none")
            joints[open_joints[-1]].channels = channels
            at += 2 + count
        else:
            raise broken(f"'{words[at][:40]}' is not understood there")
    if not joints or open_joints:
        raise broken(f"the brace of '{joints[open_joints[-1]].name}' is never closed" if joints else "it has no ROOT")
    if missing := [joint.name for joint in joints if len(joint.offset) != 3]:
        raise broken(f"'{missing[0]}' has no OFFSET of three numbers")
    return _without_empty_ends(joints)


def _without_empty_ends(joints: list[Joint]) -> list[Joint]:
    """An End Site at its joint says nothing."""
    kept = [i for i, x in enumerate(joints) if not x.name.endswith(END) or any(x.offset) or x.channels]
    number = {-1: -1} | {old: new for new, old in enumerate(kept)}
    return [Joint(joints[i].name, number[joints[i].parent], joints[i].offset, joints[i].channels) for i in kept]


def _frames(path: Path, text: str, channels: int) -> tuple[np.ndarray, float, list[str]]:
    """(T, channels), seconds between frames, notes."""
    head = re.match(r"\s*Frames\s*:\s*(\S+)\s+Frame\s+Time\s*:\s*(\S+)", text, re.IGNORECASE)
    if not head:
        raise UserError(f"{path}: MOTION must begin with 'Frames: N' and 'Frame Time: SECONDS'; export it again.")
    said, seconds = int(head[1]), float(head[2])
    if not 0 < seconds < math.inf:
        raise UserError(
            f"{path}: a frame time of {head[2]} s; correct 'Frame Time:', such as to 0.0333333 (30 a second)."
        )
    words = text[head.end() :].split()
    if not channels or len(words) % channels or len(words) // channels > MAX_FRAMES:
        raise UserError(
            f"{path}: {len(words)} numbers are no whole frames of {channels} channels; it was cut off, or its "
            "hierarchy is another clip's: export or copy it again."
        )
    values = np.array(words, np.float64).reshape(-1, channels)
    if not np.isfinite(values).all():
        frame, channel = np.argwhere(~np.isfinite(values))[0]
        raise UserError(f"{path}: channel {channel + 1} of frame {frame + 1} is not finite; export or copy it again.")
    notes = [f"The file says {said} frames and holds {len(values)}."] if said != len(values) else []
    return values, seconds, notes


def _settle(joints: list[Joint], offsets: np.ndarray, moved: dict[int, np.ndarray]) -> list[str]:
    """Positions of joints other than the root, into their offsets: bones do not stretch.

    Most programs write the offset again in each frame; some write what is added to it, which is small.
    """
    stretched = []
    for index, positions in moved.items():
        mean, offset = positions.mean(0), offsets[index].copy()
        absolute = np.linalg.norm(mean - offset) <= np.linalg.norm(mean)
        offsets[index] = mean if absolute else offset + mean
        if np.abs(positions - mean).max() > 1e-2 * max(float(np.linalg.norm(offsets[index])), 1e-9):
            stretched.append(joints[index].name)
    if not stretched:
        return []
    return [f"Bones do not stretch here: {', '.join(stretched)} are kept at their mean distance from their parents."]


def _unit(rest: np.ndarray) -> tuple[float, str]:
    """Metres in the file's unit: that in which the skeleton's height is nearest to a grown person's."""
    height = float((rest.max(0) - rest.min(0)).max())
    if not 0 < height < math.inf:
        raise ValueError("all joints lie in one place")
    name = min(UNITS, key=lambda name: abs(math.log(height * UNITS[name] / HEIGHT)))
    return UNITS[name], f"Taken to be in {name}: {height:.4g} high is {height * UNITS[name]:.2f} m."


def write(motion: Motion, path: Path) -> None:
    """In metres. Joints without children end in an empty End Site, unless they came from one."""
    skeleton = motion.skeleton
    children = {i: [j for j, parent in enumerate(skeleton.parents) if parent == i] for i in range(len(skeleton))}
    lines, order = ["HIERARCHY"], []

    def numbers(values: torch.Tensor) -> str:
        return " ".join(f"{value:.8f}" for value in values.tolist())

    def add(joint: int, depth: int) -> None:
        tab, inner = "\t" * depth, "\t" * (depth + 1)
        offset = f"{inner}OFFSET {numbers(skeleton.offsets[joint])}"
        if joint and not children[joint] and skeleton.names[joint].endswith(END):
            lines.extend([f"{tab}End Site", f"{tab}{{", offset, f"{tab}}}"])
            return
        order.append(joint)
        kinds = [f"{axis}position" for axis in "XYZ"] * (not joint) + [f"{axis}rotation" for axis in ORDER]
        lines.extend([f"{tab}{'JOINT' if joint else 'ROOT'} {skeleton.names[joint]}", f"{tab}{{", offset])
        lines.append(f"{inner}CHANNELS {len(kinds)} {' '.join(kinds)}")
        for child in children[joint]:
            add(child, depth + 1)
        if not children[joint]:
            lines.extend([f"{inner}End Site", f"{inner}{{", f"{inner}\tOFFSET 0 0 0", f"{inner}}}"])
        lines.append(f"{tab}}}")

    add(0, 0)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.rate:.9g}"]
    angles = torch.rad2deg(euler_from_rotation(rotation_from_quaternion(motion.rotations[:, order].double()), ORDER))
    lines += map(numbers, torch.cat([motion.places.double(), angles.flatten(1)], 1))
    write_whole(path, ("\n".join(lines) + "\n").encode())


READER = Reader("bvh", "BVH", (".bvh",), read, write)
