"""A mesh as binary .ply: positions in double where float32 would round large coordinates, colours in 8 bits."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.offset import offset_of


def write_ply(mesh: Mesh, file: BinaryIO) -> None:
    """Positions, faces, and what the mesh has of normals and colours (sRGB)."""
    exact = "<f8" if offset_of(mesh.vertices).any() else "<f4"
    fields = [(axis, exact, mesh.vertices[:, k]) for k, axis in enumerate("xyz")]
    if mesh.normals is not None:
        fields += [(f"n{axis}", "<f4", mesh.normals[:, k]) for k, axis in enumerate("xyz")]
    if mesh.colors is not None:
        colors = np.round(np.clip(mesh.colors, 0, 1) * 255)
        fields += [(name, "u1", colors[:, k]) for k, name in enumerate(("red", "green", "blue"))]
    vertices = np.empty(len(mesh.vertices), [(name, kind) for name, kind, _ in fields])
    for name, _, values in fields:
        vertices[name] = values
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    kinds = {"<f8": "double", "<f4": "float", "u1": "uchar"}
    header = [
        *("ply", "format binary_little_endian 1.0", "comment neural3d", f"element vertex {len(vertices)}"),
        *(f"property {kinds[kind]} {name}" for name, kind, _ in fields),
        *(f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    file.write("\n".join(header).encode())
    file.write(vertices.tobytes())
    file.write(faces.tobytes())
