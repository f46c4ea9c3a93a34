"""The blurred inside of a surface of points."""

import math

import numpy as np
import pytest
import torch
from reference.clouds import sphere

from neural3d.geometry.indicator import Indicator, winding_matrix


@pytest.mark.parametrize("uneven", [False, True])
def test_it_is_one_inside_and_nothing_outside(uneven):
    points, normals = sphere(np.random.default_rng(0), 5000)
    points *= 0.7
    width = np.where(points[:, 2] > 0, 0.05, 0.15) if uneven else np.full(5000, 0.05)
    chi = Indicator(points, width)
    vectors = torch.from_numpy(normals).float() * (4 * math.pi * 0.7**2 / 5000)
    places = np.array([[0, 0, 0], [0.3, 0, 0.1], [0, 0, 0.9], [0.9, 0.9, 0.9]])
    found = chi.sample(chi.grid(vectors), places)
    assert torch.allclose(found, torch.tensor([1.0, 1, 0, 0]), atol=0.07)
    assert abs(float(chi.at(vectors).median()) - 0.5) < 0.07
    exact = (winding_matrix(points, width, places) * vectors).sum((1, 2))
    assert torch.allclose(exact, torch.tensor([1.0, 1, 0, 0]), atol=0.03)


def test_the_adjoint_is_the_transpose():
    rng = np.random.default_rng(0)
    points, _ = sphere(rng, 2000)
    points *= 0.8
    for width in (0.05, rng.uniform(0.05, 0.15, 2000)):
        chi = Indicator(points, width, 32)
        v, c = torch.from_numpy(rng.standard_normal((2000, 3))).float(), torch.from_numpy(rng.random(2000)).float()
        assert torch.allclose(chi.at(v) @ c, (v * chi.adjoint(c)).sum(), rtol=1e-3)
