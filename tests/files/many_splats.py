"""Splats for tests of files: within what formats of few bits can say, and how to compare what came back."""

from __future__ import annotations

import torch

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.rotations import rotation_from_quaternion


def scene(n=200, degree=3, seed=0):
    torch.manual_seed(seed)
    return Gaussians(
        torch.randn(n, 3) * 3, torch.rand(n, 3) * 5 - 6, torch.randn(n, 4), torch.randn(n) * 2,
        torch.randn(n, 3) * 0.8, torch.randn(n, (degree + 1) ** 2 - 1, 3).clamp(-3, 3) * 0.3,
    )  # fmt: skip


def assert_equal(a, b):
    for (name, p), q in zip(a.named_parameters(), b.parameters()):
        assert torch.equal(p, q), name


def assert_same_turn(a, b, degrees):
    turns = rotation_from_quaternion(a.double()).mT @ rotation_from_quaternion(b.double())
    angle = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert angle.max().rad2deg() < degrees


def matched(found, gaussians):
    """`found` in the order of `gaussians`: files may sort their splats. By the nearest means, each taken once."""
    nearest = torch.cdist(gaussians.means.detach().double(), found.means.detach().double()).argmin(1)
    assert len(nearest.unique()) == len(gaussians) == len(found)
    return found.selected(nearest)
