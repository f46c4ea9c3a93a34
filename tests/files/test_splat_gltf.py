"""Khronos' KHR_gaussian_splatting: documents made by hand as the extension says, and what comes back of our own."""

import base64
import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
import trimesh
from files.many_splats import scene

from neural3d.errors import UserError
from neural3d.files.quantised import C0
from neural3d.files.splats import is_splat_file, read_splats, write_splats
from neural3d.ops.spherical_harmonics import spherical_harmonics

K = "KHR_gaussian_splatting"
FLOAT, BYTE, USHORT = 5126, 5120, 5123
WIDTHS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def splats(degree=0, n=2):
    """Attribute: (component type, normalised, values), of n equal splats: turned by 90° about z, of 1, 2 and 0 wide."""
    turn = [0, 0, 0.5**0.5, 0.5**0.5]
    attributes = {
        "POSITION": (FLOAT, False, [[1, 2, 3]] * n),
        f"{K}:ROTATION": (FLOAT, False, [turn] * n),
        f"{K}:SCALE": (FLOAT, False, [[1, 2, 0]] * n),
        f"{K}:OPACITY": (FLOAT, False, [[0.25]] * n),
        f"{K}:SH_DEGREE_0_COEF_0": (FLOAT, False, [[0.5, 0, -0.5]] * n),
    }
    for d in range(1, degree + 1):
        for k in range(2 * d + 1):
            attributes[f"{K}:SH_DEGREE_{d}_COEF_{k}"] = (FLOAT, False, [[d, k, 0.125]] * n)
    return attributes


def document(*parts, nodes=None, extension=None, inside=False):
    """A glTF of primitives and its buffer's bytes; inside: these as a data URI."""
    types = {FLOAT: "<f4", BYTE: "i1", USHORT: "<u2"}
    blob, views, accessors, primitives = b"", [], [], []
    for attributes in parts:
        names = {}
        for name, (kind, normalized, values) in attributes.items():
            table = np.array(values, types[kind])
            names[name] = len(accessors)
            accessors.append({"bufferView": len(views), "componentType": kind, "count": len(table)})
            accessors[-1] |= {"type": WIDTHS[table.shape[1]], "normalized": normalized}
            views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": table.nbytes})
            blob += table.tobytes() + b"\0" * (-table.nbytes % 4)
        kernel = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"} | (extension or {})
        primitives.append({"attributes": names, "mode": 0, "extensions": {K: kernel}})
    uri = {"uri": "data:application/octet-stream;base64," + base64.b64encode(blob).decode()} if inside else {}
    return {
        "asset": {"version": "2.0"}, "extensionsUsed": [K], "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": nodes or [{"mesh": 0}], "meshes": [{"primitives": [p]} for p in primitives],
        "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(blob), **uri}],
    }, blob  # fmt: skip


def glb(path, gltf, blob):
    text = json.dumps(gltf).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(blob), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob)


def test_a_file_made_by_hand(tmp_path):
    glb(tmp_path / "a.glb", *document(splats(3)))
    assert is_splat_file(tmp_path / "a.glb")
    found = read_splats(tmp_path / "a.glb")
    g = found.gaussians
    assert len(g) == 2 and found.up == (0, 1, 0) and not found.notes
    torch.testing.assert_close(g.means[0], torch.tensor([1.0, 2, 3]))
    torch.testing.assert_close(g.log_scales[0].exp(), torch.tensor([1.0, 2, 1e-3]))  # 0 is allowed: flat
    torch.testing.assert_close(g.quats[0], torch.tensor([0.5**0.5, 0, 0, 0.5**0.5]))  # wxyz
    torch.testing.assert_close(g.opacity_logits[0].sigmoid(), torch.tensor(0.25))
    torch.testing.assert_close(g.sh_dc[0], torch.tensor([0.5, 0, -0.5]))
    order = [(d, k) for d in (1, 2, 3) for k in range(2 * d + 1)]
    torch.testing.assert_close(g.sh_rest[0], torch.tensor([[d, k, 0.125] for d, k in order]))


