import math

import pytest
import torch

from neural3d.geometry.rotations import (
    axis_angle_from_quaternion,
    axis_angle_from_rotation,
    conjugate,
    dual_quaternion_from_rigid,
    euler_from_rotation,
    quaternion_from_axis_angle,
    quaternion_from_euler,
    quaternion_from_rotation,
    quaternion_product,
    rotation_from_6d,
    rotation_from_axis_angle,
    rotation_from_quaternion,
    six_d_from_rotation,
    slerp,
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


HALF_TURNS = [[math.pi, 0, 0], [0, -math.pi, 0], [0, 0, math.pi], [math.pi * 0.6, math.pi * 0.8, 0]]
NO_TURNS = [[0.0, 0, 0], [1e-9, 0, 0], [0, 1e-5, -1e-5]]


def turns(count=40):
    """Shorter than π, with none and nearly none among them."""
    torch.manual_seed(1)
    axes = torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)
    return torch.cat([axes * torch.linspace(0.01, 3.14, count)[:, None], torch.tensor(NO_TURNS, dtype=torch.float64)])


def differences(function, at, step=1e-6):
    """The Jacobian by central differences."""
    columns = []
    for k in range(at.numel()):
        aside = torch.zeros_like(at)
        aside.view(-1)[k] = step
        columns.append((function(at + aside) - function(at - aside)) / (2 * step))
    return torch.stack(columns, -1)


def assert_differentiates(function, at):
    jacobian = torch.autograd.functional.jacobian(function, at).reshape(*function(at).shape, -1)
    torch.testing.assert_close(jacobian, differences(function, at), rtol=1e-5, atol=1e-5)


def test_axis_angles_come_back():
    v = turns()
    torch.testing.assert_close(axis_angle_from_rotation(rotation_from_axis_angle(v)), v, rtol=0, atol=1e-8)
    quaternions = quaternion_from_axis_angle(v)
    torch.testing.assert_close(rotation_from_quaternion(quaternions), rotation_from_axis_angle(v))
    for sign in (1, -3):  # any length, and both of one rotation
        torch.testing.assert_close(axis_angle_from_quaternion(sign * quaternions), v, rtol=0, atol=1e-9)
    half = torch.tensor(HALF_TURNS, dtype=torch.float64)
    back = axis_angle_from_rotation(rotation_from_axis_angle(half))
    torch.testing.assert_close(back.norm(dim=-1), half.norm(dim=-1))
    torch.testing.assert_close(rotation_from_axis_angle(back), rotation_from_axis_angle(half))
    assert axis_angle_from_quaternion(torch.zeros(0, 4)).shape == (0, 3)


