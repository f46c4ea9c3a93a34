import pytest
import torch

from neural3d.synthetic.analytic import Box, Fog, Sphere, Torus

SOLIDS = [Sphere(0.4, (0.1, -0.2, 0.05)), Box((0.3, 0.5, 0.2), (0.1, 0.0, -0.1)), Torus(0.5, 0.17, (0.0, 0.1, -0.05))]


def points(n: int = 4000) -> torch.Tensor:
    return torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda s: type(s).__name__)
def test_gradient_is_that_of_the_distance(solid):
    x = points().requires_grad_()
    solid.sdf(x).sum().backward()
    torch.testing.assert_close(solid.gradient(x.detach()), x.grad, atol=1e-9, rtol=0)
    torch.testing.assert_close(x.grad.norm(dim=-1), torch.ones(len(x), dtype=torch.float64))


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda s: type(s).__name__)
def test_walking_the_distance_along_the_gradient_lands_on_the_surface(solid):
    x = points()
    d = solid.sdf(x)
    foot = x - d[:, None] * solid.gradient(x)
    torch.testing.assert_close(solid.sdf(foot), torch.zeros_like(d), atol=1e-9, rtol=0)


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda s: type(s).__name__)
def test_volume_and_area_by_counting(solid):
    """Volume = share of points inside a cube of volume 8; area = volume of a thin shell over its thickness."""
    x = points(2_000_000)
    d = solid.sdf(x)
    assert (d < 0).double().mean() * 8 == pytest.approx(solid.volume, rel=0.01)
    thickness = 0.02
    assert (d.abs() < thickness / 2).double().mean() * 8 / thickness == pytest.approx(solid.area, rel=0.02)


def test_fog_equals_quadrature():
    fog = Fog(sigma=3.0, centre=(0.1, 0.0, -0.1))
    generator = torch.Generator().manual_seed(2)
    origins = torch.randn(64, 3, dtype=torch.float64, generator=generator) * 0.6
    directions = torch.nn.functional.normalize(-origins + 0.3 * torch.randn(64, 3, generator=generator), dim=1)
    dt = 1e-4
    t = (torch.arange(30_000, dtype=torch.float64) + 0.5) * dt
    rgb, alpha, depth = fog.render(origins, directions)
    for r in range(0, 64, 8):
        x = origins[r] + t[:, None] * directions[r]
        sigma = fog.density(x)
        left = torch.exp(-torch.cumsum(sigma * dt, 0) + 0.5 * sigma * dt)
        weight = sigma * left * dt
        torch.testing.assert_close((weight[:, None] * fog.color(x)).sum(0), rgb[r], atol=1e-3, rtol=0)
        torch.testing.assert_close(weight.sum(), alpha[r], atol=1e-3, rtol=0)
        torch.testing.assert_close((weight * t).sum(), depth[r], atol=1e-3, rtol=0)
    assert (alpha == 0).any() and (alpha > 0.5).any()