def test_harmonics_have_the_signs_of_the_extension():
    """It lists Y₁ as −0.4886 y, 0.4886 z, −0.4886 x, and Y₂,₋₂ as 1.0925 x y: ours are the same, so none is turned."""
    d = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.8]]), dim=1)
    x, y, z = d[0].tolist()
    ours = spherical_harmonics(d, 3)[0, 1:5]
    theirs = [-0.4886025 * y, 0.4886025 * z, -0.4886025 * x, 1.0925484 * x * y]
    torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-5, atol=1e-6)


def test_integers_are_shares(tmp_path):
    attributes = splats()
    attributes[f"{K}:ROTATION"] = (BYTE, True, [[0, 0, 0, 127], [0, -127, 0, 0]])
    attributes[f"{K}:OPACITY"] = (USHORT, True, [[13107], [65535]])
    attributes[f"{K}:SCALE"] = (USHORT, False, [[3, 2, 1]] * 2)
    glb(tmp_path / "a.glb", *document(attributes))
    g = read_splats(tmp_path / "a.glb").gaussians
    torch.testing.assert_close(g.quats, torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0]]))
    torch.testing.assert_close(g.opacity_logits.sigmoid(), torch.tensor([0.2, 1.0]))
    torch.testing.assert_close(g.log_scales[0].exp(), torch.tensor([3.0, 2, 1]))


def test_nodes_move_their_splats(tmp_path):
    """A child, turned by 90° about y and twice as large, in a parent that moves it; and another, by its matrix."""
    nodes = [
        {"children": [1, 2], "translation": [10, 0, 0]},
        {"mesh": 0, "rotation": [0, 0.5**0.5, 0, 0.5**0.5], "scale": [2, 2, 2]},
        {"mesh": 1, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]},
    ]
    gltf, _ = document(splats(n=1), splats(1, n=1), nodes=nodes, inside=True)
    (tmp_path / "a.gltf").write_text(json.dumps(gltf))
    assert is_splat_file(tmp_path / "a.gltf")
    g = read_splats(tmp_path / "a.gltf").gaussians
    means = g.means[g.means[:, 0].argsort()]
    torch.testing.assert_close(means, torch.tensor([[11.0, 2, 8], [16, 4, -2]]))
    larger = g.log_scales.exp().amax(1).sort().values
    torch.testing.assert_close(larger, torch.tensor([2.0, 4.0]))
    assert g.sh_rest.shape == (2, 3, 3), "parts of a lower degree have zeros"
    gltf["nodes"][1]["scale"] = [2, 1, 1]
    (tmp_path / "a.gltf").write_text(json.dumps(gltf))
    with pytest.raises(UserError, match="stretches or mirrors"):
        read_splats(tmp_path / "a.gltf")


