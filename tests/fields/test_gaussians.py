import math

import pytest
import torch

from neural3d.fields.gaussians import Gaussians, rotated_harmonics
from neural3d.geometry.rotations import rotation_from_axis_angle, rotation_from_quaternion
from neural3d.ops.spherical_harmonics import spherical_harmonics


def random_gaussians(n=20, degree=3):
    k = (degree + 1) ** 2
    shapes = ((n, 3), (n, 3), (n, 4), (n,), (n, 3), (n, k - 1, 3))
    return Gaussians(*(torch.randn(s, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(shapes)))


def covariances(gaussians):
    axes = rotation_from_quaternion(gaussians.quats.double()) * gaussians.log_scales.double().exp()[:, None]
    return axes @ axes.mT


def similarity(scale=2.5):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = scale * rotation_from_axis_angle(torch.tensor([0.3, -2.1, 0.9], dtype=torch.float64))
    matrix[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    return matrix


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_degree_and_length(degree):
    gaussians = random_gaussians(5, degree)
    assert len(gaussians) == 5 and gaussians.sh_degree == degree
    assert gaussians.transformed(similarity()).sh_degree == degree
    assert len(list(gaussians.parameters())) == 6


def test_a_similarity_moves_shapes_and_colours():
    before, matrix = random_gaussians(), similarity()
    after = before.transformed(matrix)
    linear, rotation = matrix[:3, :3], matrix[:3, :3] / 2.5
    torch.testing.assert_close(after.means.double(), before.means.double() @ linear.T + matrix[:3, 3])
    torch.testing.assert_close(covariances(after), linear @ covariances(before) @ linear.T, rtol=1e-4, atol=1e-4)
    d = torch.nn.functional.normalize(torch.randn(1, 3, dtype=torch.float64), dim=1)

    def color(gaussians, direction):
        return (spherical_harmonics(direction)[:, 1:] @ gaussians.sh_rest.double()).squeeze(1)

    torch.testing.assert_close(color(after, d @ rotation.T), color(before, d), rtol=1e-5, atol=1e-5)
    assert torch.equal(after.sh_dc, before.sh_dc) and torch.equal(after.opacity_logits, before.opacity_logits)


def test_there_and_back_is_where_it_began():
    before = random_gaussians()
    after = before.transformed(similarity()).transformed(torch.linalg.inv(similarity()))
    for name in ("means", "log_scales", "sh_rest"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-5, atol=1e-5)


def test_turned_harmonics_keep_their_energy():
    """Wigner's matrices of real harmonics are orthogonal; least squares finds them to rounding."""
    rotation = rotation_from_axis_angle(torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64))
    wigner = rotated_harmonics(torch.eye(15, dtype=torch.float64)[:, :, None], rotation)[..., 0]
    torch.testing.assert_close(wigner @ wigner.T, torch.eye(15, dtype=torch.float64), rtol=0, atol=1e-13)


def test_bad_input_is_a_sentence():
    good = [p.detach() for p in random_gaussians(4).parameters()]
    with pytest.raises(ValueError, match=r"quats must have shape \(4, 4\), not \(4, 3\)"):
        Gaussians(good[0], good[1], good[1], *good[3:])
    with pytest.raises(ValueError, match="sh_rest must have shape"):
        Gaussians(*good[:5], torch.zeros(4, 7, 3))
    for bad in (torch.diag(torch.tensor([1.0, 1, -1, 1])), torch.diag(torch.tensor([1.0, 1, 2, 1])), torch.zeros(4, 4)):
        with pytest.raises(ValueError, match="must be a rotation"):
            random_gaussians(4).transformed(bad)
    with pytest.raises(ValueError, match="must be a rotation"):
        random_gaussians(4).transformed(torch.full((4, 4), math.nan))


def test_selection():
    gaussians = random_gaussians(6)
    some = gaussians.selected(torch.tensor([5, 0]))
    assert len(some) == 2 and torch.equal(some.sh_rest[0], gaussians.sh_rest[5])
    assert len(gaussians.selected(torch.zeros(6, dtype=torch.bool))) == 0
