"""What is cloned, split, moved and dropped, and what happens to moments, without drawing a picture."""

import math
from types import SimpleNamespace

import pytest
import torch

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.methods.densify import OWN, Adc, Mcmc, Pull, forget, logit, multinomial, rearrange, relocated, serially
from neural3d.ops.adam import Adam

CONFIG = dict(
    max_splats=100, grow_gradient=0.5, absgrad=False, split_size=0.01, prune_size=0.1, prune_opacity=0.005,
    reset_every=3000, densify_every=100, share_opacity=False, growth=0.5, relocate=0.0, noise=1.0,
)  # fmt: skip
SMALL, LARGE, HUGE = 0.005, 0.05, 0.5  # beside split_size and prune_size at extent 1


def make(sizes, opacities, seed=0):
    """Splats with an optimizer that has made a step, so that moments are there and differ from row to row."""
    torch.manual_seed(seed)
    n = len(sizes)
    stretch = torch.tensor([1.0, 0.5, 0.25]).repeat(n, 1)
    splats = Gaussians(
        torch.randn(n, 3), (torch.tensor(sizes)[:, None] * stretch).log(), torch.randn(n, 4),
        torch.tensor([logit(o) for o in opacities]), torch.randn(n, 3), torch.randn(n, 3, 3),
    )  # fmt: skip
    optimizer = Adam([dict(params=[p]) for p in splats.parameters()], lr=0.0)
    sum((p * torch.randn_like(p)).sum() for p in splats.parameters()).backward()
    optimizer.step()
    return splats, optimizer


def config(**changes):
    return SimpleNamespace(**CONFIG | changes)


def refine(sizes, pulls, opacities=None, step=600, views=None, **changes):
    splats, optimizer = make(sizes, opacities or [0.5] * len(sizes))
    adc = Adc(config(**changes), 1.0, len(sizes))
    adc.pull += torch.tensor(pulls)
    adc.views += 1 if views is None else torch.tensor(views)
    before = {k: v.detach().clone() for k, v in splats.named_parameters()}
    moments = {k: optimizer.state[p]["m"].clone() for k, p in splats.named_parameters()}
    adc.refine(splats, optimizer, step, torch.Generator().manual_seed(0))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert all(a is b for a, b in zip(held, splats.parameters(), strict=True)), (
        "the optimizer goes on with the new ones"
    )
    assert len(adc.pull) == len(splats) and not adc.pull.any() and not adc.views.any()
    assert all(optimizer.state[p]["v"].shape == p.shape for p in splats.parameters())
    return splats, optimizer, before, moments


def test_rearranged_splats_keep_their_moments_and_fresh_ones_have_none():
    splats, optimizer = make([SMALL] * 4, [0.5] * 4)
    before = {k: v.detach().clone() for k, v in splats.named_parameters()}
    m = {k: optimizer.state[p]["m"].clone() for k, p in splats.named_parameters()}
    rows, fresh = torch.tensor([3, 1, 1, 0, 2]), torch.tensor([False, False, True, False, False])
    rearrange(splats, optimizer, rows, fresh)
    for name, p in splats.named_parameters():
        assert torch.equal(p, before[name][rows]) and p.grad is None and p.requires_grad
        want = m[name][rows]
        want[2] = 0
        assert torch.equal(optimizer.state[p]["m"], want) and m[name].any()
        assert not optimizer.state[p]["v"][2].any() and optimizer.state[p]["v"][1].any()
    forget(optimizer, splats.means)
    assert not optimizer.state[splats.means]["m"].any() and optimizer.state[splats.quats]["m"].any()


