"""Small clips, written here in the layouts of their formats; the fuzzers damage them too."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path

import numpy as np

from neural3d.body.clips import amass, deepmimic, write_motion
from neural3d.body.motion import Motion
from neural3d.geometry.rotations import quaternion_from_euler

# In centimetres: hips 90 high, one leg, a spine; 25 frames a second.
BVH = """HIERARCHY
ROOT Hips
{
    OFFSET 0 0 0
    CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
    JOINT Leg
    {
        OFFSET 10 0 0
        CHANNELS 6 Zposition Yposition Xposition Xrotation Zrotation Yrotation
        End Site
        {
            OFFSET 0 -90 0
        }
    }
    JOINT Spine
    {
        OFFSET 0 20 0
        CHANNELS 1 Zrotation
        End Site
        {
            OFFSET 0 50 0
        }
    }
}
MOTION
Frames: 2
Frame Time: 0.04
0 90 0 0 0 0 0 0 10 0 0 0 0
0 90 20 90 0 0 0 0 10 90 0 0 0
"""


def humanoid(duration: float, place: tuple[float, float, float] = (0.0, 0.9, 0.0), **angles: float) -> list[float]:
    """A frame of DeepMimic's published figure, standing, but for some hinges."""
    frame = [duration, *place]
    for name, kind, _, _ in deepmimic.HUMANOID:
        still = {"revolute": [angles.get(name, 0.0)], "fixed": []}
        frame += still.get(kind, [1.0, 0.0, 0.0, 0.0])
    return [float(x) for x in frame]


def swing(frames: int = 40, rate: float = 30.0) -> Motion:
    """A figure on the spot whose arms and legs swing, knees and elbows bending the way they do."""
    import torch

    skeleton = amass.average("body")
    rotations = torch.tensor([1.0, 0, 0, 0]).repeat(frames, len(skeleton), 1)
    phase = torch.sin(torch.arange(frames) * 2 * math.pi / rate)

    def turn(name: str, angle: torch.Tensor, axis: str) -> None:
        rotations[:, skeleton.names.index(name)] = quaternion_from_euler(angle[:, None], axis)

    for side, sign in (("left", 1), ("right", -1)):
        turn(f"{side}_hip", -0.3 * sign * phase, "X")
        turn(f"{side}_knee", 0.4 + 0.3 * sign * phase, "X")
        turn(f"{side}_elbow", -sign * (0.5 + 0.3 * phase), "Y")
    return Motion("swing", skeleton, rotations, torch.tensor([0.0, 0.9, 0]).repeat(frames, 1), rate)


def write_bvh(path: Path) -> None:
    path.write_text(BVH)


def write_deepmimic(path: Path) -> None:
    frames = [humanoid(0.1 * (k < 4), (0.1 * k, 0.9, 0), left_knee=-0.2 * k) for k in range(5)]
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))


def write_amass(path: Path) -> None:
    write_motion(swing(5), path)


def write_gltf(path: Path, how: str = "LINEAR", skin: bool = True) -> Path:
    """An armature in centimetres on its back; in it root (moving along x), arm and hand. The arm turns about y of the
    world by 90° from 0 to 1 s, and stays; all is over after 2 s."""
    half = math.sqrt(0.5)
    nodes = [
        {"name": "armature", "rotation": [-half, 0, 0, half], "scale": [0.01] * 3, "children": [1]},
        {"name": "root", "translation": [0, 0, 100], "rotation": [half, 0, 0, half], "children": [2]},
        {"name": "arm", "rotation": [0, 0, half, half], "children": [3]},  # its y is −x of the root's frame
        {"name": "hand", "translation": [0, -50, 0]},
    ]
    arm = [[0, 0, half, half], [0.5, 0.5, 0.5, 0.5]]  # at rest; after a quarter turn about the root's y
    turns = [arm[0], arm[1], arm[1]]
    if how == "CUBICSPLINE":
        turns = [x for value in turns for x in ([0.0] * 4, value, [0.0] * 4)]
    arrays = [
        np.array([0, 1, 2], "<f4"),
        np.array(turns, "<f4"),
        np.array([0, 0.5, 1, 2], "<f4"),
        np.array([[0, 0, 100], [10, 0, 100], [20, 0, 100], [40, 0, 100]], "<f4"),
    ]
    views, accessors, data = [], [], b""
    for k, array in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        kind = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        accessors.append({"bufferView": k, "componentType": 5126, "count": len(array), "type": kind})
        data += array.tobytes()
    content = {
        "asset": {"version": "2.0"},
        "nodes": nodes,
        "animations": [
            {
                "name": "wave",
                "channels": [
                    {"sampler": 0, "target": {"node": 2, "path": "rotation"}},
                    {"sampler": 1, "target": {"node": 1, "path": "translation"}},
                ],
                "samplers": [{"input": 0, "output": 1, "interpolation": how}, {"input": 2, "output": 3}],
            }
        ],
        "bufferViews": views,
        "accessors": accessors,
        "buffers": [{"byteLength": len(data)}],
    }
    if skin:
        content["skins"] = [{"joints": [1, 2, 3]}]
    else:
        content["animations"][0]["channels"].append({"sampler": 2, "target": {"node": 3, "path": "translation"}})
        content["animations"][0]["samplers"].append({"input": 2, "output": 4})
        accessors.append({"bufferView": 4, "componentType": 5126, "count": 4, "type": "VEC3"})
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": 48})
        data += np.array([[0, -50, 0]] * 4, "<f4").tobytes()
        content["buffers"] = [{"byteLength": len(data)}]
    if path.suffix == ".gltf":
        content["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
        path.write_text(json.dumps(content))
        return path
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path
