import math
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from instruction_sets import instruction_sets
from reference.composite import composite as reference

from neural3d.ops.composite import Composite, compact_visible, composite, used_samples
from neural3d.ops.ray_march import Samples, ray_march

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


def test_exponentials_are_right_to_the_last_bits(device):
    """1 − e^−τ is the weight of a ray's first sample, e^−τ that of an opaque one behind it; over float32's range."""
    tau = torch.cat([torch.logspace(-38, 2.5, 20_001), torch.linspace(0, 110, 20_001), torch.tensor([1e9])]).to(device)
    n = len(tau)
    sigma = torch.stack([tau, torch.full_like(tau, math.inf)], 1).flatten()
    ones, offsets = torch.ones(2 * n, device=device), torch.arange(0, 2 * n + 1, 2, device=device)
    weights = composite(sigma, ones[:, None], ones, ones, offsets, early_stop=0).weights.view(n, 2).double()
    exact = torch.stack([-torch.expm1(-tau.double()), torch.exp(-tau.double())], 1)
    error = (weights - exact).abs() / exact.clamp(min=2.0**-126)
    assert error.max() < 3e-7, "2.5 units in the last place, and subnormal results are results"


def test_far_away_is_as_exact_as_near_by(device):
    """Distortion and its gradient only see differences of t: 1000 units further changes little."""
    sigma, rgb, t, dt, offsets = packed([60, 33], 3, torch.float64, device, dense=2.0)
    sigma.requires_grad_()
    exact = composite(sigma, rgb, t, dt, offsets).distortion
    (v_exact,) = torch.autograd.grad(exact.sum(), sigma)
    near = sigma.detach().float().requires_grad_()
    t32 = (t + 1000).float()
    ours = composite(near, rgb.float(), t32, dt.float(), offsets).distortion
    (v_ours,) = torch.autograd.grad(ours.sum(), near)
    spacing = 1000 * 2.0**-24 / t.diff().abs().mean()  # how well float32 knows the gaps at all
    torch.testing.assert_close(ours.double(), exact, rtol=5 * float(spacing), atol=0)
    torch.testing.assert_close(v_ours.double(), v_exact, rtol=0, atol=5 * float(spacing) * float(v_exact.abs().max()))


def opacity_of(density, step):
    """Opacity of one ray through the unit cascade for a density given along x, marched with this step."""
    full = torch.full((1, 16**3 // 8), 255, dtype=torch.uint8)
    o, d = torch.tensor([[-1.0, 0.1, 0.2]]), torch.tensor([[1.0, 0, 0]])
    s = ray_march(
        o, d, torch.zeros(1), torch.full((1,), 9.0), full, step_min=step, step_max=step, max_samples_per_ray=9999
    )
    t, dt = s.t.double(), s.dt.double()
    return composite(density(t - 1), t[:, None] * 0, t, dt, s.offsets, early_stop=0).opacity.item()


def test_a_slab_absorbs_as_beer_and_lambert_say():
    """Half a unit of density 3: the step's error is at most one step's worth of absorption."""
    exact = 1 - math.exp(-1.5)
    for step in (0.05, 0.013, 0.0031):
        error = abs(opacity_of(lambda x: 3 * (x.abs() < 0.25).double(), step) - exact)
        assert error <= 3 * step * math.exp(-1.5) * 1.1


def test_opacity_converges_with_the_square_of_the_step():
    """The midpoint rule, on a density that is smooth and vanishes at both ends."""
    optical_depth = 2 * 0.2 * math.sqrt(math.pi) * math.erf(1 / 0.2)
    exact = 1 - math.exp(-optical_depth)
    density = lambda x: 2 * torch.exp(-((x / 0.2) ** 2)) * (1 + torch.sin(9 * x))  # noqa: E731  (the sine is odd)
    errors = [abs(opacity_of(density, 2 / n) - exact) for n in (6, 9, 12)]
    assert errors[0] > 1e-5 and errors[1] < errors[0] * (6 / 9) ** 2 and errors[2] < errors[1] * (9 / 12) ** 2


def test_threads_change_nothing():
    sigma, rgb, t, dt, offsets = packed([int(x) for x in torch.randint(0, 60, (1000,))])
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            leaves = sigma.clone().requires_grad_(), rgb.clone().requires_grad_()
            out = outputs(composite(*leaves, t, dt, offsets))
            results.append([*out, *torch.autograd.grad([x.sum() for x in out], leaves)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for r in results[1:] for a, b in zip(results[0], r))


OUTPUTS = """
import sys, torch
from neural3d.ops.composite import composite, used_samples
g = torch.Generator().manual_seed(0)
counts = torch.randint(0, 70, (300,), generator=g)
offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
n = int(offsets[-1])
sigma, rgb = (torch.rand(n, *c, generator=g).mul(s).requires_grad_() for c, s in (((), 30.0), ((3,), 1.0)))
t, dt = torch.rand(n, generator=g).cumsum(0) * 0.02, torch.rand(n, generator=g) * 0.02
c = composite(sigma, rgb, t, dt, offsets, early_stop=0)
out = [c.rgb, c.opacity, c.depth, c.weights, c.distortion]
out += torch.autograd.grad(out, (sigma, rgb), [torch.rand(x.shape, generator=g) for x in out])
torch.save(out, sys.argv[1])
"""


def test_every_instruction_set_agrees(tmp_path):
    results = []
    for isa in instruction_sets():
        run = [sys.executable, "-c", OUTPUTS, str(tmp_path / isa)]
        subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa}, check=True)
        results.append(torch.load(tmp_path / isa))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


def test_bad_input_is_a_sentence():
    sigma, rgb, t, dt, offsets = packed([3, 4])
    for arguments, sentence in [
        ((sigma[:-1], rgb, t, dt, offsets), "sigma must have shape"),
        ((sigma, rgb.double(), t, dt, offsets), "sigma must be torch.float64"),
        ((sigma, rgb.half(), t, dt, offsets), "float32 or float64"),
        ((sigma, rgb[:, 0], t, dt, offsets), "rgb must have shape"),
        ((sigma, rgb, t, dt, offsets.int()), "offsets must be int64"),
        ((sigma, rgb, t, dt, offsets[:0]), "offsets must be int64"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            composite(*arguments)
