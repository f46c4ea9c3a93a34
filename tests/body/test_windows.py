"""Windows of clips: split by recording, varied to learn from, loops that go on, copies left out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from moving import WALKER, walking

from neural3d.body.clips import write_motion
from neural3d.body.motion import Motion
from neural3d.body.tracks import features_of, track_of
from neural3d.body.windows import (
    FRAMES,
    SPEEDS,
    about,
    alike,
    going_on,
    holds_clips,
    mirror_of,
    mirrored,
    skeleton_of,
    windows,
    windows_of,
)
from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.geometry.rotations import quaternion_from_axis_angle, quaternion_product


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        write_motion(walking(pace=0.8 + 0.2 * i), folder / f"{i}.bvh")
    return folder


def test_a_folder_of_clips(clips):
    assert holds_clips(clips)
    found, meaning, notes = windows_of(clips)
    assert found.keys() == {"train", "test"} and notes == []
    assert found["train"].shape[1:] == (FRAMES, 3 * len(meaning["names"]) + 7)
    assert len(found["train"]) > 2 * 3 * len(found["test"])  # two clips, at three speeds, mirrored
    assert skeleton_of(meaning).parents == tuple(meaning["parents"]) and skeleton_of({}) is None
    (clips / "LICENSE.txt").write_text("as you like")
    assert "LICENSE.txt is no whole JSON" in windows_of(clips)[2][0]
    (clips / "LICENSE.txt").unlink()
    write_motion(walking(seconds=1.0), clips / "short.bvh")
    assert "1 of 4 clips, shorter" in windows_of(clips)[2][0]
    write_motion(walking(pace=1.0).part(1, 101), clips / "zcopy.bvh")
    assert "zcopy.bvh is a copy of 1" in " ".join(windows_of(clips)[2])


def test_no_window_is_of_a_clip_learnt_from(clips):
    found = windows_of(clips)[0]
    speeds = {split: {round(float(v), 2) for v in x[:, :, 5].mean(1)} for split, x in found.items()}  # forwards
    assert speeds["test"] == {0.8}
    assert speeds["train"] == {round(s * pace, 2) for s in SPEEDS for pace in (1.0, 1.2)}


def test_a_copy_is_known_by_its_poses():
    assert alike(walking(), replace(walking(yaw=1.0, start=(5.0, 2.0, 1.0)), name="b"))
    assert alike(walking(), walking(seconds=4.04)) and not alike(walking(), walking(pace=1.3))


def test_a_loop_goes_on_where_it_ended():
    """Around a circle, an eighth of it each time; and what does not close is no loop."""
    t = torch.linspace(0, 1, 26)
    once = walking(seconds=1.0, loops=True)
    turn = torch.zeros(26, 3)
    turn[:, 1] = t * math.pi / 4
    rotations = once.rotations.clone()
    rotations[:, 0] = quaternion_product(quaternion_from_axis_angle(turn), rotations[:, 0])
    places = torch.stack([1 - torch.cos(turn[:, 1]), 1 + 0 * t, torch.sin(turn[:, 1])], -1)
    once = Motion("arc", WALKER, rotations, places, 25.0, loops=True)
    long = going_on(once, 8.0)
    assert long.seconds >= 8.0 and len(long) == 8 * 25 + 1
    angle = torch.arange(len(long)) / 25 * math.pi / 4
    assert torch.allclose(long.places[:, 0], 1 - torch.cos(angle), atol=1e-3)
    assert torch.allclose(long.places[:, 2], torch.sin(angle), atol=1e-3)
    features = features_of(track_of(long))
    assert float((features[1:] - features[:-1]).abs().max()) < 0.5  # no jump where rounds meet
    half = walking(seconds=0.5, phase=math.pi / 2, loops=True)
    assert len(going_on(half, 8.0)) == len(half)


def test_left_for_right():
    partners = mirror_of(WALKER)
    assert partners[3] == 9 and partners[9] == 3 and partners[0] == 0
    motion = walking(phase=0.4, yaw=0.3)
    other = mirrored(motion, partners)
    assert torch.allclose(other.joints(), motion.joints()[:, partners] * torch.tensor([-1.0, 1, 1]), atol=1e-5)
    lopsided = replace(WALKER, rest=WALKER.rest + torch.tensor([0.0, 0, 0.3]) * (torch.arange(15) == 5)[:, None])
    assert mirror_of(lopsided) is None
    counts = [len(windows([motion])), len(windows([motion], varied=True))]
    assert counts[1] > 5 * counts[0]  # at three speeds, mirrored


def test_about_is_plain():
    meaning = about(WALKER)
    again = skeleton_of(meaning)
    assert again.names == WALKER.names and torch.allclose(again.rest, WALKER.rest)


def test_only_short_clips_are_refused(tmp_path):
    write_motion(walking(seconds=1.0), tmp_path / "short.bvh")
    with pytest.raises(UserError, match="no clip of 2 seconds"):
        windows_of(tmp_path)


def test_from_clips_to_a_prior(clips, tmp_path, capsys):
    settings = ["horizon=20", "channels=16", "lr=5e-3"]
    main(["train", str(clips), str(tmp_path / "run"), "--method", "wavenet", "--set", *settings])
    main(["eval", str(tmp_path / "run")])
    assert "50 frames of" in capsys.readouterr().out
    main(["sample", str(tmp_path / "run"), str(tmp_path / "new"), "--count", "2"])
    assert np.load(tmp_path / "new" / "samples.npz")["samples"].shape[:2] == (2, FRAMES)
