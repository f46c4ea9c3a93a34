"""Motions as numbers and back: what is changed is the motion, what is looked at does not hang on where it happens."""

import math

import torch
from moving import walking

from neural3d.body.tracks import RATE, continuous, features_of, followed, motion_of, resampled, track_of
from neural3d.geometry.rotations import quaternion_from_axis_angle, quaternion_product, rotation_from_axis_angle


def tumbling(count=60):
    """A figure that goes head over heels while it flies and turns: also upside down."""
    motion = resampled(walking(seconds=count / RATE), RATE)
    t = torch.arange(len(motion)) / RATE
    over = quaternion_from_axis_angle(torch.stack([5 * t, 0.7 * t, 0.3 * torch.sin(3 * t)], -1))
    rotations = motion.rotations.clone()
    rotations[:, 0] = quaternion_product(over, rotations[:, 0])
    return motion.__class__("tumble", motion.skeleton, rotations, motion.places + t[:, None] ** 2 / 9, RATE)


def test_features_lead_back_to_the_motion():
    track = track_of(tumbling())
    again = followed(track[0], features_of(track))
    assert torch.allclose(again, track[1:], atol=2e-4)
    motion = motion_of(again, tumbling())
    assert torch.allclose(motion.joints(), tumbling().joints()[1:], atol=1e-3)


def test_where_and_which_way_does_not_matter():
    here = features_of(track_of(walking()))
    there = features_of(track_of(walking(yaw=2.5, start=(4.0, 1.0, -7.0))))
    assert torch.allclose(here, there, atol=2e-4)
    assert torch.allclose(here[:, 3:6], torch.tensor([0.0, 0, 1]).expand(len(here), 3), atol=1e-3)  # a metre a second
    assert torch.allclose(here[:, 6:10], torch.tensor([0.0, 1, 0, 1]).expand(len(here), 4), atol=1e-4)
    assert not torch.allclose(features_of(track_of(walking(start=(0.0, 1.2, 0.0)))), here, atol=0.1)


def test_features_have_gradients():
    track = track_of(tumbling(6)).double().requires_grad_()
    assert torch.autograd.gradcheck(features_of, track, atol=1e-4)


def test_rotations_go_on_past_half_a_turn():
    angles = torch.linspace(0, 2.5 * math.pi, 60)
    vectors = torch.zeros(60, 1, 3)
    vectors[:, 0, 1] = (angles + math.pi) % (2 * math.pi) - math.pi
    smooth = continuous(vectors)
    assert float((smooth[1:] - smooth[:-1]).norm(dim=-1).max()) < 0.2
    assert torch.allclose(rotation_from_axis_angle(smooth), rotation_from_axis_angle(vectors), atol=1e-4)