def test_observing_averages_over_the_views_that_drew_a_splat():
    adc = Adc(config(), 1.0, 3)
    pull = torch.tensor([[0.3, 0.4], [1.0, 0.0], [0.0, 0.0]])
    adc.observe(pull.clone(), torch.tensor([2.0, 1.0, 0.0]), width=20, height=20)
    adc.observe(pull.clone() * torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([2.0, 0.0, 0.0]), 40, 10)
    # |(0.3 · 10, 0.4 · 10)| = 5, then |(0.3 · 20, 0.4 · 5)| = √40; the second splat was drawn once, the third never.
    assert adc.pull.tolist() == pytest.approx([5 + math.sqrt(40), 10, 0])
    assert adc.views.tolist() == [2, 1, 0]


def test_small_ones_are_cloned_large_ones_split_quiet_ones_left():
    splats, optimizer, before, m = refine([SMALL, LARGE, SMALL, LARGE], [0.9, 0.9, 0.1, 0.1])
    assert len(splats) == 6  # kept 0, 2, 3; clone of 0; two children of 1
    rows = torch.tensor([0, 2, 3, 0])
    for name, p in splats.named_parameters():
        assert torch.equal(p[:4], before[name][rows]), name
    for name in ("quats", "opacity_logits", "sh_dc", "sh_rest"):
        assert torch.equal(getattr(splats, name)[4:], before[name][[1, 1]])
    torch.testing.assert_close(splats.log_scales[4:], before["log_scales"][[1, 1]] - math.log(1.6))
    offsets = splats.means[4:] - before["means"][1]
    assert (offsets.norm(dim=1) > 1e-4).all() and (offsets.norm(dim=1) < 4 * LARGE).all()
    for name, p in splats.named_parameters():
        assert torch.equal(optimizer.state[p]["m"][:3], m[name][[0, 2, 3]])
        assert not optimizer.state[p]["m"][3:].any()


def test_clones_share_their_opacity():
    """1 − (1 − o')² = o, for the pair only."""
    splats, _, before, _ = refine(
        [SMALL, SMALL, SMALL], [0.1, 0.9, 0.9], opacities=[0.5, 0.75, 0.3], share_opacity=True
    )
    o = torch.sigmoid(splats.opacity_logits)
    torch.testing.assert_close(o[[1, 3]], torch.full((2,), 0.5))
    torch.testing.assert_close(1 - (1 - o[2]) * (1 - o[4]), torch.tensor(0.3))
    assert splats.opacity_logits[0] == before["opacity_logits"][0]


def test_children_are_drawn_from_their_parent():
    """Many children of one stretched, turned splat have its covariance."""
    n = 4000
    splats, optimizer = make([LARGE] * n, [0.5] * n)
    with torch.no_grad():
        for p in splats.parameters():
            p[:] = p[:1].clone()
    parent = {k: v.detach()[0].clone() for k, v in splats.named_parameters()}
    adc = Adc(config(max_splats=10**6), 1.0, n)
    adc.pull += 1
    adc.views += 1
    adc.refine(splats, optimizer, 600, torch.Generator().manual_seed(0))
    rs = rotation_from_quaternion(parent["quats"]) * parent["log_scales"].exp()
    offsets = splats.means - parent["means"]
    sigma = rs @ rs.T
    assert ((offsets.T @ offsets / len(offsets)) - sigma).abs().max() < 0.06 * sigma.abs().max()


def test_the_mean_pull_counts_not_the_sum():
    assert len(refine([SMALL, SMALL], [4.0, 4.0], views=[10, 2])[0]) == 3


def test_transparent_ones_are_dropped_even_if_pulled():
    splats, _, before, _ = refine([SMALL, SMALL, LARGE], [0.9, 0.1, 0.1], opacities=[0.004, 0.006, 0.5])
    assert torch.equal(splats.means, before["means"][[1, 2]])


def test_huge_ones_are_dropped_after_the_first_reset_only():
    assert len(refine([HUGE, SMALL], [0.1, 0.1], step=600)[0]) == 2
    assert len(refine([HUGE, SMALL], [0.1, 0.1], step=3100)[0]) == 1
    # A splat whose children are small enough is split instead; one whose children are not is dropped.
    assert len(refine([0.15, SMALL], [0.9, 0.1], step=3100)[0]) == 3
    assert len(refine([HUGE, SMALL], [0.9, 0.1], step=3100)[0]) == 1


