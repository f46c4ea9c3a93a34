"""glTF 2.0: the first animation that turns joints, of the first skin, or of all nodes where there is none.

Nodes have axes and scales of their own; what is kept is how each turns from its place at rest, that of the nodes as the
file has them. glTF is in metres, +Y up, facing +Z.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor

from neural3d.body.clips.reader import MAX_FRAMES, Reader, load_bytes, parse_json
from neural3d.body.motion import Motion, relative
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_rotation, rotation_from_quaternion, slerp
from neural3d.geometry.skeletons import Skeleton

KINDS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
STILL = {"translation": (0.0, 0, 0), "rotation": (0.0, 0, 0, 1), "scale": (1.0, 1, 1)}
MAX_RATE = 240.0  # frames per second, of keys that lie closer


class File:
    """The JSON and the buffers of a .gltf or .glb."""

    def __init__(self, path: Path):
        self.path, data = path, load_bytes(path)
        self.binary = b""
        if data[:4] == b"glTF":
            data, self.binary = self._chunks(data)
        self.json = parse_json(path, data)

    def _chunks(self, data: bytes) -> tuple[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        at = 12
        while at + 8 <= len(data):
            size, kind = struct.unpack_from("<I4s", data, at)
            if at + 8 + size > len(data):
                raise UserError(f"{self.path} was cut off; copy it again.")
            found.setdefault(kind, data[at + 8 : at + 8 + size])
            at += 8 + size
        return found.get(b"JSON", b""), found.get(b"BIN\0", b"")

    def buffer(self, index: int) -> bytes:
        uri = self.json["buffers"][index].get("uri")
        if uri is None:
            return self.binary
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        return load_bytes(self.path.parent / unquote(uri))

    def numbers(self, index: int) -> np.ndarray:
        """An accessor's, (count, width), whole numbers as the fractions of 1 that they stand for in animations."""
        accessor = self.json["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise UserError(f"{self.path}: accessor {index} is sparse or compressed; export it without compression.")
        view = self.json["bufferViews"][accessor["bufferView"]]
        kind, width = np.dtype(KINDS[accessor["componentType"]]), WIDTHS[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride, count = view.get("byteStride") or kind.itemsize * width, accessor["count"]
        data = self.buffer(view["buffer"])
        if not (start >= 0 and count > 0 and start + (count - 1) * stride + kind.itemsize * width <= len(data)):
            raise UserError(f"{self.path}: accessor {index} reaches beyond its buffer; export or copy it again.")
        raw = np.ndarray((count, width), kind, data, start, (stride, kind.itemsize))
        if kind.kind == "f":
            return raw.astype(np.float64)
        return np.maximum(raw / np.iinfo(kind.name).max, -1.0)


def read(path: Path) -> Motion:
    file = File(path)
    nodes = file.json.get("nodes", [])
    if not file.json.get("animations"):
        raise UserError(f"{path} holds no animation; export it with its animation.")
    above = _parents(path, nodes)
    animation = next(
        (a for a in file.json["animations"] if any(c["target"].get("path") == "rotation" for c in a["channels"])), None
    )
    if animation is None:
        raise UserError(f"{path}: none of its animations turns a joint; export it with its skeleton's animation.")
    channels = {
        (c["target"]["node"], c["target"]["path"]): animation["samplers"][c["sampler"]]
        for c in animation["channels"]
        if "node" in c["target"] and c["target"]["path"] in STILL
    }
    joints = _joints(path, file, above, {node for node, _ in channels})
    rate, seconds = _rate(path, file, list(channels.values()))
    times = np.arange(round(seconds * rate) + 1) / rate

    needed = sorted({n for joint in joints for n in _line(above, joint)}, key=lambda n: len(_line(above, n)))
    rest = _world(above, needed, {n: _matrix(nodes[n], {}, 1) for n in needed})
    moving = {
        n: _matrix(
            nodes[n],
            {kind: _sampled(file, channels[n, kind], times, kind) for kind in STILL if (n, kind) in channels},
            len(times),
        )
        for n in needed
    }
    world = _world(above, needed, moving)
    parents = tuple(next((joints.index(n) for n in _line(above, j)[1:] if n in joints), -1) for j in joints)
    turned = torch.from_numpy(np.stack([_turn(world[j]) @ _turn(rest[j]).swapaxes(1, 2) for j in joints], 1))
    skeleton = Skeleton(
        tuple(str(nodes[j].get("name", f"node_{j}")) for j in joints),
        parents,
        torch.from_numpy(np.stack([rest[j][0, :3, 3] for j in joints])),
    )
    places = torch.from_numpy(np.stack([world[j][:, :3, 3] for j in joints], 1))
    motion = Motion(animation.get("name") or path.stem, skeleton, relative(parents, turned), places[:, 0], rate)
    if (off := (motion.joints() - places).norm(dim=-1).amax()) > 1e-3:
        note = f"Bones do not stretch here: joints are up to {100 * off:.1f} cm from where the file has them."
        return Motion(motion.name, skeleton, motion.rotations, motion.places, rate, notes=(note,))
    return motion


def _parents(path: Path, nodes: list[dict[str, Any]]) -> dict[int, int]:
    above: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if child in above or not 0 <= child < len(nodes):
                raise UserError(f"{path}: node {child} has two parents, or is not there; export or copy it again.")
            above[child] = number
    for number in range(len(nodes)):
        seen = number
        for _ in nodes:
            seen = above.get(seen, -1)
        if seen != -1:
            raise UserError(f"{path}: node {number} is its own ancestor; export or copy it again.")
    return above


def _line(above: dict[int, int], node: int) -> list[int]:
    """A node, its parent and so on."""
    found = [node]
    while found[-1] in above:
        found.append(above[found[-1]])
    return found


def _joints(path: Path, file: File, above: dict[int, int], animated: set[int]) -> list[int]:
    """Nodes of the tree, parents first: the skin's joints, or what is animated; with one root."""
    skins = file.json.get("skins", [])
    wanted = set(skins[0]["joints"]) if skins else animated
    lines = [_line(above, node)[::-1] for node in wanted]
    shared = [n for n in lines[0] if all(n in line for line in lines)]
    if not shared:
        raise UserError(f"{path}: its joints hang on several roots; join them under one and export it again.")
    inner = {n for line in lines for n in line[line.index(shared[-1]) :]}
    return sorted(inner, key=lambda n: (len(_line(above, n)), n))


def _rate(path: Path, file: File, samplers: list[dict[str, Any]]) -> tuple[float, float]:
    """Frames per second, of the densest keys, and the time of the last key."""
    all_times = [file.numbers(sampler["input"])[:, 0] for sampler in samplers]
    if any(not np.isfinite(t).all() or (np.diff(t) <= 0).any() or t[0] < 0 for t in all_times):
        raise UserError(f"{path}: the times of its keys do not increase; export or copy it again.")
    gaps = [float(np.median(np.diff(t))) for t in all_times if len(t) > 1]
    rate = min(1 / min(gaps), MAX_RATE) if gaps else 30.0
    seconds = float(max(t[-1] for t in all_times))
    if seconds * rate > MAX_FRAMES:
        raise UserError(f"{path}: its animation lasts {seconds:.3g} s at {rate:.3g} frames a second; cut it.")
    return rate, seconds


def _sampled(file: File, sampler: dict[str, Any], times: np.ndarray, kind: str) -> np.ndarray:
    """(T, 3 or 4) at the times: before the first key as there, after the last as there."""
    keys, values = file.numbers(sampler["input"])[:, 0], file.numbers(sampler["output"])
    how = sampler.get("interpolation", "LINEAR")
    spans = 3 if how == "CUBICSPLINE" else 1
    if values.shape != (spans * len(keys), len(STILL[kind])):
        raise UserError(f"{file.path}: {len(keys)} keys with {len(values)} values of {kind}; export or copy it again.")
    values = values.reshape(len(keys), spans, -1)
    after = np.clip(np.searchsorted(keys, times, "right"), 1, max(len(keys) - 1, 1))
    if len(keys) == 1:
        return np.repeat(values[:, spans // 2], len(times), 0)
    before, gap = after - 1, (keys[after] - keys[after - 1])[:, None]
    share = np.clip((times[:, None] - keys[before][:, None]) / gap, 0, 1)
    if how == "STEP":
        found = np.where(share < 1, values[before, 0], values[after, 0])
    elif how == "CUBICSPLINE":  # Hermite's, of values and tangents: (in, value, out) at each key
        s, s2, s3 = share, share**2, share**3
        found = (2 * s3 - 3 * s2 + 1) * values[before, 1] + gap * (s3 - 2 * s2 + s) * values[before, 2]
        found = found + (-2 * s3 + 3 * s2) * values[after, 1] + gap * (s3 - s2) * values[after, 0]
    elif kind == "rotation":
        a, b = (torch.from_numpy(np.roll(values[i, 0], 1, -1)) for i in (before, after))
        a, b = (torch.nn.functional.normalize(q, dim=-1) for q in (a, b))
        found = np.roll(slerp(a, b, torch.from_numpy(share)).numpy(), -1, -1)
    else:
        found = (1 - share) * values[before, 0] + share * values[after, 0]
    return found


def _matrix(node: dict[str, Any], moving: dict[str, np.ndarray], count: int) -> np.ndarray:
    """(count, 4, 4): the parent's frame from the node's."""
    matrix = np.tile(np.eye(4), (count, 1, 1))
    if "matrix" in node:  # which forbids an animation
        return matrix @ np.array(node["matrix"], np.float64).reshape(4, 4).T
    parts = {k: moving.get(k, np.array([node.get(k, still)], np.float64)) for k, still in STILL.items()}
    quaternion = torch.from_numpy(np.roll(parts["rotation"], 1, -1))
    matrix[:, :3, :3] = rotation_from_quaternion(quaternion).numpy() * parts["scale"][:, None]
    matrix[:, :3, 3] = parts["translation"]
    return matrix


def _world(above: dict[int, int], nodes: list[int], local: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Nodes come after their parents."""
    found: dict[int, np.ndarray] = {}
    for node in nodes:
        found[node] = found[above[node]] @ local[node] if node in above else local[node]
    return found


def _turn(matrices: np.ndarray) -> np.ndarray:
    """The rotations next to (T, 4, 4) matrices, scales taken out."""
    linear: Tensor = torch.from_numpy(matrices[:, :3, :3] / np.linalg.norm(matrices[:, :3, :3], axis=1, keepdims=True))
    return rotation_from_quaternion(quaternion_from_rotation(linear)).numpy()


READER = Reader("gltf", "glTF", (".glb", ".gltf"), read)
