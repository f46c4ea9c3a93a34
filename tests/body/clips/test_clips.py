"""Clips of every format: small files of our own in the formats' layouts, with values known by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from body.clips.written import BVH, humanoid, write_gltf

from neural3d.body.clips import READERS, amass, read_motion, write_motion
from neural3d.body.motion import Motion
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_axis_angle, rotation_from_axis_angle
from neural3d.geometry.skeletons import Skeleton


def random_motion(skeleton: Skeleton, count: int = 7, rate: float = 24.0) -> Motion:
    rng = torch.Generator().manual_seed(0)
    rotations = quaternion_from_axis_angle(torch.randn(count, len(skeleton), 3, generator=rng))
    return Motion("random", skeleton, rotations, torch.randn(count, 3, generator=rng), rate)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_bvh_by_hand(tmp_path):
    """Channels in odd orders, a comment's worth of End Sites, a joint that carries its offset as positions."""
    motion = read_motion(written(tmp_path / "a.bvh", BVH))
    assert motion.skeleton.names == ("Hips", "Leg", "Leg_end", "Spine", "Spine_end")
    assert motion.skeleton.parents == (-1, 0, 1, 0, 3)
    assert motion.rate == pytest.approx(25) and len(motion) == 2
    assert "centimetres" in motion.notes[0]
    torch.testing.assert_close(motion.skeleton.rest[2], torch.tensor([0.1, -0.9, 0]))
    # Second frame: the root is turned about y by 90°, then the leg about x by 90°, both seen from their parents.
    joints = motion.joints()[1]
    torch.testing.assert_close(joints[0], torch.tensor([0.0, 0.9, 0.2]))
    torch.testing.assert_close(joints[1], torch.tensor([0.0, 0.9, 0.1]))  # x of the root's frame is −z of the world
    torch.testing.assert_close(joints[2], torch.tensor([-0.9, 0.9, 0.1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(joints[3], torch.tensor([0.0, 1.1, 0.2]))


@pytest.mark.parametrize(("name", "scale"), [("centimetres", 1), ("inches", 1 / 2.54), ("metres", 0.01)])
def test_the_unit_of_a_bvh_is_guessed(tmp_path, name, scale):
    def scaled(line: str) -> str:
        words = line.split()
        lengths = range(1, 4) if "OFFSET" in line else (0, 1, 2, 6, 7, 8) if words[1:2] == ["90"] else ()
        return " ".join(str(float(x) * scale) if k in lengths else x for k, x in enumerate(words))

    text = "\n".join(map(scaled, BVH.splitlines()))
    motion = read_motion(written(tmp_path / "a.bvh", text))
    assert name in motion.notes[0]
    assert float(motion.skeleton.rest[:, 1].max() - motion.skeleton.rest[:, 1].min()) == pytest.approx(1.6, abs=1e-5)


def test_deepmimic_by_hand(tmp_path):
    """The published figure faces +X: walking forwards is along +Z here, its left is +X, and knees bend backwards."""
    frames = [humanoid(0.1, (x, 0.9, 0.0), left_knee=-math.pi / 2) for x in (0.0, 0.5)]
    frames[-1][0] = 0.0
    path = written(tmp_path / "clip.txt", json.dumps({"Loop": "wrap", "Frames": frames}))
    motion = read_motion(path)
    assert motion.loops and motion.rate == pytest.approx(10) and "humanoid3d" in motion.notes[0]
    torch.testing.assert_close(motion.places, torch.tensor([[0.0, 0.9, 0], [0.0, 0.9, 0.5]]))
    at = dict(zip(motion.skeleton.names, motion.joints()[0], strict=True))
    torch.testing.assert_close(at["left_hip"], torch.tensor([0.084887, 0.9, 0]))
    torch.testing.assert_close(at["left_ankle"] - at["left_knee"], torch.tensor([0, 0, -0.40987]), atol=1e-6, rtol=0)
    torch.testing.assert_close(at["right_ankle"] - at["right_knee"], torch.tensor([0, -0.40987, 0]), atol=1e-6, rtol=0)


def test_deepmimic_takes_the_character_beside_it_and_its_axes(tmp_path):
    joints = [
        {"Name": "root", "Type": "none", "Parent": -1, "AttachX": 0, "AttachY": 0, "AttachZ": 5},
        {"Name": "arm", "Type": "revolute", "Parent": 0, "AttachX": 0, "AttachY": 1, "AttachZ": 0},
        {"Name": "hand", "Type": "fixed", "Parent": 1, "AttachX": 0, "AttachY": 0, "AttachZ": 1},
    ]
    joints[1]["AttachThetaX"] = math.pi / 2  # its z points down, −y, at rest
    written(tmp_path / "toy.txt", json.dumps({"Skeleton": {"Joints": joints}}))
    frames = [[0.1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, math.pi / 2]]
    motion = read_motion(written(tmp_path / "toy_wave.txt", json.dumps({"Loop": "none", "Frames": frames})))
    assert motion.skeleton.names == ("root", "arm", "hand") and not motion.notes and not motion.loops
    torch.testing.assert_close(motion.skeleton.rest[2], torch.zeros(3), atol=1e-6, rtol=0)
    # About its own z, which is the world's −y: nothing moves but the frame turns about −y.
    turned = motion.turned()[1, 1]
    torch.testing.assert_close(turned, rotation_from_axis_angle(torch.tensor([0, -math.pi / 2, 0])), atol=1e-6, rtol=0)
    joints[1]["Type"] = "spherical"
    written(tmp_path / "toy.txt", json.dumps({"Skeleton": {"Joints": joints}}))
    with pytest.raises(UserError, match=r"9 numbers a frame.*toy\.txt asks for 12"):
        read_motion(tmp_path / "toy_wave.txt")


def test_frames_of_unlike_durations_come_to_one_rate(tmp_path):
    frames = [humanoid(dt, (x, 0.9, 0.0)) for dt, x in ((0.1, 0.0), (0.2, 0.1), (0.1, 0.3), (0.0, 0.4))]
    motion = read_motion(written(tmp_path / "clip.txt", json.dumps({"Frames": frames})))
    assert motion.rate == pytest.approx(10) and "unlike durations" in motion.notes[-1]
    torch.testing.assert_close(motion.places[:, 2], torch.tensor([0, 0.1, 0.2, 0.3, 0.4]))


@pytest.mark.parametrize(("layout", "width"), [("body", 66), ("smpl", 72), ("smplh", 156), ("smplx", 165)])
def test_amass_by_hand(tmp_path, layout, width):
    """Standing up in AMASS' world, +Z up, is a quarter turn about x of the root, which is none here."""
    poses = np.zeros((2, width))
    poses[:, 0] = math.pi / 2
    poses[1, 3 * amass.average(layout).names.index("left_knee")] = math.pi / 2
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.array([[0, 0, 1.0], [0, -2.0, 1.0]]), mocap_framerate=120)
    motion = read_motion(tmp_path / "a.npz")
    assert motion.skeleton.names == amass.average(layout).names and motion.rate == 120 and "average" in motion.notes[0]
    torch.testing.assert_close(motion.rotations[:, 0], torch.tensor([[1.0, 0, 0, 0]] * 2), atol=1e-6, rtol=0)
    moved = motion.places[1] - motion.places[0]
    torch.testing.assert_close(moved, torch.tensor([0, 0, 2.0]), atol=1e-6, rtol=0)  # −y there is forwards
    at = dict(zip(motion.skeleton.names, motion.joints()[1] - motion.joints()[0] - moved, strict=True))
    torch.testing.assert_close(at["left_ankle"], torch.tensor([0, 0.382, -0.382]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["LINEAR", "STEP", "CUBICSPLINE"])
@pytest.mark.parametrize("skin", [True, False])
def test_gltf_by_hand(tmp_path, how, skin):
    """An armature in centimetres lying on its back, as Blender's exporter leaves them, whose arm turns about y."""
    motion = read_motion(write_gltf(tmp_path / "a.glb", how, skin))
    assert motion.name == "wave" and motion.rate == pytest.approx(2) and len(motion) == 5
    joints = motion.skeleton.names.index("hand")
    hand, root = motion.joints()[:, joints], motion.joints()[:, 0]
    torch.testing.assert_close(motion.skeleton.rest[joints], torch.tensor([0.5, 1, 0]), atol=1e-5, rtol=0)
    angle = {"LINEAR": 1 / 2, "STEP": 0, "CUBICSPLINE": 1 / 2}[how] * math.pi / 2  # halfway to the first key
    for frame, a in ((0, 0.0), (1, angle), (2, math.pi / 2), (4, math.pi / 2)):
        expected = torch.tensor([0.5 * math.cos(a), 1, -0.5 * math.sin(a)]) + torch.tensor([0.1 * frame, 0, 0])
        torch.testing.assert_close(hand[frame], expected, atol=2e-2 if how == "CUBICSPLINE" else 1e-5, rtol=0)
        torch.testing.assert_close(root[frame, 0], torch.tensor(0.1 * frame), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ending", [".bvh", ".npz"])
def test_what_is_written_comes_back(tmp_path, ending):
    motion = random_motion(amass.average("smplh"))
    write_motion(motion, tmp_path / f"clip{ending}")
    again = read_motion(tmp_path / f"clip{ending}")
    assert again.rate == pytest.approx(24) and len(again) == len(motion)
    order = [again.skeleton.names.index(name) for name in motion.skeleton.names]
    assert len(order) == len(again.skeleton)
    torch.testing.assert_close(again.joints()[:, order], motion.joints(), atol=1e-5, rtol=0)
    torch.testing.assert_close(again.turned()[:, order], motion.turned(), atol=1e-5, rtol=0)


def test_bvh_to_bvh(tmp_path):
    first = read_motion(written(tmp_path / "a.bvh", BVH))
    write_motion(first, tmp_path / "b.bvh")
    second = read_motion(tmp_path / "b.bvh")
    assert second.skeleton.names == first.skeleton.names
    torch.testing.assert_close(second.joints(), first.joints(), atol=1e-5, rtol=0)


def test_amass_knows_only_its_own_joints(tmp_path):
    with pytest.raises(UserError, match="retarget"):
        write_motion(read_motion(written(tmp_path / "a.bvh", BVH)), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    with pytest.raises(UserError, match="no clip that can be written"):
        write_motion(random_motion(amass.average("body")), tmp_path / "a.glb")


BROKEN = {
    "no file": ("a.bvh", None, "missing"),
    "unknown ending": ("a.fbx", b"", "no clip that can be read.*bvh"),
    "rubbish.bvh": ("a.bvh", bytes(range(256)) * 9, "no BVH"),
    "rubbish.txt": ("a.txt", bytes(range(256)), "JSON"),
    "rubbish.npz": ("a.npz", bytes(range(256)), "npz"),
    "rubbish.glb": ("a.glb", b"glTF" + bytes(range(256)), "cut off"),
    "empty.gltf": ("a.gltf", b"", "JSON"),
    "brace": ("a.bvh", BVH.replace("}", "", 1), "brace"),
    "brace too many": ("a.bvh", BVH.replace("MOTION", "}\nMOTION"), "closing brace too many"),
    "two roots": ("a.bvh", BVH.replace("JOINT Spine", "ROOT Spine"), "second root"),
    "no offset": ("a.bvh", BVH.replace("OFFSET 10 0 0", ""), "'Leg' has no OFFSET"),
    "channel": ("a.bvh", BVH.replace("Yrotation", "Wrotation", 1), "WROTATION is none"),
    "no motion": ("a.bvh", BVH.partition("MOTION")[0], "lacks HIERARCHY or MOTION"),
    "zero frames": ("a.bvh", BVH[: BVH.index("0 90 0 0")], "no frames"),
    "cut off": ("a.bvh", BVH[:-12], "cut off"),
    "not finite": ("a.bvh", BVH.replace("0 90 20", "0 nan 20"), "channel 2 of frame 2 is not finite"),
    "words": ("a.bvh", BVH.replace("0 90 20", "0 x 20"), "damaged"),
    "frame time": ("a.bvh", BVH.replace("0.04", "0"), "frame time"),
    "no frames": ("a.txt", json.dumps({"Frames": []}), "no frames"),
    "no clip": ("a.txt", json.dumps({"Skeleton": {}}), "no 'Frames'"),
    "unlike frames": ("a.txt", json.dumps({"Frames": [humanoid(0.1), [0.1, 2]]}), "one length"),
    "count": ("a.txt", json.dumps({"Frames": [[0.1, *range(9)]]}), "10 numbers a frame.*asks for 44"),
    "NaN": ("a.txt", json.dumps({"Frames": [[math.nan] * 44]}), "not finite"),
    "text": ("a.txt", json.dumps({"Frames": [["x"] * 44]}), "damaged"),
    "durations": ("a.txt", json.dumps({"Frames": [humanoid(0.0), humanoid(0.0)]}), "lasts"),
    "no animation": ("a.gltf", json.dumps({"nodes": [{}]}), "no animation"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_clip_is_one_sentence(tmp_path, case):
    name, content, said = BROKEN[case]
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(UserError, match=said) as raised:
        read_motion(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poses": None}, "lacks poses"),
        ({"mocap_framerate": None}, "lacks mocap_framerate"),
        ({"poses": np.zeros((2, 30))}, "not .T, 66"),
        ({"trans": np.zeros((3, 3))}, "not .T, 66"),
        ({"poses": np.full((2, 66), np.nan)}, "not finite"),
        ({"poses": np.zeros((0, 66)), "trans": np.zeros((0, 3))}, "no frames"),
        ({"mocap_framerate": 0}, "frames a second"),
        ({"poses": np.array([{}], dtype=object)}, "npz"),  # a pickle: never opened
        ({"rest_joints": np.zeros((3, 3))}, "rest_joints"),
    ],
)
def test_a_broken_amass_clip_is_one_sentence(tmp_path, change, said):
    arrays = {"poses": np.zeros((2, 66)), "trans": np.zeros((2, 3)), "mocap_framerate": 30.0} | change
    np.savez(tmp_path / "a.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(UserError, match=said):
        read_motion(tmp_path / "a.npz")


def test_a_broken_gltf_is_one_sentence(tmp_path):
    good = json.loads(write_gltf(tmp_path / "a.gltf", "LINEAR", True).read_text())
    for change, said in (
        (lambda g: g["nodes"][3].update(children=[1]), "two parents|own ancestor"),
        (lambda g: g["accessors"][0].update(count=10**9), "beyond its buffer"),
        (lambda g: g["skins"][0].update(joints=[77]), "damaged"),
        (lambda g: g["animations"][0]["channels"].clear(), "moves nothing"),
        (lambda g: g["buffers"][0].update(uri="gone.bin"), "gone.bin is missing"),
    ):
        broken = json.loads(json.dumps(good))
        change(broken)
        written(tmp_path / "b.gltf", json.dumps(broken))
        with pytest.raises(UserError, match=said):
            read_motion(tmp_path / "b.gltf")


def test_every_format_is_in_the_table():
    folder = Path(amass.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "reader"} == set(READERS)
