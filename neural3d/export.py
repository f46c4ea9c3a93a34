"""Meshes as files: glTF binary, PLY, OBJ and STL.

| format | colours                                         | numbers          |
| ------ | ----------------------------------------------- | ---------------- |
| .glb   | linear RGB, as glTF asks                        | float32          |
| .ply   | sRGB, 8 bit                                     | float32, binary  |
| .obj   | sRGB after the position (`v x y z r g b`)       | text             |
| .stl   | none: STL cannot hold any                       | float32, binary  |

Files are written beside their place and renamed into it, so a full disk costs nothing that was there before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.files import replacing
from neural3d.geometry.mesh import Mesh
from neural3d.scene.bounds import rotation_to_z

Y_FROM_Z = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)  # z-up to y-up, as is usual


def write_mesh(
    mesh: Mesh, path: str | Path, *, up: str = "native", native_up: Sequence[float] = (0.0, 0.0, 1.0)
) -> None:
    """Write `mesh` to .glb, .ply, .obj or .stl, by the path's ending.

    up: "native" keeps the mesh's own frame; "y" or "z" turns `native_up`, the direction that is up in that frame, to
    that axis. glTF declares +Y as up, so viewers show a z-up capture lying on its back unless
    up="y" is asked for. Raises UserError where the format is unknown or the file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UserError(f"{path}: unknown mesh format {path.suffix!r}; choose one of {', '.join(sorted(_WRITERS))}.")
    if up != "native":
        mesh = mesh.transformed(upright(up, native_up))
    with replacing(path) as part, open(part, "wb") as file:
        write(mesh, file)


def upright(up: str, native_up: Sequence[float]) -> Float[torch.Tensor, "4 4"]:
    """The rotation that turns `native_up` to +Y ("y") or +Z ("z"); for "native" none. UserError for other axes."""
    if up not in ("native", "y", "z"):
        raise UserError(f"Unknown up axis {up!r}; choose native, y or z.")
    turn = torch.eye(4, dtype=torch.float64)
    if up != "native":
        direction = torch.nn.functional.normalize(torch.as_tensor(native_up, dtype=torch.float64), dim=0)
        turn[:3, :3] = (Y_FROM_Z if up == "y" else torch.eye(3).double()) @ rotation_to_z(direction)
    return turn


def srgb_to_linear(color: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """IEC 61966-2-1, values in [0, 1]."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def _bytes_of(colors: Float[np.ndarray, "V 3"]) -> np.ndarray:
    return np.round(np.clip(colors, 0, 1) * 255).astype(np.uint8)


def _write_glb(mesh: Mesh, file: BinaryIO) -> None:
    """glTF 2.0 binary: one mesh, one node. COLOR_0 is linear RGB in float32, which every reader understands.

    There is no material: beside one, readers such as trimesh take vertex colours for a mere attribute and drop them.
    """
    blobs: list[bytes] = []
    accessors: list[dict] = []
    views: list[dict] = []

    def add(array: np.ndarray, component: int, kind: str, target: int, **extra: object) -> int:
        blob = np.ascontiguousarray(array).tobytes()
        views.append({"buffer": 0, "byteOffset": sum(map(len, blobs)), "byteLength": len(blob), "target": target})
        blobs.append(blob + b"\0" * (-len(blob) % 4))
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind, **extra}
        )
        return len(accessors) - 1

    points, arrays = 34962, 34963  # ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER
    float32, uint32 = 5126, 5125
    vertices = mesh.vertices.astype("<f4")
    bounds = {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    attributes = {"POSITION": add(vertices, float32, "VEC3", points, **bounds)}
    if mesh.normals is not None:
        attributes["NORMAL"] = add(mesh.normals.astype("<f4"), float32, "VEC3", points)
    if mesh.colors is not None:
        linear = srgb_to_linear(np.clip(mesh.colors, 0, 1).astype(np.float64))
        attributes["COLOR_0"] = add(linear.astype("<f4"), float32, "VEC3", points)
    indices = add(mesh.faces.reshape(-1).astype("<u4"), uint32, "SCALAR", arrays)

    document = {
        "asset": {"version": "2.0", "generator": "neural3d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, blobs))}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    size = sum(map(len, blobs))
    file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + size))
    file.write(struct.pack("<I4s", len(text), b"JSON") + text)
    file.write(struct.pack("<I4s", size, b"BIN\0"))
    for blob in blobs:
        file.write(blob)


def _write_ply(mesh: Mesh, file: BinaryIO) -> None:
    fields = [(axis, "<f4", mesh.vertices[:, k]) for k, axis in enumerate("xyz")]
    if mesh.normals is not None:
        fields += [(f"n{axis}", "<f4", mesh.normals[:, k]) for k, axis in enumerate("xyz")]
    if mesh.colors is not None:
        fields += [(name, "u1", _bytes_of(mesh.colors)[:, k]) for k, name in enumerate(("red", "green", "blue"))]
    vertices = np.empty(len(mesh.vertices), [(name, kind) for name, kind, _ in fields])
    for name, _, values in fields:
        vertices[name] = values
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        *("ply", "format binary_little_endian 1.0", "comment neural3d", f"element vertex {len(vertices)}"),
        *(f"property {kinds[kind]} {name}" for name, kind, _ in fields),
        *(f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    file.write("\n".join(header).encode())
    file.write(vertices.tobytes())
    file.write(faces.tobytes())


def _write_obj(mesh: Mesh, file: BinaryIO) -> None:
    file.write(b"# neural3d\n")
    rows = mesh.vertices if mesh.colors is None else np.concatenate([mesh.vertices, np.clip(mesh.colors, 0, 1)], axis=1)
    _write_rows(file, "v" + " %.9g" * 3 + " %.5g" * (rows.shape[1] - 3) + "\n", rows)
    if mesh.normals is not None:
        _write_rows(file, "vn %.5g %.5g %.5g\n", mesh.normals)
        _write_rows(file, "f %d//%d %d//%d %d//%d\n", np.repeat(mesh.faces + 1, 2, axis=1))
    else:
        _write_rows(file, "f %d %d %d\n", mesh.faces + 1)


def _write_rows(file: BinaryIO, row: str, values: np.ndarray, batch: int = 1 << 14) -> None:
    for i in range(0, len(values), batch):
        piece = values[i : i + batch]
        file.write(((row * len(piece)) % tuple(piece.reshape(-1).tolist())).encode())


def _write_stl(mesh: Mesh, file: BinaryIO) -> None:
    triangles = np.zeros(len(mesh.faces), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    vectors = mesh.face_vectors()
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    triangles["normal"] = vectors / np.where(length > 0, length, 1)
    triangles["corners"] = mesh.vertices[mesh.faces]
    file.write(b"neural3d".ljust(80, b"\0") + struct.pack("<I", len(triangles)))
    file.write(triangles.tobytes())


_WRITERS: dict[str, Callable[[Mesh, BinaryIO], None]] = {
    ".glb": _write_glb,
    ".ply": _write_ply,
    ".obj": _write_obj,
    ".stl": _write_stl,
}
