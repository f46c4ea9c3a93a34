"""Corrections of poses: what all have in common is none of them."""

import math

import pytest
import torch
from toy import ball_capture

from neural3d.geometry.rotations import rotation_from_axis_angle
from neural3d.loading import load_scene
from neural3d.methods.poses import PoseCorrections, common_motions


@pytest.fixture(scope="module")
def cameras(tmp_path_factory):
    return load_scene(ball_capture(tmp_path_factory.mktemp("ball"), train=12, size=8)).cameras("train")


def moved(cameras, turn, scale, shift):
    """The corrections that turn all cameras about the origin, scale and shift them."""
    turn = torch.tensor(turn)
    centres = torch.stack([camera.centre for camera in cameras]).float()
    new = scale * centres @ rotation_from_axis_angle(turn).T + torch.tensor(shift)
    return torch.cat([turn.expand(len(cameras), 3), new - centres], 1)


def held(cameras, delta):
    poses = PoseCorrections(cameras)
    poses.delta.data.copy_(delta)
    poses.hold_together()
    return poses.delta.detach()


def test_what_moves_all_cameras_as_one_is_taken_out(cameras):
    together = moved(cameras, [0.004, -0.002, 0.003], 1.003, [0.01, 0.0, -0.02])
    assert held(cameras, together).norm() < 0.005 * together.norm()


def test_what_moves_one_camera_against_the_others_stays(cameras):
    alone = torch.zeros(len(cameras), 6)
    alone[3] = torch.tensor([0.01, 0.0, 0.0, 0.0, 0.02, 0.0])
    left = held(cameras, alone)
    assert left[3].norm() > 0.7 * alone[3].norm() and (left[3] * alone[3]).sum() > 0
    assert left.norm() < alone.norm()
    torch.testing.assert_close(held(cameras, left), left)
    basis = common_motions(torch.stack([camera.centre for camera in cameras]))
    assert basis.shape[-1] == 7
    assert torch.einsum("vik,vi->k", basis.float(), left).abs().max() < 1e-6


def test_cameras_in_one_place_keep_their_distances_from_it():
    basis = common_motions(torch.tensor([[1.0, 2, 3]]).repeat(5, 1))
    assert basis.shape[-1] == 6
    torch.testing.assert_close(torch.einsum("vik,vil->kl", basis, basis), torch.eye(6, dtype=torch.float64))
    apart = torch.zeros(5, 6, dtype=torch.float64)
    apart[0, 3], apart[1, 3] = 1, -1
    assert torch.einsum("vik,vi->k", basis, apart).abs().max() < 1e-12


def test_a_correction_is_a_turn_and_a_shift(cameras):
    poses = PoseCorrections(cameras)
    poses.delta.data[2] = torch.tensor([0.0, 0.0, math.pi / 2, 1.0, 2.0, 3.0])
    rotations, shifts = poses(torch.tensor([2, 0]))
    torch.testing.assert_close(rotations[0], torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    assert torch.equal(rotations[1], torch.eye(3)) and shifts.tolist() == [[1, 2, 3], [0, 0, 0]]
