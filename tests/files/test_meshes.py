import importlib.util
import json
import struct

import numpy as np
import pytest
import torch
import trimesh

from neural3d.errors import UserError
from neural3d.files import meshes
from neural3d.geometry.mesh import Mesh, extract
from neural3d.synthetic.analytic import Torus

FORMATS = ["glb", "ply", "obj", "stl"]


@pytest.fixture(scope="module")
def torus() -> Mesh:
    """Coloured, off centre and not symmetric in any axis, so that swapped columns show."""
    box = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
    mesh = extract(Torus(0.55, 0.2, (0.1, -0.07, 0.15)).sdf, box, 48)
    return mesh.colored(lambda x, n: (x * torch.tensor([0.5, 0.4, 0.9]) + 0.5).clamp(0, 1))


def srgb_of_linear(c: np.ndarray) -> np.ndarray:
    return np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("ending", FORMATS)
def test_trimesh_reads_back_the_same_mesh(torus, tmp_path, ending):
    path = tmp_path / f"mesh.{ending}"
    meshes.write_mesh(torus, path, up="capture")
    read = trimesh.load(path, force="mesh", process=ending == "stl")
    assert read.is_watertight and read.is_winding_consistent
    assert read.volume == pytest.approx(torus.volume, rel=1e-4)
    assert len(read.faces) == len(torus.faces)
    if ending != "stl":  # which repeats every corner
        np.testing.assert_allclose(read.vertices, torus.vertices, atol=1e-6)
        np.testing.assert_array_equal(read.faces, torus.faces)
        assert np.min((read.vertex_normals * torus.normals).sum(1)) > 0.98  # trimesh may weigh faces its own way
        expected = meshes.srgb_to_linear(torus.colors) if ending == "glb" else torus.colors
        np.testing.assert_allclose(read.visual.vertex_colors[:, :3] / 255, expected, atol=1.01 / 255)
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*"))


def test_glb_colours_are_linear_and_exact(torus, tmp_path):
    """Read by hand: chunk by chunk, as the specification lays them out."""
    meshes.write_mesh(torus, tmp_path / "mesh.glb", up="capture")
    data = (tmp_path / "mesh.glb").read_bytes()
    magic, version, total = struct.unpack_from("<4sII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and length % 4 == 0
    document = json.loads(data[20 : 20 + length])
    size, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert kind == b"BIN\0" and size == document["buffers"][0]["byteLength"] == len(data) - 28 - length
    binary = data[28 + length :]

    primitive = document["meshes"][0]["primitives"][0]
    accessor = document["accessors"][primitive["attributes"]["COLOR_0"]]
    assert accessor["componentType"] == 5126 and accessor["type"] == "VEC3"
    view = document["bufferViews"][accessor["bufferView"]]
    assert view["byteOffset"] % 4 == 0
    colors = np.frombuffer(binary, "<f4", accessor["count"] * 3, view["byteOffset"]).reshape(-1, 3)
    np.testing.assert_allclose(srgb_of_linear(colors), torus.colors, atol=1e-6)
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(position["min"], torus.vertices.min(0))
    np.testing.assert_allclose(position["max"], torus.vertices.max(0))


def test_known_colours_in_each_convention(tmp_path):
    """Middle grey, sRGB 188, is half the light: 0.5029 in linear, 188 in PLY."""
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.full((3, 3), 188 / 255, np.float32))
    assert meshes.srgb_to_linear(np.array([0.0, 0.04, 188 / 255, 1.0])) == pytest.approx(
        [0, 0.0030960, 0.50289, 1], abs=1e-5
    )
    meshes.write_mesh(mesh, tmp_path / "a.ply")
    assert (tmp_path / "a.ply").read_bytes().count(b"\xbc\xbc\xbc") == 3
    meshes.write_mesh(mesh, tmp_path / "a.obj", up="capture")
    assert "v 1 0 0 0.73725 0.73725 0.73725" in (tmp_path / "a.obj").read_text()


@pytest.mark.parametrize("ending", FORMATS)
def test_without_colours_and_normals(torus, tmp_path, ending):
    plain = Mesh(torus.vertices, torus.faces)
    meshes.write_mesh(plain, tmp_path / f"mesh.{ending}")
    read = trimesh.load(tmp_path / f"mesh.{ending}", force="mesh", process=ending == "stl")
    assert read.is_watertight and len(read.faces) == len(plain.faces)


@pytest.mark.skipif(importlib.util.find_spec("open3d") is None, reason="Open3D is not installed")
@pytest.mark.parametrize("ending", FORMATS)
def test_open3d_reads_back_the_same_mesh(torus, tmp_path, ending):
    import open3d

    meshes.write_mesh(torus, tmp_path / f"mesh.{ending}", up="capture")
    read = open3d.io.read_triangle_mesh(str(tmp_path / f"mesh.{ending}"))
    corners = np.asarray(read.triangles)  # compared corner by corner: Open3D may number the vertices anew
    np.testing.assert_allclose(np.asarray(read.vertices)[corners], torus.vertices[torus.faces], atol=1e-6)
    if ending in ("ply", "obj"):
        np.testing.assert_allclose(np.asarray(read.vertex_colors)[corners], torus.colors[torus.faces], atol=1.01 / 255)


