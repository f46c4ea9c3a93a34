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

    def numbers(self, index: int, whole: bool = False) -> np.ndarray:
        """An accessor's, (count, width). Integers are fractions of 1 unless asked for as whole numbers."""
        accessor = self.json["accessors"][index]
        kind, width = np.dtype(KINDS[accessor["componentType"]]), WIDTHS[accessor["type"]]
        sparse, shape = accessor.get("sparse"), (accessor["count"], width)
        if "bufferView" in accessor:
            raw = self._read(index, accessor, kind, shape)
        elif sparse:
            raw = np.zeros(shape, kind)
        else:
            raise UserError(f"{self.path}: accessor {index} is compressed; export it without compression.")
        if sparse:
            raw, some = raw.copy(), sparse["count"]
            named = np.dtype(KINDS[sparse["indices"]["componentType"]])
            at = self._read(index, sparse["indices"], named, (some, 1))[:, 0]
            raw[at] = self._read(index, sparse["values"], kind, (some, width))
        if whole:
            return raw.astype(np.int64)
        if kind.kind == "f":
            return raw.astype(np.float64)
        return np.maximum(raw / np.iinfo(kind.name).max, -1.0)

    def _read(self, index: int, part: dict[str, Any], kind: np.dtype, shape: tuple[int, int]) -> np.ndarray:
        view = self.json["bufferViews"][part["bufferView"]]
        start, size = view.get("byteOffset", 0) + part.get("byteOffset", 0), kind.itemsize * shape[1]
        stride, data = view.get("byteStride") or size, self.buffer(view["buffer"])
        if not (start >= 0 and shape[0] > 0 and start + (shape[0] - 1) * stride + size <= len(data)):
            raise UserError(f"{self.path}: accessor {index} reaches beyond its buffer; export or copy it again.")
        return np.ndarray(shape, kind, data, start, (stride, kind.itemsize))


class Clip:
    """The first animation that turns nodes, or the first: how all of them move. above: parents. times: seconds."""

    def __init__(self, path: Path):
        self.path, self.file = path, File(path)
        self.nodes = self.file.json.get("nodes", [])
        if not self.file.json.get("animations"):
            raise UserError(f"{path} holds no animation; export it with its animation.")
        self.above = _parents(path, self.nodes)
        every = self.file.json["animations"]
        turning = (a for a in every if any(c["target"].get("path") == "rotation" for c in a["channels"]))
        animation = next(turning, every[0])
        self.name = animation.get("name") or path.stem
        self.channels = {
            (c["target"]["node"], c["target"]["path"]): animation["samplers"][c["sampler"]]
            for c in animation["channels"]
            if "node" in c["target"]
        }
        if not self.channels:
            raise UserError(f"{path}: its animation moves nothing; export it with its skeleton's animation.")
        self.rate, seconds = _rate(path, self.file, list(self.channels.values()))
        self.times = np.arange(round(seconds * self.rate) + 1) / self.rate

    def animated(self) -> set[int]:
        return {node for node, kind in self.channels if kind in STILL}

    def world(self, wanted: list[int], at_rest: bool = False) -> dict[int, np.ndarray]:
        """(T, 4, 4) of nodes and all above them: the world's frame from the node's. at_rest: one frame."""
        needed = sorted(
            {n for node in wanted for n in _line(self.above, node)}, key=lambda n: len(_line(self.above, n))
        )
        found: dict[int, np.ndarray] = {}
        for n in needed:  # after their parents
            kinds = [] if at_rest else [kind for kind in STILL if (n, kind) in self.channels]
            moving = {k: _sampled(self.file, self.channels[n, k], self.times, k, len(STILL[k])) for k in kinds}
            local = _matrix(self.nodes[n], moving, 1 if at_rest else len(self.times))
            found[n] = found[self.above[n]] @ local if n in self.above else local
        return found

    def weights(self, node: int, count: int) -> np.ndarray:
        """(T, count) of the node's morph targets."""
        if (node, "weights") in self.channels:
            return _sampled(self.file, self.channels[node, "weights"], self.times, "weights", count)
        mesh = self.file.json["meshes"][self.nodes[node]["mesh"]]
        still = self.nodes[node].get("weights") or mesh.get("weights") or [0.0] * count
        return np.tile(np.array(still, np.float64), (len(self.times), 1))


def read(path: Path) -> Motion:
    clip = Clip(path)
    nodes, above = clip.nodes, clip.above
    if not any(kind == "rotation" for _, kind in clip.channels):
        raise UserError(f"{path}: none of its animations turns a joint; export it with its skeleton's animation.")
    joints = _joints(path, clip.file, above, clip.animated())
    rest, world = clip.world(joints, at_rest=True), clip.world(joints)
    parents = tuple(next((joints.index(n) for n in _line(above, j)[1:] if n in joints), -1) for j in joints)
    turned = torch.from_numpy(np.stack([_turn(world[j]) @ _turn(rest[j]).swapaxes(1, 2) for j in joints], 1))
    skeleton = Skeleton(
        tuple(str(nodes[j].get("name", f"node_{j}")) for j in joints),
        parents,
        torch.from_numpy(np.stack([rest[j][0, :3, 3] for j in joints])),
    )
    places = torch.from_numpy(np.stack([world[j][:, :3, 3] for j in joints], 1))
    motion = Motion(clip.name, skeleton, relative(parents, turned), places[:, 0], clip.rate)
    if (off := (motion.joints() - places).norm(dim=-1).amax()) > 1e-3:
        note = f"Bones do not stretch here: joints are up to {100 * off:.1f} cm from where the file has them."
        return Motion(motion.name, skeleton, motion.rotations, motion.places, clip.rate, notes=(note,))
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
    gaps = [_gap(t) for t in all_times if len(t) > 1]
    rate = min(1 / min(gaps), MAX_RATE) if gaps else 30.0
    seconds = float(max(t[-1] for t in all_times))
    if seconds * rate > MAX_FRAMES:
        raise UserError(f"{path}: its animation lasts {seconds:.3g} s at {rate:.3g} frames a second; cut it.")
    return rate, seconds


def _gap(times: np.ndarray) -> float:
    """Between keys: of even ones the mean, which float32 rounds less than each; else the median."""
    gaps = np.diff(times)
    middle = float(np.median(gaps))
    return float(gaps.mean()) if np.abs(gaps - middle).max() < 0.01 * middle else middle


def _sampled(file: File, sampler: dict[str, Any], times: np.ndarray, kind: str, width: int) -> np.ndarray:
    """(T, width) at the times: before the first key as there, after the last as there."""
    keys, values = file.numbers(sampler["input"])[:, 0], file.numbers(sampler["output"])
    how = sampler.get("interpolation", "LINEAR")
    spans = 3 if how == "CUBICSPLINE" else 1
    if values.size != spans * len(keys) * width or (kind != "weights" and values.shape[1] != width):
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


def _turn(matrices: np.ndarray) -> np.ndarray:
    """The rotations next to (T, 4, 4) matrices, scales taken out."""
    linear: Tensor = torch.from_numpy(matrices[:, :3, :3] / np.linalg.norm(matrices[:, :3, :3], axis=1, keepdims=True))
    return rotation_from_quaternion(quaternion_from_rotation(linear)).numpy()


READER = Reader("gltf", "glTF", (".glb", ".gltf"), read)
