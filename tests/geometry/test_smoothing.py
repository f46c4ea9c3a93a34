"""How far points can be averaged: far where a surface is smooth, less at creases and where it is bent."""

import numpy as np

from neural3d.geometry import clouds
from neural3d.geometry.smoothing import LARGEST, LEAST, relative_lengths

COUNT, NOISE = 20_000, 0.003


def roof(rng, slope):
    """Two planes that meet at x = 0, over a square of side 2."""
    x, y = rng.uniform(-1, 1, (2, COUNT))
    points = np.stack([x, y, slope * np.abs(x)], 1) + NOISE * rng.standard_normal((COUNT, 3))
    normals = np.stack([-slope * np.sign(x), 0 * x, np.ones(COUNT)], 1) / np.hypot(1, slope)
    return points, normals


def lengths(points, normals, h=0.02):
    return relative_lengths(clouds.tree_of(points), normals, NOISE, h)


def test_planes_are_averaged_far_and_their_crease_is_not():
    x, ratio = lengths(*roof(np.random.default_rng(0), 1.0))
    far, beside = np.abs(x[:, 0]) > 0.6, np.abs(x[:, 0]) < 0.03
    assert np.median(ratio[far]) > 2 > 1.4 > np.median(ratio[beside])
    assert (ratio >= LEAST - 1e-6).all() and (ratio <= LARGEST + 1e-6).all()


def test_both_sides_of_a_wall_are_averaged_apart():
    points, normals = roof(np.random.default_rng(0), 0.0)
    wall = np.concatenate([points, points - [0, 0, 10 * NOISE]]), np.concatenate([normals, -normals])
    assert np.median(lengths(*wall)[1]) > 1.3


def test_exact_points_of_a_bent_surface_are_followed():
    normals = np.random.default_rng(0).standard_normal((3000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    tree = clouds.tree_of(normals * (1 + 0.1 * np.sin(8 * normals[:, :1])))
    assert relative_lengths(tree, normals, 1e-5, 0.02)[1].max() <= 1
    few = clouds.tree_of(normals[:60])  # fewer than the larger neighbourhoods
    assert np.isfinite(relative_lengths(few, normals[:60], 1e-5, 0.02)[1]).all()
