"""A latent from a cloud, where the field is a formula: two balls, of radii z₁ and z₂ (none where it is negative)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neural3d.methods.deepsdf import DeepSdf, DeepSdfConfig
from neural3d.shapes.category import ShapeSet

CENTRES = torch.tensor([[-0.3, 0.0, 0.0], [0.5, 0.0, 0.0]])
SEED = torch.Generator().manual_seed


class Balls(DeepSdf):
    def distance(self, latents, x):
        return ((x[:, :, None] - CENTRES).norm(dim=-1) - latents[:, None]).amin(-1)


@pytest.fixture(scope="module")
def method():
    box = torch.tensor([[-0.9, -0.6, -0.6], [0.9, 0.6, 0.6]])
    names = {"train": [f"{i}.ply" for i in range(64)], "test": []}
    shapes = ShapeSet("balls", Path("balls"), box, torch.eye(4), names)
    balls = Balls(DeepSdfConfig(latent=2), shapes)
    low, high = torch.tensor([0.3, -0.15]), torch.tensor([0.45, 0.45])
    balls.latents.data = low + (high - low) * torch.rand(64, 2, generator=SEED(0))
    return balls


def cloud(radii, count=300, noise=0.01):
    rng = np.random.default_rng(0)
    share = np.square(radii) / np.square(radii).sum()
    ball = rng.choice(2, count, p=share)
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = CENTRES.numpy()[ball] + np.asarray(radii)[ball, None] * normals + noise * rng.standard_normal((count, 3))
    return torch.from_numpy(points.astype(np.float32))


def test_no_part_appears_where_no_point_lies(method):
    """Any second ball leaves |f| at these points as it is, and most of those known are greater."""
    found = method.code_of(cloud((0.35, 0.0)), SEED(0))
    assert abs(found[0] - 0.35) < 0.01
    assert found[1] < 0.06


def test_parts_that_points_lie_on_stay(method):
    found = method.code_of(cloud((0.4, 0.2)), SEED(0))
    torch.testing.assert_close(found.detach(), torch.tensor([0.4, 0.2]), atol=0.012, rtol=0)


def test_what_the_rest_tells_survives_a_cut(method):
    """Half of each ball is enough to know its radius, though none of the other half's places holds a point."""
    points = cloud((0.4, 0.2))
    found = method.code_of(points[points[:, 1] < 0.0], SEED(0))
    torch.testing.assert_close(found.detach(), torch.tensor([0.4, 0.2]), atol=0.03, rtol=0)


@pytest.mark.parametrize("copies", [1, 40])
def test_a_denser_cloud_says_the_same(method, copies):
    """Coinciding points have no spacing; nothing divides by it, and it does not outweigh the points."""
    found = method.code_of(cloud((0.4, 0.2)).repeat(copies, 1), SEED(0))
    torch.testing.assert_close(found.detach(), torch.tensor([0.4, 0.2]), atol=0.012, rtol=0)
