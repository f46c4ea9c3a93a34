"""Skinned meshes of glTF files against the bodies that they were made of, frame by frame."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import smpl_arrays

from neural3d.body import load_model
from neural3d.body.motion import Motion
from neural3d.body.rigged import posed_frames, rigged
from neural3d.body.skinned import is_moving, read_moving
from neural3d.errors import UserError
from neural3d.files.rigged_gltf import write_rigged
from neural3d.geometry.rotations import quaternion_from_axis_angle


@pytest.fixture
def body(tmp_path):
    np.savez(tmp_path / "toy.npz", **smpl_arrays())
    return load_model(tmp_path / "toy.npz")


def moves(body, frames=5):
    turns = 0.5 * torch.randn(frames, 24, 3, generator=torch.Generator().manual_seed(0))
    places = torch.randn(frames, 3, generator=torch.Generator().manual_seed(1))
    return Motion("moves", body.skeleton(), quaternion_from_axis_angle(turns), places, 25.0)


def written(body, path, motion):
    with path.open("wb") as file:
        write_rigged(rigged(body, motion), file)
    return path


def test_the_body_that_it_was_made_of(body, tmp_path):
    """Skeleton, weights and the pose correctives that the clip drives, in every frame."""
    motion = moves(body)
    path = written(body, tmp_path / "a.glb", motion)
    assert is_moving(path)
    found = read_moving(path)
    assert found.name == "moves" and found.rate == pytest.approx(25) and torch.equal(found.faces, body.faces)
    torch.testing.assert_close(found.vertices, posed_frames(body, motion), rtol=0, atol=1e-4)


def test_the_rate_is_not_that_of_rounded_times(body, tmp_path):
    motion = replace(moves(body, 40), rate=30.0)
    assert read_moving(written(body, tmp_path / "a.glb", motion)).rate == pytest.approx(30, rel=1e-6)


def test_a_mesh_at_rest_does_not_move(body, tmp_path):
    assert not is_moving(written(body, tmp_path / "a.glb", None))
    assert not is_moving(tmp_path / "toy.npz") and not is_moving(tmp_path / "gone.glb")


def edited(path, change):
    """The document of a .glb changed."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    binary = change(document, data[28 + size :])
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path.write_bytes(head + chunks)
    return path


def test_sparse_morph_targets(body, tmp_path):
    """As Blender writes them: the vertices that a target moves, and no others."""
    path = written(body, tmp_path / "a.glb", moves(body))
    before = read_moving(path).vertices

    def sparse(document, binary):
        for target in document["meshes"][0]["primitives"][0]["targets"]:
            accessor = document["accessors"][target["POSITION"]]
            start = document["bufferViews"][accessor.pop("bufferView")]["byteOffset"]
            document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": 60})
            binary += bytes(range(60))
            view = {"buffer": 0, "byteOffset": start, "byteLength": 720}
            document["bufferViews"].append(view)
            views = len(document["bufferViews"])
            accessor["sparse"] = {
                "count": 60,
                "indices": {"bufferView": views - 2, "componentType": 5121},
                "values": {"bufferView": views - 1},
            }
        document["buffers"][0]["byteLength"] = len(binary)
        return binary

    assert torch.equal(read_moving(edited(path, sparse)).vertices, before)


@pytest.mark.parametrize("what", ["joints", "faces", "weights", "skin", "compressed"])
def test_damaged_files_are_a_sentence(body, tmp_path, what):
    path = written(body, tmp_path / "a.glb", moves(body))

    def damage(document, binary):
        primitive = document["meshes"][0]["primitives"][0]
        if what == "joints":
            document["skins"][0]["joints"] = [0]
        elif what == "faces":
            document["accessors"][primitive["indices"]]["componentType"] = 5121
            document["accessors"][primitive["attributes"]["POSITION"]]["count"] = 30
        elif what == "weights":
            del primitive["attributes"]["WEIGHTS_0"]
        elif what == "skin":
            document["nodes"][-1]["skin"] = 7
        else:
            del document["accessors"][primitive["attributes"]["POSITION"]]["bufferView"]
        return binary

    with pytest.raises(UserError, match=r"a\.glb"):
        read_moving(edited(path, damage))