@pytest.mark.parametrize("cap", [4, 5, 6, 7, 8, 100])
def test_the_cap_holds_and_the_neediest_come_first(cap):
    pulls = [0.6, 0.9, 0.7, 0.8]
    splats, _, before, _ = refine([SMALL, LARGE, SMALL, SMALL], pulls, max_splats=cap)
    assert len(splats) == min(cap, 8)
    grown = [i for i in sorted(range(4), key=lambda i: -pulls[i])][: cap - 4]
    want = sum(before["sh_dc"][i] for i in range(4)) + sum(before["sh_dc"][i] for i in grown)
    torch.testing.assert_close(splats.sh_dc.sum(0), want)


def test_dropping_makes_room():
    splats, *_ = refine([SMALL] * 4, [0.9] * 4, opacities=[0.001, 0.001, 0.5, 0.5], max_splats=4)
    assert len(splats) == 4


def test_opacities_are_reset_with_their_moments():
    splats, optimizer, before, _ = refine([SMALL] * 3, [0.0] * 3, opacities=[0.9, 0.5, 0.0075], step=3000)
    torch.testing.assert_close(torch.sigmoid(splats.opacity_logits), torch.tensor([0.01, 0.01, 0.0075]))
    assert not optimizer.state[splats.opacity_logits]["m"].any()
    assert optimizer.state[splats.means]["m"].any() and torch.equal(splats.means, before["means"])
    for step, reset in ((2900, False), (3100, False), (6000, True), (100, False)):
        splats, *_ = refine([SMALL] * 3, [0.0] * 3, opacities=[0.9, 0.9, 0.9], step=step)
        assert (torch.sigmoid(splats.opacity_logits).max() < 0.02) == reset


def test_everything_may_vanish():
    splats, *_ = refine([SMALL] * 2, [0.9, 0.1], opacities=[0.001, 0.001])
    assert len(splats) == 0


# --- mcmc ---


def test_relocated_copies_look_like_the_one_they_replace():
    """The integral of n blended Gaussians over a line through the middle is that of the one, and so is its peak."""
    t = torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    for o, n in ((0.3, 2), (0.9, 2), (0.7, 5), (0.99, 30)):
        shared, shrink = relocated(torch.tensor([o]), torch.tensor([n]))
        gauss = torch.exp(-0.5 * (t / shrink) ** 2)
        both = 1 - (1 - shared * gauss) ** n
        assert both.max().item() == pytest.approx(o, rel=1e-6)
        assert both.sum().item() == pytest.approx((o * torch.exp(-0.5 * t**2)).sum().item(), rel=1e-6)


def test_the_dead_move_to_the_living_and_the_number_grows_to_the_budget():
    opacities = [0.9, 0.8, 0.001, 0.7, 0.001]
    splats, optimizer = make([LARGE] * 5, opacities)
    before = {k: v.detach().clone() for k, v in splats.named_parameters()}
    m = optimizer.state[splats.means]["m"].clone()
    mcmc = Mcmc(config(max_splats=7))
    mcmc.refine(splats, optimizer, 600, torch.Generator().manual_seed(2))
    assert len(splats) == 7  # half as many again, 5 → 7
    same = (splats.sh_dc[:, None] == before["sh_dc"]).all(-1)  # colours tell whose copy each is
    source = same.int().argmax(1)
    assert same.any(1).all() and set(source.tolist()) <= {0, 1, 3}
    copies = torch.bincount(source)[source]
    alone = copies == 1
    assert alone.any() and not alone.all()
    for name, p in splats.named_parameters():
        assert torch.equal(p[alone], before[name][source][alone]), name
    shared, shrink = relocated(torch.tensor(opacities)[source], copies)
    torch.testing.assert_close(torch.sigmoid(splats.opacity_logits).double(), shared, rtol=1e-5, atol=0)
    own = shrink.log() + 0.5 * math.log(OWN) * ~alone
    torch.testing.assert_close(
        splats.log_scales.double(), before["log_scales"][source] + own[:, None], rtol=1e-5, atol=1e-6
    )
    state = optimizer.state[splats.means]["m"]
    assert not state[~alone].any() and torch.equal(state[alone], m[source][alone])
    mcmc.refine(splats, optimizer, 700, torch.Generator().manual_seed(2))
    assert len(splats) == 7, "the budget is a hard cap"


