import pytest
import torch

from neural3d.ops.spherical_harmonics import spherical_harmonics


def sphere(levels):
    """Directions and weights that integrate polynomials of a low degree over the sphere exactly."""
    import numpy

    z, weight = numpy.polynomial.legendre.leggauss(levels)
    phi = torch.arange(2 * levels, dtype=torch.float64) * torch.pi / levels
    z, weight = torch.from_numpy(z)[:, None], torch.from_numpy(weight)[:, None]
    radius = (1 - z * z).sqrt()
    directions = torch.stack([radius * phi.cos(), radius * phi.sin(), z.expand(-1, len(phi))], -1)
    return directions.reshape(-1, 3), (weight * torch.pi / levels).expand(-1, len(phi)).reshape(-1)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_orthonormal(levels):
    directions, weights = sphere(8)
    y = spherical_harmonics(directions, levels)
    assert y.shape == (len(directions), levels**2)
    torch.testing.assert_close(y.T @ (weights[:, None] * y), torch.eye(levels**2, dtype=torch.float64))


def test_order_and_signs():
    """Y_l^m is (−1)^m times Re or Im of (x + iy)^|m| times a function of z that is positive near z = 1."""
    tilt = torch.tensor(0.3, dtype=torch.float64)
    for azimuth in torch.linspace(0.1, 6, 9, dtype=torch.float64):
        d = torch.stack([tilt.sin() * azimuth.cos(), tilt.sin() * azimuth.sin(), tilt.cos()])
        y = spherical_harmonics(d)
        for level in range(4):
            for m in range(-level, level + 1):
                wave = (m * azimuth).cos() if m >= 0 else (-m * azimuth).sin()
                assert torch.sign(y[level * level + level + m]) == torch.sign((-1) ** m * wave), (level, m)


def test_gradients():
    d = torch.randn(6, 3, dtype=torch.float64)
    d = (d / d.norm(dim=-1, keepdim=True)).requires_grad_()
    assert torch.autograd.gradcheck(spherical_harmonics, d)
    assert torch.autograd.gradgradcheck(spherical_harmonics, d)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 3\)"):
        spherical_harmonics(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="levels must be 1 to 4"):
        spherical_harmonics(torch.zeros(4, 3), 5)
