"""Merged splats: moments against sums by hand, what is alone untouched, and pictures from afar."""

import torch

from neural3d.fields.gaussians import Gaussians
from neural3d.fields.merging import merged
from neural3d.geometry.cameras import Camera
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.render.splats import render_splats


def drawn(n: int, spread: float = 1.0, size: float = 0.02) -> Gaussians:
    g = torch.Generator().manual_seed(1)
    r = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    scales = (size * torch.rand(n, 3, generator=g) + 0.3 * size).log()
    return Gaussians(spread * r(n, 3), scales, r(n, 4), r(n), 0.5 * r(n, 3), 0.1 * r(n, 3, 3))


def covariance(s: Gaussians) -> torch.Tensor:
    axes = rotation_from_quaternion(s.quats.double()) * s.log_scales.double().exp()[:, None, :]
    return axes @ axes.mT


@torch.no_grad()
def test_two_that_meet_become_one_with_their_moments():
    two = drawn(2, spread=1e-3)
    two.opacity_logits -= 3  # so that nothing is capped
    one, spacing = merged(two, 1)
    scales = two.log_scales.double().exp().sort(1).values
    weight = torch.sigmoid(two.opacity_logits.double()) * scales[:, 1] * scales[:, 2]
    share = (weight / weight.sum())[:, None]
    mean = (share * two.means).sum(0)
    off = two.means - mean
    want = (share[:, :, None] * (covariance(two) + off[:, :, None] * off[:, None, :])).sum(0)
    assert len(one) == 1 and spacing > 0
    assert torch.allclose(one.means[0].double(), mean, atol=1e-7)
    assert torch.allclose(covariance(one)[0], want, rtol=1e-4, atol=1e-9)
    assert torch.allclose(one.sh_rest[0], (share[:, :, None] * two.sh_rest).sum(0).float(), atol=1e-6)
    longest = one.log_scales.double().exp().sort(1).values[0]
    assert torch.allclose(
        torch.sigmoid(one.opacity_logits.double())[0] * longest[1] * longest[2], weight.sum(), rtol=1e-4
    )


@torch.no_grad()
def test_few_stay_as_they_are_and_large_ones_alone():
    splats = drawn(500)
    assert merged(splats, 500) == (splats, 0.0)
    large = drawn(1, size=3.0)
    both = Gaussians(*(torch.cat([a, b]) for a, b in zip(splats.parameters(), large.parameters())))
    fewer, _ = merged(both, 50)
    assert 20 < len(fewer) <= 50
    same = (fewer.means == large.means).all(1)
    assert int(same.sum()) == 1
    assert all(torch.equal(p[same], q) for p, q in zip(fewer.parameters(), large.parameters()))


@torch.no_grad()
def test_from_afar_fewer_look_the_same():
    splats = drawn(4000, spread=0.3)
    camera = Camera("PINHOLE", 48, 48, torch.tensor([48.0, 48, 24, 24]), torch.eye(4))
    there = torch.eye(4, dtype=torch.float64)
    there[2, 3] = 4.0
    want = render_splats(splats.transformed(there), camera).rgb
    errors = []
    for most in (1000, 100):
        fewer, _ = merged(splats, most)
        assert most / 3 < len(fewer) <= most
        errors.append(float((render_splats(fewer.transformed(there), camera).rgb - want).square().mean()))
    blank = float(want.square().mean())
    assert errors[0] < 0.1 * blank < errors[1] < 0.4 * blank
