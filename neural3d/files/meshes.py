"""Meshes as files: glTF binary, USDZ, PLY, OBJ and STL. How they stand is told in `geometry.upright`, what
becomes of large coordinates in `geometry.offset`.

| format | colours of vertices                             | texture                    | numbers          |
| ------ | ----------------------------------------------- | -------------------------- | ---------------- |
| .glb   | linear RGB, as glTF asks                        | PNG inside, unlit material | float32          |
| .usdz  | linear RGB                                      | PNG inside, unlit material | float32          |
| .ply   | sRGB, 8 bit                                     | none                       | float32, binary  |
| .obj   | sRGB after the position (`v x y z r g b`)       | .mtl and .png beside it    | text             |
| .stl   | none: STL cannot hold any                       | none                       | float32, binary  |

A mesh with a texture is written without the colours of its vertices: viewers would multiply the two.

Files are written beside their place and renamed into it, so a full disk costs nothing that was there before.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8

from neural3d.disk import replacing
from neural3d.errors import UserError
from neural3d.files.glb import INDICES, Glb
from neural3d.files.mesh_ply import write_ply
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.offset import offset_of, write_offset
from neural3d.geometry.upright import file_from_own
from neural3d.images.png import png
from neural3d.images.srgb import srgb_to_linear


def write_mesh(
    mesh: Mesh, path: str | Path, *, up: str | None = None, native_up: Sequence[float] | torch.Tensor = (0.0, 0.0, 1.0)
) -> Mesh:
    """Write `mesh` to .glb, .usdz, .ply, .obj or .stl, by the path's ending; returns it as written.

    native_up: the direction that is up in the mesh's own frame. up: "y" or "z" turns it to that axis, "capture" keeps
    the mesh's own frame; None: as the format has it, which `geometry.upright` lists.
    Raises UserError where the format is unknown or cannot hold the mesh's texture, or the file cannot be written.
    """
    path = Path(path)
    check_format(path, textured=mesh.texture is not None)
    mesh = mesh.transformed(file_from_own(path, up, native_up))
    if mesh.texture is not None and path.suffix.lower() == ".obj":
        _write_material(mesh.texture, path)
    offset = offset_of(mesh.vertices) if path.suffix.lower() == ".stl" else np.zeros(3)
    near = replace(mesh, vertices=mesh.vertices - offset) if offset.any() else mesh
    with replacing(path) as part, open(part, "wb") as file:
        if path.suffix.lower() == ".obj":
            file.write(_obj_header(path, textured=mesh.texture is not None))
        _WRITERS[path.suffix.lower()](near, file)
    write_offset(path, offset)
    return mesh


def check_format(path: Path, textured: bool = False) -> None:
    """Raises UserError where meshes, or those with textures, cannot be written under such a name, or not here."""
    ending = path.suffix.lower()
    if ending not in _WRITERS:
        raise UserError(f"{path}: unknown mesh format {path.suffix!r}; choose one of {', '.join(sorted(_WRITERS))}.")
    if textured and ending not in TEXTURED:
        raise UserError(f"{path}: {ending} files hold no texture; choose one of {', '.join(TEXTURED)}.")
    if ending == ".usdz" and importlib.util.find_spec("pxr") is None:
        raise UserError(f"{path}: USDZ is written by usd-core, which is not installed: pip install 'neural3d[usd]'.")


def _write_glb(mesh: Mesh, file: BinaryIO) -> None:
    """glTF 2.0 binary: one mesh, one node. COLOR_0 is linear RGB in float32, which every reader understands.

    Only a texture has a material: beside one, readers such as trimesh take vertex colours for a mere attribute and drop
    them. It is unlit (KHR_materials_unlit), because photos show the light of their day already.
    """
    glb = Glb()
    offset = offset_of(mesh.vertices)
    attributes = {"POSITION": glb.add(mesh.vertices - offset, bounds=True)}
    if mesh.normals is not None:
        attributes["NORMAL"] = glb.add(mesh.normals)
    primitive: dict[str, object] = {"attributes": attributes}
    material: dict[str, object] = {}
    if mesh.texture is not None:
        assert mesh.uv is not None
        attributes["TEXCOORD_0"] = glb.add(mesh.uv)
        primitive["material"] = 0
        material = {**_UNLIT, "images": [{"bufferView": glb.view(png(mesh.texture)), "mimeType": "image/png"}]}
    elif mesh.colors is not None:
        attributes["COLOR_0"] = glb.add(srgb_to_linear(np.clip(mesh.colors, 0, 1).astype(np.float64)))
    primitive["indices"] = glb.add(mesh.faces.reshape(-1).astype(np.uint32), INDICES)
    document = {
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": offset.tolist()} if offset.any() else {"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        **material,
    }
    glb.write(file, document)


def _write_usdz(mesh: Mesh, file: BinaryIO) -> None:
    from neural3d.files.usdz import write_usdz

    write_usdz(mesh, file)


def _write_obj(mesh: Mesh, file: BinaryIO) -> None:
    rows = mesh.vertices
    if mesh.colors is not None and mesh.texture is None:
        rows = np.concatenate([rows, np.clip(mesh.colors, 0, 1)], axis=1)
    number = " %.15g" if offset_of(mesh.vertices).any() else " %.9g"
    _write_rows(file, "v" + number * 3 + " %.5g" * (rows.shape[1] - 3) + "\n", rows)
    corner = ["%d", "", ""]
    if mesh.texture is not None:
        assert mesh.uv is not None
        _write_rows(file, "vt %.7g %.7g\n", mesh.uv * [1, -1] + [0, 1])  # OBJ's v points up
        corner[1] = "%d"
    if mesh.normals is not None:
        _write_rows(file, "vn %.5g %.5g %.5g\n", mesh.normals)
        corner[2] = "%d"
    row = " ".join(["f", *3 * ["/".join(corner).rstrip("/")]]) + "\n"
    _write_rows(file, row, np.repeat(mesh.faces + 1, corner.count("%d"), axis=1))


def _obj_header(path: Path, textured: bool) -> bytes:
    material = f"mtllib {path.stem}.mtl\nusemtl texture\n" if textured else ""
    return f"# neural3d\n{material}".encode()


def _write_material(texture: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """PATH.png and PATH.mtl, which an OBJ file names: unlit (illum 0), since the photos' light is in the texture."""
    with replacing(path.with_suffix(".png")) as part:
        part.write_bytes(png(texture))
    with replacing(path.with_suffix(".mtl")) as part:
        part.write_text(f"# neural3d\nnewmtl texture\nKd 1 1 1\nillum 0\nmap_Kd {path.stem}.png\n")


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


# Enlarged and reduced smoothly, and never repeated: what lies across the picture's border is another part.
_UNLIT: dict[str, object] = {
    "extensionsUsed": ["KHR_materials_unlit"],
    "materials": [
        {
            "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1},
            "extensions": {"KHR_materials_unlit": {}},
        }
    ],
    "textures": [{"source": 0, "sampler": 0}],
    "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],  # linear, mip-mapped, clamped
}
TEXTURED = (".glb", ".obj", ".usdz")
_WRITERS: dict[str, Callable[[Mesh, BinaryIO], None]] = {
    ".glb": _write_glb,
    ".usdz": _write_usdz,
    ".ply": write_ply,
    ".obj": _write_obj,
    ".stl": _write_stl,
}