@pytest.mark.parametrize("turn", [*NO_TURNS, *HALF_TURNS, [0.3, -1.0, 2.0]])
def test_derivatives_are_right_at_no_turn_and_at_half_turns(turn):
    v = torch.tensor(turn, dtype=torch.float64)
    assert_differentiates(quaternion_from_axis_angle, v)
    assert_differentiates(rotation_from_axis_angle, v)
    # The way there and back is the identity. At π it jumps to the other direction: seen from just inside of it.
    inside = v * (1 - 1e-9) if v.norm() > 3 else v
    for way in (
        lambda v: axis_angle_from_rotation(rotation_from_axis_angle(v)),
        lambda v: axis_angle_from_quaternion(quaternion_from_axis_angle(v)),
    ):
        jacobian = torch.autograd.functional.jacobian(way, inside)
        torch.testing.assert_close(jacobian, torch.eye(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.functional.jacobian(lambda v: quaternion_from_rotation(rotation_from_axis_angle(v)), inside),
        torch.autograd.functional.jacobian(quaternion_from_axis_angle, inside),
    )


def test_dual_quaternions_move_points_as_their_matrices_do():
    rigid = torch.cat([rotation_from_axis_angle(turns()), torch.randn(43, 3, 1, dtype=torch.float64)], -1)
    q, d = dual_quaternion_from_rigid(rigid).unbind(-2)
    torch.testing.assert_close(rotation_from_quaternion(q), rigid[..., :3])
    torch.testing.assert_close(2 * quaternion_product(d, conjugate(q))[..., 1:], rigid[..., 3])
    torch.testing.assert_close((q * d).sum(-1), torch.zeros(43, dtype=torch.float64))
    still = torch.eye(3, 4, dtype=torch.float64)
    assert_differentiates(lambda t: dual_quaternion_from_rigid(torch.cat([still[:, :3], t[:, None]], 1)), still[:, 3])


def test_the_logarithm_of_a_half_turn_differentiates():
    """w = 0 exactly: the angle is π there, and changes by −2 dw."""
    q = torch.tensor([0.0, 0.6, 0, 0.8], dtype=torch.float64)
    torch.testing.assert_close(axis_angle_from_quaternion(q), math.pi * q[1:])
    jacobian = torch.autograd.functional.jacobian(axis_angle_from_quaternion, q)
    torch.testing.assert_close(jacobian[:, 0], -2 * q[1:])
    aside = torch.tensor([1e-6, 0, 0, 0], dtype=torch.float64)  # from the side on which w > 0
    torch.testing.assert_close(
        (axis_angle_from_quaternion(q + aside) - axis_angle_from_quaternion(q)) / 1e-6, jacobian[:, 0]
    )


def test_slerp_goes_the_shorter_way_at_constant_speed():
    a, b = quaternion_from_axis_angle(turns(20)).split([10, 13])
    a, b = a[:, None], b[None]
    torch.testing.assert_close(slerp(a, b, 0.0), a.expand(10, 13, 4))
    whole = slerp(a, b, 1.0)
    torch.testing.assert_close(whole * (whole * b).sum(-1, keepdim=True).sign(), b.expand(10, 13, 4))
    middle = slerp(a, -b, 0.5)
    torch.testing.assert_close((a * middle).sum(-1).abs(), (b * middle).sum(-1).abs())
    assert ((a * middle).sum(-1) >= math.cos(math.pi / 4) - 1e-9).all()
    quarter = slerp(a, b, torch.full((1,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(slerp(a, middle, 0.5).abs(), quarter.abs())


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_of_equal_and_of_opposite_quaternions(sign):
    """Both are no way at all: the value is a, its derivative that of neighbours."""
    a = quaternion_from_axis_angle(torch.tensor([0.3, 0.5, -0.9], dtype=torch.float64))
    torch.testing.assert_close(slerp(a, sign * a, 0.3), a)
    assert_differentiates(lambda b: slerp(a, sign * b, 0.3), a.clone())
    assert_differentiates(lambda b: slerp(b, sign * a, 0.3), a.clone())
    assert_differentiates(lambda share: slerp(a, sign * a, share), torch.full((1,), 0.3, dtype=torch.float64))


def test_six_numbers_are_a_rotation():
    rotations = rotation_from_axis_angle(turns())
    six = six_d_from_rotation(rotations)
    torch.testing.assert_close(six[:, 3:], rotations[:, :, 1])
    torch.testing.assert_close(rotation_from_6d(six), rotations)
    aside = torch.cat([3 * six[:, :3], 0.5 * six[:, 3:] - 7 * six[:, :3]], -1)  # what Gram and Schmidt take away
    torch.testing.assert_close(rotation_from_6d(aside), rotations)
    assert_differentiates(rotation_from_6d, aside[3].clone())


@pytest.mark.parametrize(
    "six", [[0, 0, 0, 0, 0, 0], [1, 2, 3, 0, 0, 0], [1, 2, 3, -2, -4, -6], [0, 1, 0, 0, 5, 0], [0, 0, 0, 1, 0, 0]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_six_numbers_are_one_too(six, dtype):
    six = torch.tensor(six, dtype=dtype, requires_grad=True)
    rotation = rotation_from_6d(six)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=dtype))
    assert rotation.det() > 0
    (gradient,) = torch.autograd.grad((rotation * torch.arange(9, dtype=dtype).reshape(3, 3)).sum(), six)
    assert gradient.isfinite().all() and (gradient[3:] == 0).all()


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_euler_angles_of_any_order_come_back(order):
    torch.manual_seed(0)
    angles = (torch.rand(50, 3, dtype=torch.float64) - 0.5) * torch.tensor([6.2, 3.1, 6.2])
    rotations = rotation_from_quaternion(quaternion_from_euler(angles, order))
    by_hand = torch.eye(3, dtype=torch.float64)
    for angle, axis in zip(angles.unbind(-1), order, strict=True):
        unit = torch.eye(3, dtype=torch.float64)["XYZ".index(axis)]
        by_hand = by_hand @ rotation_from_axis_angle(angle[:, None] * unit)
    torch.testing.assert_close(rotations, by_hand)
    torch.testing.assert_close(euler_from_rotation(rotations, order), angles)
    for middle in (math.pi / 2, -math.pi / 2, math.pi / 2 - 1e-9):  # the gimbal lock
        locked = rotation_from_quaternion(quaternion_from_euler(torch.tensor([0.4, middle, 1.1]).double(), order))
        again = quaternion_from_euler(euler_from_rotation(locked, order), order)
        torch.testing.assert_close(rotation_from_quaternion(again), locked, rtol=0, atol=1e-9)
    assert_differentiates(lambda a: quaternion_from_euler(a, order), torch.tensor([0.4, math.pi / 2, 0.0]).double())


def test_euler_angles_of_any_count():
    none = quaternion_from_euler(torch.zeros(2, 0), "")
    torch.testing.assert_close(none, torch.tensor([[1.0, 0, 0, 0]] * 2))
    twice = quaternion_from_euler(torch.tensor([0.2, 0.3, 0.4]), "XYX")
    torch.testing.assert_close(rotation_from_quaternion(twice).det(), torch.tensor(1.0))
