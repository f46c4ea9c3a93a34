"""Holes of pictures, filled from their rims inwards by whatever completes patches."""

import pytest
import torch

from neural3d import inpaint
from neural3d.inpaint import contrast, filled

SIDE = 8


def torn(size=40, seed=0):
    """Slanting stripes, a hole that reaches one border, and a corner without surface: (pictures, known, wanted)."""
    i, j = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    picture = (0.5 + 0.3 * torch.sin(0.4 * i + 0.2 * j)).expand(1, 3, -1, -1).clone()
    hole = ((i - 22) ** 2 + (j - 30) ** 2 < 13**2)[None]
    there = ~((i > 30) & (j < 8))[None]
    return picture, there & ~hole, there & hole


def test_all_that_is_wanted_is_made_from_what_is_known():
    picture, known, wanted = torn()
    calls = []

    def complete(x, here, pull):
        calls.append((here.flatten(1).float().mean(1), late(here)))
        mean = (x * here[:, None]).sum((2, 3)) / here.sum((1, 2))[:, None]
        return torch.where(here[:, None], x, 2 + mean[:, :, None, None])

    made = filled(picture, known, wanted, SIDE, complete)
    assert torch.equal(made[:, :, known[0]], picture[:, :, known[0]])
    assert (made[:, :, wanted[0]] > 1.5).all()
    assert all((share > 0).all() for share, _ in calls) and float(calls[0][0].min()) >= inpaint.ENOUGH
    assert all((where >= 0.5).all() for _, where in calls)


def late(known):
    """Where, of all places in a patch's order, what is missing lies in the mean: 0 first, 1 last."""
    order = torch.linspace(0, 1, known[0].numel()).view_as(known[0])
    return (~known * order).sum((1, 2)) / (~known).sum((1, 2)) + 1e-6


def test_patches_come_back_as_they_went():
    """What is turned over is turned back: a model that knows the picture restores it."""
    picture, known, wanted = torn()
    truth = picture.clone()
    seen = []

    def complete(x, here, pull):  # the value of a place is told by its patch's known neighbours: waves have two
        seen.append(x)
        return x

    made = filled(torch.where(known, picture, truth), known, wanted, SIDE, complete)
    assert torch.equal(made[:, :, (known | wanted)[0]], truth[:, :, (known | wanted)[0]]) and seen


@pytest.mark.parametrize("known_side", [slice(0, 4), slice(4, 8)])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_missing_comes_last(known_side, axis):
    known = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    known[(slice(None), *[known_side if a == axis else slice(None) for a in (0, 1)])] = True
    turns = inpaint._turns(known)
    turned = inpaint._turned(known[:, None], turns)[:, 0]
    expected = torch.zeros_like(known)
    expected[(slice(None), *[slice(0, 4) if a == axis else slice(None) for a in (0, 1)])] = True
    assert torch.equal(turned, expected)
    assert torch.equal(inpaint._turned(turned[:, None], turns)[:, 0], known)


def test_contrast_is_the_variance_about_local_means():
    picture, known, _ = torn()
    noise = 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(picture, 0.4) + noise
    assert float(contrast(flat, known, SIDE)) == pytest.approx(0.05**2, rel=0.15)
    assert float(contrast(torch.where(known, flat, 9.0), known, SIDE)) == pytest.approx(0.05**2, rel=0.15)
