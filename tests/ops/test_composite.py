import math
from itertools import pairwise

import pytest
import torch
from reference.composite import composite as reference

from neural3d.ops.composite import Composite, compact_visible, composite, used_samples
from neural3d.ops.ray_march import Samples

LENGTHS = [0, 1, 2, 16, 17, 5, 0, 40, 100, 15, 3, 0]


def packed(lengths, channels=3, dtype=torch.float32, device="cpu", dense=4.0, seed=0):
    """Densities, colours, distances, lengths and offsets of rays with so many samples."""
    g = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    n = int(offsets[-1])
    dt = torch.rand(n, generator=g, dtype=torch.float64) * 0.05 + 0.01
    t = torch.cat([dt[a:b].cumsum(0) for a, b in pairwise(offsets)]) + 2 if n else dt
    sigma = -torch.rand(n, generator=g, dtype=torch.float64).log() * dense
    rgb = torch.rand(n, channels, generator=g, dtype=torch.float64)
    return [x.to(device, dtype) for x in (sigma, rgb, t, dt)] + [offsets.to(device)]


def outputs(c: Composite):
    return c.rgb, c.opacity, c.depth, c.weights, c.distortion


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("dense", [0.5, 60.0], ids=["thin", "stops early"])
@pytest.mark.parametrize("background", [None, "one", "each"])
def test_matches_the_loop_and_its_gradients(device, dtype, channels, dense, background):
    sigma, rgb, t, dt, offsets = packed(LENGTHS, channels, dtype, device, dense)
    torch.manual_seed(0)
    leaves = [sigma.requires_grad_(), rgb.requires_grad_()]
    if background:
        shape = (channels,) if background == "one" else (len(LENGTHS), channels)
        leaves.append(torch.rand(shape, dtype=dtype, device=device, requires_grad=True))
    bg = leaves[2] if background else None
    ours = outputs(composite(sigma, rgb, t, dt, offsets, background=bg))
    expected = reference(sigma, rgb, t, dt, offsets, background=bg)
    tolerance = dict(rtol=2e-5, atol=2e-6) if dtype == torch.float32 else dict(rtol=1e-10, atol=1e-12)
    for got, want in zip(ours, expected):
        torch.testing.assert_close(got, want, **tolerance)
    v = [torch.randn_like(x) for x in ours]
    got, want = (torch.autograd.grad(outs, leaves, v) for outs in (ours, expected))
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, **{k: 5 * x for k, x in tolerance.items()})


def test_gradients_of_each_output_alone():
    """float64, no early stop: every output, one at a time, so that each optional gradient is also absent."""
    sigma, rgb, t, dt, offsets = packed([0, 1, 9, 4], 3, torch.float64)
    background = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    for k in range(5):
        assert torch.autograd.gradcheck(
            lambda s, c, b, k=k: outputs(composite(s, c, t, dt, offsets, background=b, early_stop=0))[k],
            (sigma.requires_grad_(), rgb.requires_grad_(), background),
        )


def test_early_stop_cuts_weights_and_gradients(device):
    sigma, rgb, t, dt, offsets = packed([30], 3, torch.float64, device, dense=20.0)
    sigma.requires_grad_(), rgb.requires_grad_()
    c = composite(sigma, rgb, t, dt, offsets, early_stop=0.05)
    transmittance = torch.exp(-(sigma * dt).cumsum(0) + sigma * dt)
    seen = (transmittance >= 0.05).detach()
    assert 3 < seen.sum() < 25
    assert torch.equal(c.weights > 0, seen)
    (c.rgb.sum() + c.depth.sum() + c.distortion.sum() + (c.weights**2).sum()).backward()
    assert torch.equal(sigma.grad != 0, seen) and torch.equal(rgb.grad.ne(0).any(-1), seen)
    assert used_samples(sigma, dt, offsets, 0.05).item() == seen.sum()


def test_compaction_changes_nothing(device):
    lengths = [0, 40, 1, 0, 100, 33]
    sigma, rgb, t, dt, offsets = packed(lengths, device=device, dense=40.0)
    ray = torch.repeat_interleave(torch.arange(6, device=device), offsets.diff()).int()
    positions = torch.rand(len(t), 3, device=device)
    kept, indices = compact_visible(Samples(positions, t, dt, ray, offsets), sigma, 1e-3)
    assert 20 < len(kept) < 120
    for field, whole in (("positions", positions), ("t", t), ("dt", dt), ("ray", ray)):
        assert torch.equal(getattr(kept, field), whole[indices])
    whole = composite(sigma, rgb, t, dt, offsets, early_stop=1e-3)
    part = composite(sigma[indices], rgb[indices], kept.t, kept.dt, kept.offsets, early_stop=1e-3)
    assert torch.equal(part.rgb, whole.rgb) and torch.equal(part.weights, whole.weights[indices])
    assert whole.weights.sum() == part.weights.sum()


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_nothing_to_see(device, lengths):
    sigma, rgb, t, dt, offsets = packed(lengths, device=device)
    background = torch.tensor([0.1, 0.2, 0.3], device=device)
    sigma.requires_grad_()
    c = composite(sigma, rgb, t, dt, offsets, background=background)
    assert torch.equal(c.rgb, background.expand(len(lengths), 3))
    assert not c.opacity.any() and not c.depth.any() and not c.distortion.any()
    c.rgb.sum().backward()
    assert sigma.grad.shape == (0,)


def test_infinite_density_is_opaque_and_nan_stays_in_its_ray(device):
    sigma, rgb, t, dt, offsets = packed([3, 20, 3, 20], device=device)
    clean = composite(sigma, rgb, t, dt, offsets)
    bad = sigma.clone()
    bad[1], bad[24] = math.inf, math.nan
    bad.requires_grad_()
    c = composite(bad, rgb, t, dt, offsets)
    assert c.opacity[0] == 1 and c.weights[2] == 0
    assert c.rgb[2].isnan().all()
    assert torch.equal(c.rgb[1::2], clean.rgb[1::2]), "other rays know nothing of it"
    c.rgb[[0, 1, 3]].sum().backward()
    finite = torch.ones_like(bad, dtype=torch.bool)
    finite[23:26] = False
    assert bad.grad[finite].isfinite().all()
