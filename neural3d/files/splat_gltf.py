"""Splats in glTF 2.0: Khronos' KHR_gaussian_splatting, as .glb or .gltf, read and written.

Points with the attributes ROTATION (xyzw), SCALE (linear), OPACITY and SH_DEGREE_l_COEF_n (as in .ply), each of a node
whose matrix moves them; COLOR_0 is for readers that know nothing of splats. +Y is up.
https://github.com/KhronosGroup/glTF/tree/main/extensions/2.0/Khronos/KHR_gaussian_splatting
Read also with KHR_gaussian_splatting_compression_spz_2: an .spz file in the place of the attributes.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np
import torch
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files import spz
from neural3d.files.glb import Glb
from neural3d.files.quantised import C0, CUT, log_scales, logits, opacities, same_degree
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.images.srgb import srgb_to_linear

NAME, SPZ = "KHR_gaussian_splatting", "KHR_gaussian_splatting_compression_spz_2"
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
GLB = b"glTF"


@dataclass
class Found:
    """What a file held: splats as arguments of `Gaussians`, part by part, each with the matrix of its node."""

    parts: list[tuple[dict[str, np.ndarray], Float[torch.Tensor, "4 4"]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def holds_splats(path: Path) -> bool:
    """Whether a .glb or .gltf names the extension; its numbers are not read."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
            size = path.stat().st_size  # Python makes room for all that is asked for, which damaged files say wrongly
            text = file.read(min(size, struct.unpack("<I", head[12:16])[0])) if head[:4] == GLB else head + file.read()
    except (OSError, struct.error):
        return False
    return f'"{NAME}"'.encode() in text


def unpack(path: Path, data: bytes) -> Found:
    """The splats of a file, in the frames of their nodes. Raises UserError where there are none, or it is damaged."""
    found = Found()
    try:
        asset = _Asset(path, data)
        for mesh, matrix in asset.nodes():
            for primitive in mesh["primitives"]:
                extension = primitive.get("extensions", {}).get(NAME)
                if extension is not None:
                    found.parts.append((_part(asset, primitive, extension, found.notes), matrix))
    except UserError:
        raise
    except Exception as error:  # a document may lack anything, or have it of another type
        raise UserError(f"{path} is no whole glTF file ({type(error).__name__}: {error}); copy it again.") from None
    if not found.parts:
        raise UserError(f"{path} holds no splats: none of its points names {NAME}.")
    same_degree([arrays for arrays, _ in found.parts])
    found.notes = list(dict.fromkeys(found.notes))
    return found


def pack(splats: Gaussians, file: BinaryIO, offset: Float[np.ndarray, "3"]) -> None:
    """Writes a .glb; the splats' +y is up. offset: where their node stands."""
    a = {name: p.detach().cpu().numpy() for name, p in splats.named_parameters()}
    opacity = opacities(a["opacity_logits"])
    color = np.hstack([srgb_to_linear((0.5 + C0 * a["sh_dc"].astype(np.float64)).clip(0, 1)), opacity[:, None]])
    quats = a["quats"].astype(np.float64)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True).clip(1e-30)
    columns: dict[str, np.ndarray] = {
        "POSITION": a["means"],
        "COLOR_0": np.round(65535 * color).astype("<u2"),
        f"{NAME}:ROTATION": np.roll(quats, -1, axis=1),
        f"{NAME}:SCALE": np.exp(a["log_scales"].astype(np.float64).clip(-80, 80)),  # the rest of float32's range
        f"{NAME}:OPACITY": opacity[:, None],
        f"{NAME}:SH_DEGREE_0_COEF_0": a["sh_dc"],
    }
    for degree in range(1, splats.sh_degree + 1):
        for k in range(2 * degree + 1):
            columns[f"{NAME}:SH_DEGREE_{degree}_COEF_{k}"] = a["sh_rest"][:, degree**2 - 1 + k]
    glb, attributes = Glb(), {}
    for name, column in columns.items():
        said = {"normalized": True} if column.dtype.kind == "u" else {}
        attributes[name] = glb.add(column, bounds=name == "POSITION", **said)
    primitive = {
        "attributes": attributes,
        "mode": 0,
        "extensions": {NAME: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    document = {
        "extensionsUsed": [NAME],
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, **({"translation": offset.tolist()} if offset.any() else {})}],
        "meshes": [{"primitives": [primitive]}],
    }
    glb.write(file, document)


