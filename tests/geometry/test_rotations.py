import math

import torch

from neural3d.geometry.rotations import (
    quaternion_from_rotation,
    quaternion_product,
    rotation_from_axis_angle,
    rotation_from_quaternion,
)


def test_known_rotations():
    quarter = rotation_from_axis_angle(torch.tensor([0, 0, math.pi / 2], dtype=torch.float64))
    expected = torch.tensor([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(quarter, expected)
    torch.testing.assert_close(rotation_from_axis_angle(torch.zeros(3)), torch.eye(3))


def test_agrees_with_the_matrix_exponential_and_differentiates_at_zero():
    torch.manual_seed(0)
    v = torch.randn(20, 3, dtype=torch.float64) * 2
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(-1, 3, 3)
    torch.testing.assert_close(rotation_from_axis_angle(v), torch.linalg.matrix_exp(cross))
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda a: rotation_from_axis_angle(a)[0], zero)[:, :, 0]
    generator = torch.autograd.functional.jacobian(
        lambda a: torch.linalg.cross(a.expand(3, 3), torch.eye(3).double()).T, zero[0].detach()
    )
    torch.testing.assert_close(jacobian, generator)


def test_quaternions_and_rotations_agree():
    torch.manual_seed(0)
    turns = torch.randn(50, 3, dtype=torch.float64)
    turns[:3] = torch.pi * torch.eye(3)  # half turns, where w = 0 and formulas that divide by w fail
    turns[3] = 0
    rotations = rotation_from_axis_angle(turns)
    quaternions = quaternion_from_rotation(rotations)
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(50, dtype=torch.float64))
    assert (quaternions[:, 0] >= 0).all()
    torch.testing.assert_close(rotation_from_quaternion(3 * quaternions), rotations)
    product = quaternion_product(quaternions[::2], quaternions[1::2])
    torch.testing.assert_close(rotation_from_quaternion(product), rotations[::2] @ rotations[1::2])
