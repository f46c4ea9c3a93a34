"""Poses as numbers: the same on every rig, with gradients; a prior's scores guide a model's pose."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from moving import WALKER, walking

from neural3d.body.clips import write_motion
from neural3d.body.clips.amass import average
from neural3d.body.poses import NOISE, PARTS, PosePrior, PoseSpace, clip_numbers, mirrored, poses_of, thinned, turned
from neural3d.body.retarget import retarget
from neural3d.body.windows import mirror_of
from neural3d.body.windows import mirrored as mirrored_motion
from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.geometry.rotations import rotation_from_axis_angle, rotation_from_quaternion
from neural3d.methods.abilities import Guiding
from neural3d.run import load


def part(numbers, name):
    return numbers.unflatten(-1, (-1, 3))[..., PARTS.index(name), :]


def test_numbers_are_those_of_the_pose():
    numbers = clip_numbers(walking())
    t = torch.arange(len(numbers)) / 25
    swing = torch.sin(2 * math.pi * t)
    assert torch.allclose(part(numbers, "left thigh")[:, 0], 0.5 * swing, atol=1e-3)
    assert torch.allclose(part(numbers, "right shin")[:, 0], 0.4 - 0.3 * torch.cos(2 * math.pi * t), atol=1e-3)
    assert torch.allclose(part(numbers, "left forearm")[:, 1], -0.5 - 0.2 * swing, atol=1e-3)
    assert torch.allclose(part(numbers, "spine")[:, 1], 0.1 * swing, atol=1e-3)
    assert part(numbers, "neck").abs().max() < 1e-3
    assert torch.allclose(numbers, clip_numbers(walking(yaw=2.0, start=(3.0, 1.0, 2.0))), atol=1e-3)


def test_another_rig_at_another_rest_has_the_same_numbers():
    """SMPL's joints, retargeted; but for legs, which it bends so that feet stand."""
    motion = walking(seconds=1.0)
    other = retarget(motion, average("smplh"))
    a, b = (clip_numbers(m).unflatten(-1, (-1, 3)) for m in (motion, other))
    arms = [i for i, name in enumerate(PARTS) if "arm" in name or name in ("spine", "neck")]
    assert float((a - b)[:, arms].norm(dim=-1).max()) < 1e-3


def test_left_for_right_of_numbers_is_that_of_motions():
    motion = walking(phase=0.3)
    other = mirrored_motion(motion, mirror_of(WALKER))
    assert torch.allclose(mirrored(clip_numbers(motion)), clip_numbers(other), atol=1e-3)


def test_numbers_have_gradients():
    space = PoseSpace(WALKER)
    pose = (0.3 * torch.randn(2, 15, 3, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: space.numbers(turned(WALKER.parents, rotation_from_axis_angle(p))), pose, atol=1e-4
    )


def test_poses_like_those_taken_are_left_out():
    numbers = clip_numbers(walking(seconds=10.0))
    few = thinned(numbers)
    assert 5 < len(few) <= 26  # one stride, though there are ten
    assert len(thinned(few)) == len(few)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poses")
    (folder / "clips").mkdir()
    for i in range(4):
        write_motion(walking(pace=0.8 + 0.1 * i, phase=0.3 * i), folder / "clips" / f"{i}.bvh")
    main(
        ["train", str(folder / "clips"), str(folder / "run"), "--method", "realnvp", "--set", "horizon=300", "lr=3e-3"]
    )
    return load(folder / "run", "cpu")


def test_splits_are_by_clip(run):
    values, meaning, notes = poses_of(run.data.path)
    assert values.keys() == {"train", "test"} and meaning == run.data.about == {"numbers": "poses"} and notes == []
    wrist = values["test"].reshape(-1, 12, 3)[:, PARTS.index("left shin"), 2]
    assert 0.5 * NOISE < np.std(wrist) < 1.5 * NOISE  # a hinge has its noise alone


def test_a_walkers_poses_are_likelier_than_others(run):
    motion = walking(pace=1.3, phase=0.1)
    prior = PosePrior(run.able(Guiding), motion.skeleton)
    pose = rotation_from_quaternion(motion.rotations[:20])
    own = prior.log_prob(pose)
    noise = rotation_from_axis_angle(0.3 * torch.randn(20, 15, 3, generator=torch.Generator().manual_seed(0)))
    assert own.shape == (20,) and bool((own > prior.log_prob(pose @ noise) + 10).all())
    assert torch.equal(own, prior.log_prob(pose))
    smpl = PosePrior(run.able(Guiding), average("smplh"))
    carried = rotation_from_quaternion(retarget(motion, average("smplh")).rotations[:20])
    assert bool((smpl.log_prob(carried) > prior.log_prob(pose @ noise)).all())


def test_an_unlikely_pose_is_led_back(run):
    motion = walking(pace=1.3)
    prior = PosePrior(run.able(Guiding), motion.skeleton)
    vectors = torch.zeros(1, 15, 3)
    vectors[0, 4, 2] = 0.4  # a knee that bends sideways
    vectors.requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.01)
    first = None
    for _ in range(150):
        optimizer.zero_grad()
        loss = -prior.log_prob(rotation_from_axis_angle(vectors)).sum()
        loss.backward()
        optimizer.step()
        first = float(loss.detach()) if first is None else first
    assert float(loss.detach()) < first - 50 and abs(float(vectors[0, 4, 2].detach())) < 0.15


def test_one_clip_is_too_few(tmp_path):
    write_motion(walking(), tmp_path / "a.bvh")
    with pytest.raises(UserError, match="two or more"):
        poses_of(tmp_path)
    write_motion(replace(walking(), skeleton=replace(WALKER, rest=WALKER.rest[:, [1, 0, 2]])), tmp_path / "b.bvh")
    with pytest.raises(UserError, match="two or more"):
        poses_of(tmp_path)
