"""Terms that methods share."""

import math

import pytest
import torch

from neural3d.losses import carving, carving_force, plane_consistency
from neural3d.ops.composite import composite


def test_carving_pulls_what_is_right_and_pushes_what_is_wrong():
    error = torch.tensor([0.0, 0.1, 0.3, 1.0, 0.5])
    sure = torch.tensor([1.0, 1, 1, 1, 0])  # the mean error of these is 0.35
    force = carving_force(error, sure)
    assert force[0] == 1 and force[1] > 0 > force[2] > force[3] == -3 and force[4] == 0


def test_carving_moves_where_along_the_ray_light_is_lost():
    """Three rays through two samples each; the second has the wrong colour, the third is of a rim."""
    t = torch.tensor([1.0, 1.2]).repeat(3)
    sigma = torch.tensor([1.0, 9, 1, 9, 1, 0.5]).requires_grad_()
    offsets = torch.tensor([0, 2, 4, 6])
    out = composite(sigma, torch.full((6, 3), 0.5), t, torch.ones(6), offsets)
    off = torch.tensor([[0.0], [0.2], [0.2]]).expand(3, 3)
    carving(out.opacity, out.depth, off, torch.ones(3, 3)).backward()
    nearer = -sigma.grad[::2]  # by more light lost at the first sample
    assert nearer[0] > 0 > nearer[1] and nearer[2] == 0
    sigma.grad = None
    out = composite(sigma, torch.full((6, 3), 0.5), t, torch.ones(6), offsets)
    carving(out.opacity, out.depth, torch.zeros(3, 3), torch.zeros(3, 3)).backward()
    assert (sigma.grad == 0).all(), "nor where all channels are overexposed"


def blended_plane(normal, distance, turned=(0.0, 0.0, 0.0), alpha=1.0):
    """Planes of a picture of 12 × 10 pixels that shows one plane, whose splats are turned away from it."""
    n = torch.nn.functional.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    u, v = torch.linspace(-0.5, 0.4, 12).double(), torch.linspace(-0.3, 0.4, 10).double()
    rays = torch.stack([u.expand(10, 12), v[:, None].expand(10, 12), torch.ones(10, 12).double()], -1)
    splats = torch.nn.functional.normalize(n + torch.tensor(turned).double(), dim=0).expand(10, 12, 3)
    depth = distance / (rays @ n)
    distances = ((splats * rays).sum(-1) * depth)[..., None]
    planes = torch.cat([splats, distances, distances**2], -1)
    return alpha * planes, torch.full((10, 12, 1), alpha, dtype=torch.float64), u, v


@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_splats_in_their_common_plane_are_consistent(alpha):
    for normal in ([0, 0, -1.0], [0.5, 0.2, -1], [-1, 0.3, -0.6]):
        turned, thick = plane_consistency(*blended_plane(normal, -2.0, alpha=alpha), torch.ones(10, 12))
        assert turned.item() == pytest.approx(0, abs=1e-9) and thick.item() == pytest.approx(0, abs=1e-6)


def test_two_layers_are_as_thick_as_they_lie_apart():
    """Half of the light from a plane at the depth 2, half from one at 2.2: deviations of 0.1 from 2.1."""
    near, alpha, u, v = blended_plane([0, 0, -1.0], -2.0)
    far = blended_plane([0, 0, -1.0], -2.2)[0]
    thick = plane_consistency((near + far) / 2, alpha, u, v, torch.ones(10, 12))[1]
    assert thick.item() == pytest.approx(0.1 / 2.1, abs=2e-4)


def test_turned_splats_are_told_their_angle():
    tilt = 0.4
    planes = blended_plane([0, 0, -1.0], -2.0, (math.tan(tilt), 0, 0))
    assert plane_consistency(*planes, torch.ones(10, 12))[0].item() == pytest.approx(1 - math.cos(tilt), abs=1e-6)
    assert plane_consistency(*planes, torch.zeros(10, 12))[0].item() == 0


def test_what_is_transparent_does_not_count_and_gets_finite_gradients():
    planes, alpha, u, v = blended_plane([0.3, 0, -1.0], -2.0, (0.3, 0.1, 0))
    planes = planes.clone()
    whole = plane_consistency(planes, alpha, u, v, torch.ones(10, 12))[0]
    planes[5:], alpha[5:] = 0, 0
    planes.requires_grad_()
    half, thick = plane_consistency(planes, alpha, u, v, torch.ones(10, 12))
    assert half.item() == pytest.approx(whole.item() * 4 / 9, rel=1e-6)
    (half + thick).backward()
    assert planes.grad.isfinite().all() and planes.grad[:5].any() and not planes.grad[5:].any()


def test_plane_consistency_by_differences():
    planes, alpha, u, v = blended_plane([0.3, 0, -1.0], -2.0, (0.3, 0.1, 0), 0.8)
    planes = planes + 0.01 * torch.randn(planes.shape, generator=torch.Generator().manual_seed(0)).double()
    trust = torch.rand(10, 12, generator=torch.Generator().manual_seed(1)).double()
    assert torch.autograd.gradcheck(
        lambda p, a: plane_consistency(p, a, u, v, trust), (planes.requires_grad_(), alpha.requires_grad_())
    )