def _part(asset: _Asset, primitive: dict, extension: dict, notes: list[str]) -> dict[str, np.ndarray]:
    if extension.get("kernel", "ellipse") != "ellipse":
        notes.append(f"Its splats have the kernel '{extension['kernel']}'; they are taken for ellipsoids.")
    if extension.get("colorSpace", "").startswith("lin"):
        notes.append("Its colours are linear light, which splats here are not; they will look too dark.")
    packed = extension.get("extensions", {}).get(SPZ)
    if packed is not None:
        return spz.unpack(asset.path, asset.view(packed["bufferView"])).arrays
    attributes = primitive["attributes"]

    def column(name: str) -> Float[np.ndarray, "N k"]:
        if name not in attributes:
            raise UserError(f"{asset.path}: its splats lack '{name}', which {NAME} asks for; export it again.")
        return asset.accessor(attributes[name])

    degree = 0
    while f"{NAME}:SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    if degree > 3:
        notes.append(CUT)
    rest = [column(f"{NAME}:SH_DEGREE_{d}_COEF_{k}") for d in range(1, min(degree, 3) + 1) for k in range(2 * d + 1)]
    means = column("POSITION")
    return {
        "means": means.astype(np.float32),
        "log_scales": log_scales(column(f"{NAME}:SCALE")),
        "quats": np.roll(column(f"{NAME}:ROTATION"), 1, axis=1).astype(np.float32),
        "opacity_logits": logits(column(f"{NAME}:OPACITY")[:, 0]),
        "sh_dc": column(f"{NAME}:SH_DEGREE_0_COEF_0").astype(np.float32),
        "sh_rest": np.stack(rest, 1).astype(np.float32) if rest else np.zeros((len(means), 0, 3), np.float32),
    }


class _Asset:
    """A glTF document and its buffers."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.buffers = path, dict[int, bytes]()
        if data[:4] == GLB:
            length = struct.unpack_from("<I", data, 12)[0]
            self.buffers[0] = data[20 + length + 8 :]
            data = data[20 : 20 + length]
        self.document: dict[str, Any] = json.loads(data)

    def nodes(self) -> list[tuple[dict, Float[torch.Tensor, "4 4"]]]:
        """The meshes of the scene that is shown, each with the matrix that moves it there."""
        scenes, nodes = self.document.get("scenes", []), self.document.get("nodes", [])
        roots = scenes[self.document.get("scene", 0)].get("nodes", []) if scenes else list(range(len(nodes)))
        todo, found = [(k, torch.eye(4, dtype=torch.float64)) for k in roots], []
        for _ in range(len(nodes)):  # glTF's nodes are trees: more steps would be a circle
            if not todo:
                break
            k, parent = todo.pop()
            matrix = parent @ _matrix(nodes[k])
            if "mesh" in nodes[k]:
                found.append((self.document["meshes"][nodes[k]["mesh"]], matrix))
            todo += [(child, matrix) for child in nodes[k].get("children", [])]
        return found

    def view(self, k: int) -> bytes:
        view = self.document["bufferViews"][k]
        for name in view.get("extensions", {}):
            raise UserError(f"{self.path} is compressed by {name}, which cannot be read; export it without.")
        start = view.get("byteOffset", 0)
        part = self.buffer(view["buffer"])[start : start + view["byteLength"]]
        if len(part) < view["byteLength"]:
            raise ValueError("a buffer ends early")
        return part

    def buffer(self, k: int) -> bytes:
        if k not in self.buffers:
            uri = self.document["buffers"][k]["uri"]
            inside = uri.startswith("data:")
            self.buffers[k] = (
                base64.b64decode(uri.partition(",")[2]) if inside else (self.path.parent / unquote(uri)).read_bytes()
            )
        return self.buffers[k]

    def accessor(self, k: int) -> Float[np.ndarray, "N k"]:
        """Numbers as float64; normalised integers become shares of their range."""
        a = self.document["accessors"][k]
        if "sparse" in a:
            raise UserError(f"{self.path} has sparse accessors, which cannot be read; export it without.")
        width, kind = WIDTHS[a["type"]], np.dtype(COMPONENTS[a["componentType"]])
        stride = self.document["bufferViews"][a["bufferView"]].get("byteStride") or width * kind.itemsize
        data, start = self.view(a["bufferView"]), a.get("byteOffset", 0)
        values = np.ndarray((a["count"], width), kind, data, start, (stride, kind.itemsize)).astype(np.float64)
        if a.get("normalized"):
            values = np.maximum(values / np.iinfo(kind).max, -1)
        return values


def _matrix(node: dict) -> Float[torch.Tensor, "4 4"]:
    """parent_from_node, of 16 numbers by columns or of translation, rotation (xyzw) and scale."""
    if "matrix" in node:
        return torch.tensor(node["matrix"], dtype=torch.float64).reshape(4, 4).T
    matrix = torch.eye(4, dtype=torch.float64)
    rotation = rotation_from_quaternion(torch.tensor(node.get("rotation", [0, 0, 0, 1]), dtype=torch.float64).roll(1))
    matrix[:3, :3] = rotation * torch.tensor(node.get("scale", [1, 1, 1]), dtype=torch.float64)
    matrix[:3, 3] = torch.tensor(node.get("translation", [0, 0, 0]), dtype=torch.float64)
    return matrix