def test_copies_together_cover_what_the_one_did():
    """Own covariance and that of the places add up to the one of eq. 9, Σ, on each axis of the ellipsoid."""
    n = 4000
    splats, optimizer = make([LARGE] * n, [0.5] * (n // 2) + [0.001] * (n // 2))
    with torch.no_grad():
        splats.quats[:] = splats.quats[:1].clone()
        splats.means[:] = 0.0
    Mcmc(config(max_splats=n)).refine(splats, optimizer, 600, torch.Generator().manual_seed(0))
    moved = splats.means.norm(dim=1) > 0
    assert moved.sum() > n / 2
    offset = splats.means[moved] @ rotation_from_quaternion(splats.quats[0])  # along the axes
    own = splats.log_scales[moved].exp()
    sigma = own**2 / OWN
    torch.testing.assert_close((offset**2 / sigma).mean(0) + OWN, torch.ones(3), rtol=0.08, atol=0)


def test_the_least_opaque_move_too():
    splats, optimizer = make([SMALL] * 10, [0.9 - 0.05 * i for i in range(10)])
    before = splats.sh_dc.detach().clone()
    Mcmc(config(max_splats=10, relocate=0.25)).refine(splats, optimizer, 600, torch.Generator().manual_seed(0))
    assert torch.equal(splats.sh_dc[:8], before[:8]) and (splats.sh_dc[8:, None] == before[:8]).all(-1).any(1).all()


def test_mcmc_survives_when_nothing_lives():
    splats, optimizer = make([LARGE] * 3, [0.001] * 3)
    Mcmc(config()).refine(splats, optimizer, 600, torch.Generator())
    assert len(splats) == 3


def test_noise_moves_the_faint_within_their_extent():
    n = 2000
    splats, _ = make([LARGE] * (n + 1), [0.005] * n + [0.9])
    with torch.no_grad():
        splats.quats[:] = splats.quats[:1].clone()
    before = splats.means.detach().clone()
    Mcmc(config(noise=2.0)).explore(splats, 10.0, torch.Generator().manual_seed(0))
    moved = (splats.means - before)[:n]
    assert torch.equal(splats.means[n], before[n])
    rs = rotation_from_quaternion(splats.quats[0]) * splats.log_scales[0].exp()
    sigma = rs @ rs.T * 10  # gate 1/2 · noise 2 · rate 10
    want = sigma @ sigma
    torch.testing.assert_close(moved.T @ moved / n, want, atol=0.1 * want.abs().max().item(), rtol=0)


def test_draws_follow_their_weights():
    counts = torch.bincount(multinomial(torch.tensor([1.0, 0.0, 3.0]), 4000, torch.Generator().manual_seed(0)))
    assert counts[1] == 0 and abs(counts[2] - 3000) < 120


def test_regularisers_have_the_gradient_of_their_mean():
    x = torch.randn(50, 3, requires_grad=True)
    for kind, function in (("sigmoid", torch.sigmoid), ("exp", torch.exp)):
        (want,) = torch.autograd.grad(0.7 * function(x).mean(), x)
        value = Pull.apply(x, 0.7, kind)
        torch.testing.assert_close(value, 0.7 * function(x).mean())
        torch.testing.assert_close(torch.autograd.grad(2 * value, x)[0], 2 * want)


def test_exponentials_do_not_depend_on_the_number_of_threads():
    x = torch.randn(100_003)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(serially(torch.exp, x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
