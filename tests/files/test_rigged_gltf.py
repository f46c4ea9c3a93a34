"""A body that moves, as any viewer would compute it from the file: skinning, morph targets, animation."""

import io
import json
import struct

import numpy as np
import torch

from neural3d.body.motion import Motion
from neural3d.files.rigged_gltf import Rigged, fewer_bones, write_rigged
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.geometry.skeletons import Skeleton

RNG = np.random.default_rng(0)
PARENTS, REST = (-1, 0, 1, 1), np.array([[0, 1.0, 0], [0, 1.4, 0.1], [0.3, 1.6, 0], [-0.3, 1.6, 0]])
VERTICES = RNG.uniform([-0.5, 0.7, -0.5], [0.5, 1.7, 0.5], (30, 3))


def body(**more):
    weights = RNG.uniform(0.1, 1, (30, 3))
    return Rigged(
        vertices=VERTICES, faces=RNG.integers(0, 30, (20, 3)), normals=np.tile([0.0, 1, 0], (30, 1)),
        bones=np.stack([RNG.permutation(4)[:3] for _ in range(30)]), weights=weights / weights.sum(1, keepdims=True),
        rest=REST, parents=PARENTS, names=("hips", "chest", "left", "right"), **more,
    )  # fmt: skip


def clip(frames=5):
    turns = torch.nn.functional.normalize(torch.from_numpy(RNG.normal(size=(frames, 4, 4))), dim=-1)
    return Motion("swing", Skeleton(("hips", "chest", "left", "right"), PARENTS, torch.from_numpy(REST)), turns,
                  torch.from_numpy(RNG.normal(size=(frames, 3))), rate=10.0)  # fmt: skip


def read(body):
    """The document and a function that gives an accessor's array."""
    file = io.BytesIO()
    write_rigged(body, file)
    data = file.getvalue()
    length = struct.unpack_from("<I", data, 12)[0]
    document, start = json.loads(data[20 : 20 + length]), 28 + length
    kinds = {5126: "<f4", 5125: "<u4", 5121: "u1"}
    widths = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}

    def array(number):
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0 and accessor["count"] > 0
        kind, width = kinds[accessor["componentType"]], widths[accessor["type"]]
        return np.frombuffer(data, kind, accessor["count"] * width, start + view["byteOffset"]).reshape(-1, width)

    assert struct.unpack_from("<4sII", data) == (b"glTF", 2, len(data))
    return document, array


def test_each_frame_moves_vertices_as_the_motion_says():
    motion, shape = clip(), body()
    shape = Rigged(**{**vars(shape), "clip": "swing", "times": np.arange(5) / 10, "rotations": motion.rotations.numpy(),
                      "places": motion.places.numpy()})  # fmt: skip
    document, array = read(shape)
    primitive = document["meshes"][0]["primitives"][0]["attributes"]
    bones, weights = array(primitive["JOINTS_0"]), array(primitive["WEIGHTS_0"])
    bind = array(document["skins"][0]["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    animation = document["animations"][0]
    assert np.allclose(weights.sum(1), 1, atol=1e-6) and animation["name"] == "swing"
    for frame in range(5):
        local = [np.eye(4) for _ in PARENTS]
        for node, own in zip(document["nodes"], local):
            own[:3, 3] = node["translation"]
        for channel in animation["channels"]:
            value = array(animation["samplers"][channel["sampler"]]["output"])[frame]
            own = local[channel["target"]["node"]]
            if channel["target"]["path"] == "rotation":
                own[:3, :3] = rotation_from_quaternion(torch.tensor(np.roll(value, 1)).double()).numpy()
            else:
                own[:3, 3] = value
        world = [local[0]]
        for joint, parent in enumerate(PARENTS[1:], 1):
            assert joint in document["nodes"][parent]["children"]
            world.append(world[parent] @ local[joint])
        moved = np.stack(world) @ bind
        vertices = np.concatenate([array(primitive["POSITION"]), np.ones((30, 1))], 1)
        found = np.einsum("vk,vkij,vj->vi", weights, moved[bones], vertices)[:, :3]
        turned, joints = motion.turned()[frame].numpy(), motion.joints()[frame].numpy()
        np.testing.assert_allclose([w[:3, 3] for w in world], joints, atol=1e-5)
        expected = np.zeros((30, 3))
        for k in range(3):
            bone = shape.bones[:, k]
            arm = np.einsum("vij,vj->vi", turned[bone], VERTICES - REST[bone])
            expected += shape.weights[:, k, None] * (arm + joints[bone])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_morph_targets_and_texture_coordinates():
    uv, added = RNG.uniform(0, 1, (30, 2)), RNG.normal(size=(30, 3))
    document, array = read(body(uv=uv, morphs={"age+": added, "age-": -added}))
    mesh = document["meshes"][0]
    primitive = mesh["primitives"][0]
    assert mesh["extras"]["targetNames"] == ["age+", "age-"] and mesh["weights"] == [0, 0]
    np.testing.assert_allclose(array(primitive["targets"][1]["POSITION"]), -added, rtol=1e-6)
    np.testing.assert_allclose(array(primitive["attributes"]["TEXCOORD_0"]), uv * [1, -1] + [0, 1], atol=1e-6)
    assert "animations" not in document and document["scenes"][0]["nodes"] == [0, 4]


def test_four_bones_and_no_more():
    bones, weights = fewer_bones(np.array([[5, 3, 2, 1, 9]]), np.array([[0.4, 0.3, 0.1, 0.1, 0.1]]))
    assert bones.tolist() == [[5, 3, 2, 1]] and np.allclose(weights, np.array([[4, 3, 1, 1]]) / 9)
    bones, weights = fewer_bones(np.array([[5, 3]]), np.array([[1.0, 0.0]]))
    assert bones.tolist() == [[5, 0, 0, 0]] and weights.tolist() == [[1, 0, 0, 0]]
