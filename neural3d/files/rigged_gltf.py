"""Bodies that move as glTF 2.0 binary: a skinned mesh, its skeleton, morph targets and an animation.

Four bones a vertex, since many viewers know no more. glTF's morph targets move vertices and not joints: a body made
much taller by them keeps the skeleton that it has here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Int

from neural3d.files.glb import INDICES, Glb

INFLUENCES = 4
CLAY = {
    "pbrMetallicRoughness": {"baseColorFactor": [0.34, 0.42, 0.54, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.8}
}


@dataclass
class Rigged:
    """A body at rest, metres, +Y up, and how it moves.

    bones, weights: K of each vertex, the greatest share first. parents: before children, −1 of the root, the first.
    morphs: what each target adds. times, rotations (wxyz, relative to the parent), places (of the root): of a clip, and
    how much of each morph target its frames have, None: nothing.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"]
    bones: Int[np.ndarray, "V K"]
    weights: Float[np.ndarray, "V K"]
    rest: Float[np.ndarray, "J 3"]
    parents: tuple[int, ...]
    names: tuple[str, ...]
    uv: Float[np.ndarray, "V 2"] | None = None  # v up
    morphs: dict[str, Float[np.ndarray, "V 3"]] = field(default_factory=dict)
    clip: str = ""
    times: Float[np.ndarray, "T"] | None = None
    rotations: Float[np.ndarray, "T J 4"] | None = None
    places: Float[np.ndarray, "T 3"] | None = None
    amounts: Float[np.ndarray, "T M"] | None = None


def write_rigged(body: Rigged, file: BinaryIO) -> None:
    glb = Glb()
    bones, weights = fewer_bones(body.bones, body.weights)
    attributes = {
        "POSITION": glb.add(body.vertices, bounds=True),
        "NORMAL": glb.add(body.normals),
        "JOINTS_0": glb.add(bones.astype(np.uint8 if len(body.names) <= 256 else np.uint16)),
        "WEIGHTS_0": glb.add(weights),
    }
    if body.uv is not None:
        attributes["TEXCOORD_0"] = glb.add(body.uv * [1, -1] + [0, 1])  # glTF's v points down
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": glb.add(body.faces.reshape(-1).astype(np.uint32), INDICES),
        "material": 0,
    }
    mesh: dict[str, Any] = {"primitives": [primitive]}
    if body.morphs:
        primitive["targets"] = [{"POSITION": glb.add(added, bounds=True)} for added in body.morphs.values()]
        mesh |= {"weights": [0.0] * len(body.morphs), "extras": {"targetNames": list(body.morphs)}}

    offsets = body.rest.copy()
    offsets[1:] -= body.rest[list(body.parents[1:])]
    nodes: list[dict[str, Any]] = [
        {"name": name, "translation": offset.tolist()} for name, offset in zip(body.names, offsets, strict=True)
    ]
    for child, parent in enumerate(body.parents):
        if parent >= 0:
            nodes[parent].setdefault("children", []).append(child)
    bind = np.tile(np.eye(4), (len(nodes), 1, 1))
    bind[:, 3, :3] = -body.rest  # columns one after another: the last one moves
    skin = {
        "joints": list(range(len(nodes))),
        "skeleton": 0,
        "inverseBindMatrices": glb.add(bind.reshape(-1, 16), target=None),
    }
    document: dict[str, Any] = {
        "scenes": [{"nodes": [0, len(nodes)]}],
        "nodes": [*nodes, {"name": "body", "mesh": 0, "skin": 0}],
        "meshes": [mesh],
        "skins": [skin],
        "materials": [CLAY],
    }
    if body.times is not None:
        document["animations"] = [_animation(glb, body)]
    glb.write(file, document)


def fewer_bones(
    bones: Int[np.ndarray, "V K"], weights: Float[np.ndarray, "V K"]
) -> tuple[Int[np.ndarray, "V 4"], Float[np.ndarray, "V 4"]]:
    """The four of the greatest shares, which add up to 1; unused ones name bone 0, as glTF asks."""
    room = max(0, INFLUENCES - bones.shape[1])
    bones, weights = (np.pad(a, ((0, 0), (0, room)))[:, :INFLUENCES] for a in (bones, weights))
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return np.where(weights > 0, bones, 0), weights


def _animation(glb: Glb, body: Rigged) -> dict[str, Any]:
    """Each joint that moves turns; the root moves as well, and morph targets come and go."""
    assert body.times is not None and body.rotations is not None and body.places is not None
    times = glb.add(body.times, target=None, bounds=True)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def channel(joint: int, path: str, values: np.ndarray) -> None:
        samplers.append({"input": times, "output": glb.add(values, target=None), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": joint, "path": path}})

    channel(0, "translation", body.places)
    for joint in range(len(body.names)):
        turn = body.rotations[:, joint]
        if np.abs(turn[:, 1:]).max() > 1e-7:
            channel(joint, "rotation", np.roll(turn, -1, axis=1))  # xyzw
    if body.amounts is not None and body.amounts.any():
        channel(len(body.names), "weights", body.amounts.reshape(-1))
    return {"name": body.clip, "samplers": samplers, "channels": channels}
