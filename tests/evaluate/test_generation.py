"""Scores of generated sets, where they are known: the same distribution, one shape again and again, another place."""

import numpy as np
import pytest

from neural3d.evaluate.generation import chamfer_distances, generation_scores


def balls(radii, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    clouds = []
    for radius in radii:
        points = rng.standard_normal((256, 3))
        clouds.append(radius * points / np.linalg.norm(points, axis=1, keepdims=True) + shift)
    return clouds


def test_chamfer_distance_of_two_points():
    (distance,) = chamfer_distances([np.zeros((1, 3))], [np.array([[1.0, 0, 0], [0, 2.0, 0]])])[0]
    assert distance == pytest.approx(1 + (1 + 4) / 2)


def test_sets_of_one_distribution_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    a, b = (balls(rng.uniform(0.5, 1.5, 60), i) for i in (1, 2))
    scores = generation_scores(a, b)
    assert 0.35 < scores["one_nn"] < 0.65 and scores["coverage"] > 0.4 and scores["minimum_matching"] < 0.06


def test_one_shape_again_and_again_covers_one():
    rng = np.random.default_rng(0)
    scores = generation_scores(balls([1.0] * 30, 1), balls(rng.uniform(0.5, 1.5, 30), 2))
    assert scores["coverage"] < 0.2 and scores["one_nn"] > 0.8


def test_another_place_is_told_at_once():
    rng = np.random.default_rng(0)
    scores = generation_scores(balls(rng.uniform(0.5, 1.5, 20), 1, shift=5.0), balls(rng.uniform(0.5, 1.5, 20), 2))
    assert scores["one_nn"] == 1.0 and scores["minimum_matching"] > 20