def test_up_axis(torus, tmp_path):
    def read(**options):
        meshes.write_mesh(torus, tmp_path / "mesh.ply", **options)
        return np.asarray(trimesh.load(tmp_path / "mesh.ply", process=False).vertices)

    x, y, z = torus.vertices.T
    np.testing.assert_allclose(read(up="capture"), torus.vertices, atol=1e-6)
    np.testing.assert_allclose(read(up="z"), torus.vertices, atol=1e-6)
    np.testing.assert_allclose(read(up="y"), np.stack([x, z, -y], 1), atol=1e-6)
    np.testing.assert_allclose(read(up="z", native_up=(0, 1, 0)), np.stack([x, -z, y], 1), atol=1e-6)
    flipped = read(up="y", native_up=(0, -1, 0))  # COLMAP's usual frame: y points down
    np.testing.assert_allclose(flipped[:, 1], -y, atol=1e-6)
    assert trimesh.Trimesh(flipped, torus.faces, process=False).volume == pytest.approx(torus.volume, rel=1e-4)


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_formats_that_have_an_up_axis_get_it(torus, tmp_path, ending):
    """Without a word: in vertices and normals, not by a matrix that readers would have to apply."""
    native_up = np.array([0.6, 0.0, -0.8])
    written = meshes.write_mesh(torus, tmp_path / f"mesh.{ending}", native_up=native_up)
    np.testing.assert_allclose(written.vertices[:, 1], torus.vertices @ native_up, atol=1e-6)
    np.testing.assert_allclose(written.normals[:, 1], torus.normals @ native_up, atol=1e-6)
    read = trimesh.load(tmp_path / f"mesh.{ending}", process=False)
    if ending == "glb":
        assert np.array_equal(read.graph[read.graph.nodes_geometry[0]][0], np.eye(4))
        read = next(iter(read.geometry.values()))
    np.testing.assert_allclose(read.vertices, written.vertices, atol=1e-6)
    np.testing.assert_allclose(read.vertex_normals, written.normals, atol=1e-4)
    assert read.volume == pytest.approx(torus.volume, rel=1e-4)
    kept = meshes.write_mesh(torus, tmp_path / f"mesh.{ending}", up="capture", native_up=native_up)
    np.testing.assert_array_equal(kept.vertices, torus.vertices)


def test_errors_are_said_and_cost_nothing(torus, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"unknown mesh format '\.fbx'"):
        meshes.write_mesh(torus, tmp_path / "mesh.fbx")
    with pytest.raises(UserError, match="up axis"):
        meshes.write_mesh(torus, tmp_path / "mesh.ply", up="x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        meshes.write_mesh(torus, tmp_path / "file" / "mesh.ply")
    path = tmp_path / "mesh.ply"
    path.write_bytes(b"precious")

    def full_disk(mesh, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(meshes._WRITERS, ".ply", full_disk)
    with pytest.raises(UserError, match="the disk or its quota is full"):
        meshes.write_mesh(torus, path)
    assert path.read_bytes() == b"precious" and {p.name for p in tmp_path.iterdir()} == {"file", "mesh.ply"}


@pytest.fixture
def textured() -> Mesh:
    """A square whose picture has a red top left corner; u right, v down. Its top edge is at y = 1."""
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    picture[0, 0] = [255, 0, 0]
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    uv = np.stack([corners[:, 0], 1 - corners[:, 1]], axis=1)
    up = np.tile(np.array([0, 0, 1], np.float32), (4, 1))
    grey = np.full((4, 3), 0.5, np.float32)
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), grey, up, uv.astype(np.float32), picture)


@pytest.mark.parametrize("ending", ["glb", "obj"])
def test_trimesh_reads_the_texture_back(textured, tmp_path, ending):
    """trimesh's v points up, as OBJ's does: texel (row i, column j) is at ((j + ½) / 8, 1 − (i + ½) / 8)."""
    meshes.write_mesh(textured, tmp_path / f"a mesh.{ending}", up="capture")
    read = trimesh.load(tmp_path / f"a mesh.{ending}", force="mesh", process=False)
    material = read.visual.material
    image = material.baseColorTexture if ending == "glb" else material.image
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), textured.texture)
    corner = np.flatnonzero((read.vertices == [0, 1, 0]).all(1))  # top left in space ...
    np.testing.assert_allclose(read.visual.uv[corner], [[0, 1]])  # ... and in the picture
    np.testing.assert_allclose(read.visual.uv, read.vertices[:, :2], atol=1e-6)
    assert len(read.faces) == 2 and read.area == pytest.approx(1)


def test_a_textured_glb_is_unlit_and_says_so(textured, tmp_path):
    meshes.write_mesh(textured, tmp_path / "mesh.glb")
    data = (tmp_path / "mesh.glb").read_bytes()
    document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    (material,) = document["materials"]
    assert document["extensionsUsed"] == ["KHR_materials_unlit"] and material["extensions"] == {
        "KHR_materials_unlit": {}
    }
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    (primitive,) = document["meshes"][0]["primitives"]
    assert "COLOR_0" not in primitive["attributes"]  # it would be multiplied with the texture
    (image,) = document["images"]
    assert image["mimeType"] == "image/png"
    view = document["bufferViews"][image["bufferView"]]
    start = 28 + struct.unpack_from("<I", data, 12)[0] + view["byteOffset"]
    assert data[start : start + 8] == b"\x89PNG\r\n\x1a\n" and "target" not in view


def test_textures_move_with_their_mesh_and_want_a_format_that_holds_them(textured, tmp_path):
    turned = textured.transformed(np.diag([2.0, 2, -2, 1]))
    np.testing.assert_array_equal(turned.uv, textured.uv)
    assert turned.texture is textured.texture
    half = textured.kept(np.array([1]))
    np.testing.assert_array_equal(half.uv, textured.uv[[0, 2, 3]])
    for ending in ("stl", "ply"):
        with pytest.raises(UserError, match=rf"\.{ending} files hold no texture; choose one of \.glb, \.obj, \.usdz"):
            meshes.write_mesh(textured, tmp_path / f"mesh.{ending}")
    assert not list(tmp_path.iterdir())
