"""Windows of clips: the numbers mean the motion, wherever it happens and whichever way it faces."""

import math

import numpy as np
import pytest
import torch

from neural3d.body.clips import write_motion
from neural3d.body.motion import Motion
from neural3d.body.windows import FRAMES, RATE, continuous, holds_clips, numbers_of, resampled, windows_of
from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_axis_angle, rotation_from_axis_angle
from neural3d.geometry.skeletons import Skeleton

SKELETON = Skeleton(("hips", "spine", "head"), (-1, 0, 1), torch.tensor([[0.0, 1, 0], [0, 1.3, 0], [0, 1.6, 0]]))


def nodding(seconds=6.0, rate=30.0, yaw=0.0, start=(0.0, 1.0, 0.0)):
    """Walks forwards, 1 m/s, and nods with the head; the world turned by `yaw` and moved to `start`."""
    t = torch.arange(int(seconds * rate) + 1) / rate
    turn = torch.zeros(len(t), 3, 3)
    turn[:, 0, 1] = yaw
    turn[:, 2, 0] = 0.5 * torch.sin(2 * t)
    ahead = torch.tensor([math.sin(yaw), 0.0, math.cos(yaw)])
    places = torch.tensor(start) + t[:, None] * ahead
    return Motion("nod", SKELETON, quaternion_from_axis_angle(turn), places, rate)


def test_numbers_are_those_of_the_motion():
    numbers = numbers_of(resampled(nodding(), RATE))
    t = np.arange(len(numbers)) / RATE
    assert np.allclose(numbers[:, 6], 0.5 * np.sin(2 * t), atol=2e-3)  # the head's nod
    assert np.allclose(numbers[:, 9:], np.stack([0 * t, 1 + 0 * t, t], 1), atol=1e-3)
    assert np.allclose(numbers[:, :6], 0, atol=1e-5)


def test_where_and_which_way_does_not_matter():
    here = numbers_of(nodding())
    there = numbers_of(nodding(yaw=2.5, start=(4.0, 1.0, -7.0)))
    assert np.allclose(here, there, atol=1e-4)


def test_rotations_go_on_past_half_a_turn():
    angles = torch.linspace(0, 2.5 * math.pi, 60)
    vectors = torch.zeros(60, 1, 3)
    vectors[:, 0, 1] = (angles + math.pi) % (2 * math.pi) - math.pi
    smooth = continuous(vectors)
    assert float((smooth[1:] - smooth[:-1]).norm(dim=-1).max()) < 0.2
    assert torch.allclose(rotation_from_axis_angle(smooth), rotation_from_axis_angle(vectors), atol=1e-4)


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        write_motion(nodding(yaw=i), folder / f"{i}.bvh")
    return folder


def test_a_folder_of_clips(clips, tmp_path):
    assert holds_clips(clips)
    windows, notes = windows_of(clips)
    assert windows["train"].shape[1:] == (FRAMES, 12) and len(windows["test"]) * 2 == len(windows["train"])
    assert notes == []
    write_motion(nodding(seconds=1.0), clips / "short.bvh")
    assert "1 of 4 clips" in windows_of(clips)[1][0]


def test_only_short_clips_are_refused(tmp_path):
    write_motion(nodding(seconds=1.0), tmp_path / "short.bvh")
    with pytest.raises(UserError, match="no clip of 2 seconds"):
        windows_of(tmp_path)


def test_from_clips_to_a_prior(clips, tmp_path, capsys):
    settings = ["horizon=60", "channels=16", "lr=5e-3"]
    main(["train", str(clips), str(tmp_path / "run"), "--method", "wavenet", "--set", *settings])
    main(["eval", str(tmp_path / "run")])
    assert "50 frames of 12 numbers" in capsys.readouterr().out
    main(["sample", str(tmp_path / "run"), str(tmp_path / "new"), "--count", "2"])
    assert np.load(tmp_path / "new" / "samples.npz")["samples"].shape == (2, FRAMES, 12)
