"""Pairs and matches by products of descriptors, against the slow and obvious way."""

import numpy as np
import pytest

import neural3d.sfm.worker.matching as matching
from neural3d.sfm.worker.matching import (
    CHANCE,
    FAR,
    NEAR,
    coarse_scores,
    largest,
    mutual_matches,
    nearest,
    promising,
    unit,
)


def descriptors(count, seed=0):
    return np.random.default_rng(seed).gamma(0.6, 30, (count, 128)).clip(0, 255).astype(np.uint8)


def seen_again(of, noise, seed=1):
    """The same features in another photo, in another order, after a change of `noise` levels."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(of))
    return (of[order] + rng.normal(0, noise, of.shape)).clip(0, 255).astype(np.uint8), order


def obvious_matches(a, b):
    angles = np.arccos(np.clip(a.astype(np.float64) @ b.T.astype(np.float64), -1, 1))

    def chosen(rows):
        best = rows.argsort(1)[:, :2]
        first, second = np.take_along_axis(rows, best, 1).T
        return np.where((first < 0.8 * second) & (first < 0.7), best[:, 0], -1)

    there, back = chosen(angles), chosen(angles.T)
    return [(i, j) for i, j in enumerate(there) if j >= 0 and back[j] == i]


@pytest.mark.parametrize("block", [1, 1000, 1 << 20])
def test_matches_are_those_of_all_angles(monkeypatch, block):
    monkeypatch.setattr(matching, "BLOCK", block)
    first = descriptors(180)
    second, order = seen_again(first[:120], 20)
    second = np.concatenate([second, second[:5], descriptors(40, 7)])  # five features twice: too alike to match
    a, b = unit(first), unit(second)
    found = mutual_matches(a, b)
    assert [tuple(pair) for pair in found.tolist()] == obvious_matches(a, b)
    assert 60 < len(found) <= 115 and all(order[j] == i for i, j in found)
    assert not np.isin(found[:, 1], [*range(5), *range(120, 125)]).any()


def test_edges():
    none, one, some = unit(descriptors(0)), unit(descriptors(1)), unit(descriptors(30))
    for a, b in ((none, some), (some, none), (some, one), (none, none)):
        assert mutual_matches(a, b).shape == (0, 2)
    assert (nearest(some, unit(descriptors(30, 9))) == -1).all()
    assert np.isfinite(unit(np.zeros((2, 128), np.uint8))).all()


def test_the_coarse_look_takes_the_largest_features(monkeypatch):
    monkeypatch.setattr(matching, "COARSE", 3)
    d = descriptors(6)
    assert np.array_equal(largest(d, np.array([1, 9, 2, 8, 7, 3])), unit(d[[1, 3, 4]]))


def test_scores_tell_photos_of_one_thing_from_those_of_another():
    things = descriptors(60), descriptors(60, 5)
    photos = [unit(seen_again(thing, 12, seed)[0]) for thing in things for seed in (1, 2, 3)]
    seen = []
    scores = coarse_scores(photos, 2, seen.append)
    assert seen == list(range(1, 16))
    same = {pair: n for pair, n in scores.items() if pair[0] // 3 == pair[1] // 3}
    assert min(same.values()) > 30 > CHANCE >= max(n for pair, n in scores.items() if pair not in same)


def test_promising_pairs():
    """A ring of photos, alike as they are near: neighbours in the ring, and some across it where these still match."""
    count = 60
    apart = lambda i, j: min((i - j) % count, (j - i) % count)  # noqa: E731
    scores = {(i, j): max(0, 100 - 4 * apart(i, j)) for i in range(count) for j in range(i + 1, count)}
    pairs = promising(scores, count)
    assert all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs) <= count * (NEAR + FAR)
    assert {(0, 1), (0, 5), (0, 59)} <= set(pairs)
    assert max(apart(i, j) for i, j in pairs) > 15  # a loop is closed before it is whole
    assert min(scores[pair] for pair in pairs) > CHANCE
    assert len(promising({(i, j): 0 for i, j in scores}, count)) >= count * NEAR / 2  # never without a partner
