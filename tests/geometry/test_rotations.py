import math

import torch

from neural3d.geometry.rotations import rotation_from_axis_angle


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