def test_spz_inside(tmp_path):
    """The draft for compression: an .spz file in a buffer, its axes as they are."""
    gaussians = scene(20, 1)
    write_splats(gaussians, tmp_path / "a.spz")
    blob = (tmp_path / "a.spz").read_bytes()
    inside = {"extensions": {"KHR_gaussian_splatting_compression_spz_2": {"bufferView": 0}}}
    gltf, _ = document({}, extension=inside)
    gltf["bufferViews"], gltf["buffers"] = [{"buffer": 0, "byteLength": len(blob)}], [{"byteLength": len(blob)}]
    glb(tmp_path / "a.glb", gltf, blob)
    g = read_splats(tmp_path / "a.glb").gaussians
    stored = gaussians.means * torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(g.means, stored, rtol=0, atol=1 / 4096)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_is_written_comes_back(tmp_path, degree):
    gaussians = scene(degree=degree)
    assert write_splats(gaussians, tmp_path / "a.gs.glb") == []
    assert is_splat_file(tmp_path / "a.gs.glb")
    g = read_splats(tmp_path / "a.gs.glb").gaussians
    unit = torch.nn.functional.normalize(gaussians.quats, dim=1)
    for name in ("means", "log_scales", "opacity_logits", "sh_dc", "sh_rest"):
        torch.testing.assert_close(getattr(g, name), getattr(gaussians, name), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(g.quats, unit)


def test_programs_that_know_no_splats_see_coloured_points(tmp_path):
    gaussians = scene(30, 0)
    write_splats(gaussians, tmp_path / "a.gs.glb")
    (cloud,) = trimesh.load(tmp_path / "a.gs.glb", process=False).geometry.values()
    assert isinstance(cloud, trimesh.PointCloud)
    np.testing.assert_array_equal(cloud.vertices, gaussians.means.detach())
    gltf, accessors = json_of(tmp_path / "a.gs.glb")
    primitive = gltf["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0 and primitive["extensions"][K]["colorSpace"] == "srgb_rec709_display"
    color = accessors(primitive["attributes"]["COLOR_0"]) / 65535
    srgb = (0.5 + C0 * gaussians.sh_dc.detach().numpy()).clip(0, 1)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(color[:, :3], linear, atol=1e-4)
    np.testing.assert_allclose(color[:, 3], gaussians.opacity_logits.sigmoid().detach(), atol=1e-4)
    low = gltf["accessors"][primitive["attributes"]["POSITION"]]["min"]
    np.testing.assert_allclose(low, gaussians.means.detach().amin(0))


def json_of(path):
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    gltf, blob = json.loads(data[20 : 20 + length]), data[28 + length :]
    assert len(data) == struct.unpack_from("<I", data, 8)[0]

    def accessor(k):
        a, view = gltf["accessors"][k], gltf["bufferViews"][k]
        kind = {FLOAT: "<f4", USHORT: "<u2"}[a["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[a["type"]]
        return np.frombuffer(blob, kind, a["count"] * width, view["byteOffset"]).reshape(-1, width)

    return gltf, accessor


def test_a_mesh_is_no_splat_file(tmp_path):
    trimesh.creation.box().export(tmp_path / "box.glb")
    assert not is_splat_file(tmp_path / "box.glb")
    with pytest.raises(UserError, match="holds no splats"):
        read_splats(tmp_path / "box.glb")


def test_a_length_beyond_the_file_takes_no_memory(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"glTF" + struct.pack("<4I", 2, 20, 2**32 - 1, 0))
    tracemalloc.start()
    assert not is_splat_file(tmp_path / "a.glb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_none_and_damaged(tmp_path):
    write_splats(scene(0), tmp_path / "none.gs.glb")
    assert len(read_splats(tmp_path / "none.gs.glb").gaussians) == 0
    gltf, blob = document(splats())
    packed = json.loads(json.dumps(gltf))
    packed["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    lacking = json.loads(json.dumps(gltf))
    del lacking["meshes"][0]["primitives"][0]["attributes"][f"{K}:SCALE"]
    circle = {**gltf, "nodes": [{"children": [0], "mesh": 0}]}
    for name, (gltf_, blob_, message) in {
        "short": (gltf, blob[:-8], "a buffer ends early"),
        "packed": (packed, blob, "compressed by EXT_meshopt_compression"),
        "lacking": (lacking, blob, "lack 'KHR_gaussian_splatting:SCALE'"),
        "list": ([K], blob, "no whole glTF"),
        "index": ({**gltf, "accessors": []}, blob, "no whole glTF"),
    }.items():
        glb(tmp_path / f"{name}.glb", gltf_, blob_)
        with pytest.raises(UserError, match=message) as error:
            read_splats(tmp_path / f"{name}.glb")
        assert f"{name}.glb" in str(error.value)
    glb(tmp_path / "circle.glb", circle, blob)
    assert len(read_splats(tmp_path / "circle.glb").gaussians) == 2


def test_what_our_splats_are_not_is_told(tmp_path):
    glb(tmp_path / "a.glb", *document(splats(), extension={"kernel": "beta", "colorSpace": "lin_rec709_display"}))
    notes = read_splats(tmp_path / "a.glb").notes
    assert "kernel 'beta'" in notes[0] and "linear light" in notes[1]
