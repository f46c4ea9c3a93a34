"""What neighbours tell of a cloud: its spacing and the area of each point, its noise, points that stand alone."""

import math

import numpy as np
import pytest
from reference.clouds import sphere

from neural3d.geometry import clouds


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_areas_add_up_to_the_surface_whatever_the_noise(noise):
    points, normals = sphere(np.random.default_rng(0), 8000, noise)
    around = clouds.surroundings(clouds.tree_of(points), planes=False)
    assert abs(clouds.areas(around, normals, noise).sum() / (4 * math.pi) - 1) < 0.15
    if not noise:
        assert abs(np.median(around.spacing) / math.sqrt(4 * math.pi / 8000) - 1) < 0.1


def test_areas_add_up_where_density_falls():
    rng = np.random.default_rng(0)
    points, normals = sphere(rng, 60_000)
    kept = rng.random(len(points)) < 30 ** (-(points[:, 2] + 1) / 2)
    around = clouds.surroundings(clouds.tree_of(points[kept]), planes=False)
    area = clouds.areas(around, normals[kept], 0.0)
    assert np.linalg.norm((area[:, None] * normals[kept]).sum(0)) < 0.03 * area.sum()  # a closed surface's vanishes
    assert abs(area.sum() / (4 * math.pi) - 1) < 0.15


def test_both_sides_of_a_wall_have_their_own_area_and_noise():
    rng = np.random.default_rng(0)
    points = rng.random((8000, 3)) * [1, 1, 0]
    side = np.resize([1.0, -1.0], 8000)
    points[:, 2] = 0.005 * side + 0.001 * rng.standard_normal(8000)  # as far apart as the points
    tree, normals = clouds.tree_of(points), side[:, None] * [0, 0, 1]
    assert abs(clouds.noise(tree, normals) / 0.001 - 1) < 0.2
    assert clouds.noise(tree) > 0.003
    area = clouds.areas(clouds.surroundings(tree, planes=False), normals, 0.001)
    assert abs(area.sum() / 2 - 1) < 0.25  # at the rim, discs count what lies beyond


def test_planes():
    points, normals = sphere(np.random.default_rng(0), 5000)
    around = clouds.surroundings(clouds.tree_of(points), planes=True)
    assert (np.abs((around.normals * normals).sum(1)) > 0.99).mean() > 0.98


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_strays_among_surface_points_and_among_themselves(share):
    rng = np.random.default_rng(0)
    points = sphere(rng, 10_000, 0.01)[0]
    lost = rng.uniform(-2, 2, (round(share * 10_000), 3))
    lost = lost[np.abs(np.linalg.norm(lost, axis=1) - 1) > 0.2]
    stray = clouds.strays(np.concatenate([points, lost]))
    assert stray[10_000:].mean() > 0.95
    assert stray[:10_000].mean() < 0.001


@pytest.mark.parametrize("fall, noise, count", [(30, 0.0, 60_000), (1, 0.05, 10_000), (1, 0.0, 300)])
def test_uneven_noisy_and_sparse_points_are_no_strays(fall, noise, count):
    rng = np.random.default_rng(0)
    points, normals = sphere(rng, count, noise)
    kept = rng.random(count) < fall ** (-(normals[:, 2] + 1) / 2)
    assert clouds.strays(points[kept]).mean() < 0.005
