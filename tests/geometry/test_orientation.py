"""Which way normals point: of solids, of thin walls, of open sheets; with noise and where density falls."""

import numpy as np
import pytest
from reference.clouds import sphere

from neural3d.geometry import clouds
from neural3d.geometry.orientation import outward_normals


def oriented(points):
    return told(points)[0]


def told(points):
    around = clouds.surroundings(clouds.tree_of(points), planes=True)
    return outward_normals(points, around.normals, around.spacing)


def bowl(rng, count, wall):
    """Half a ball's shell, open to the top: (points, normals) of its outer and inner side, without the narrow rim."""
    _, normals = sphere(rng, 2 * count)
    normals = normals[normals[:, 2] < 0]
    side = np.resize([1.0, -1.0], len(normals))
    return (0.9 - wall * (side < 0))[:, None] * normals, side[:, None] * normals


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_out_of_a_ball_of_uneven_density(noise):
    rng = np.random.default_rng(0)
    points, normals = sphere(rng, 12_000)
    kept = rng.random(len(points)) < 10 ** (-(points[:, 2] + 1) / 2)
    points = 0.9 * points[kept] + noise * rng.standard_normal((kept.sum(), 3))
    assert ((oriented(points) * normals[kept]).sum(1) > 0).mean() > 0.98


def test_both_sides_of_a_thin_wall():
    points, normals = bowl(np.random.default_rng(0), 12_000, 0.05)
    assert ((oriented(points) * normals).sum(1) > 0).mean() > 0.95


def test_both_sides_of_a_wall_thinner_than_its_points_are_apart():
    points, normals = bowl(np.random.default_rng(0), 6000, 0.02)
    points += 0.003 * np.random.default_rng(1).standard_normal(points.shape)  # √(area / points) = 0.035
    assert ((oriented(points) * normals).sum(1) > 0).mean() > 0.9


def test_a_wall_thinner_than_its_noise_is_a_sheet():
    # With its sides mixed, what a cup encloses would be solid.
    rng = np.random.default_rng(0)
    points, _ = bowl(rng, 12_000, 0.01)
    points += 0.012 * rng.standard_normal(points.shape)
    turned, sheet = told(points)
    out = (turned * points).sum(1)
    assert sheet and max((out > 0).mean(), (out < 0).mean()) > 0.98
    assert not told(0.9 * sphere(rng, 8000)[0])[1]


def test_one_side_of_a_sheet():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-0.9, 0.9, (2, 5000))
    points = np.stack([x, y, 0.2 * np.sin(4 * x) * np.cos(3 * y)], 1)
    up = oriented(points)[:, 2] > 0
    assert up.mean() in (0, 1)
