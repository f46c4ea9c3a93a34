"""Outlines hold the subject and leave out what floats about it."""

import math

import numpy as np
import pytest
import torch

from neural3d.geometry.bounds import subject_box
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import cloud_outline, photos_outline, weighted_quantile
from neural3d.render.paths import look_at

UP = torch.tensor([0.0, 0, 1]).double()
BOX = torch.tensor([[-9.0] * 3, [9.0] * 3])  # bounds that say nothing
RADIUS = 0.6


def cameras(middle: torch.Tensor, count: int = 20, arc: float = 2 * math.pi, distance: float = 3.0) -> list[Camera]:
    """Around a ball of RADIUS at `middle`, which takes some 0.7 of each picture."""
    params = torch.tensor([110.0, 110.0, 40.0, 30.0]).double()
    eyes = [torch.tensor([math.cos(a), math.sin(a), 0.4]) for a in np.linspace(0, arc, count, endpoint=False)]
    poses = [look_at(middle + distance * eye.double() / eye.norm(), middle, UP) for eye in eyes]
    return [Camera("PINHOLE", 80, 60, params, pose) for pose in poses]


def ball(count: int, middle: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    x = rng.normal(size=(count, 3))
    return middle + RADIUS * torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))


def reach(outline: torch.Tensor, middle: torch.Tensor) -> tuple[float, float]:
    """Of the outline along the axes: the least and the greatest."""
    sides = torch.stack([outline.amax(0) - middle, middle - outline.amin(0)])
    return float(sides.min()), float(sides.max())


@pytest.mark.parametrize("arc", [2 * math.pi, 1.5])
def test_the_subject_of_the_photos_among_floaters_and_surroundings(arc):
    """A ball with few points before a wall with many, a ground around it, and strays between it and the cameras."""
    rng, middle = np.random.default_rng(0), torch.tensor([3.0, -1.0, 0.5]).double()
    wall = middle + torch.from_numpy(rng.uniform([-12, -12, -4], [-9, 12, 4], (8000, 3)))
    ground = middle + torch.from_numpy(rng.uniform([-9, -9, -0.65], [9, 9, -RADIUS], (3000, 3)))
    strays = middle + torch.from_numpy(rng.normal(size=(60, 3)) * 1.2)
    points = torch.cat([ball(1500, middle, rng), wall, ground, strays])
    least, most = reach(photos_outline(cameras(middle, arc=arc), points, BOX), middle)
    assert least > 0.85 * RADIUS and most < 1.7 * RADIUS


@pytest.mark.parametrize("tall", [True, False])
def test_the_box_holds_what_fills_the_photos_along_their_longer_side(tall):
    """A statue in pictures held upright, with a head of few points; the same lying before pictures held level."""
    rng, middle = np.random.default_rng(0), torch.tensor([3.0, -1.0, 0.5]).double()
    longest, across = (2, [0, 1]) if tall else (1, [0, 2])
    reach = torch.full((3,), 0.25).double().index_fill(0, torch.tensor(longest), 0.95)
    trunk = torch.from_numpy(rng.uniform(-1, 1, (3000, 3))) * reach
    head = torch.from_numpy(rng.uniform(-1, 1, (100, 3))) * 0.05
    head[:, longest] += 1.0
    far = torch.from_numpy(rng.uniform([-9, -9, -2], [9, 9, 2], (4000, 3)))  # what some photos show behind it
    params = torch.tensor([110.0, 110.0, 30.0, 40.0] if tall else [110.0, 110.0, 40.0, 30.0]).double()
    arc = 2 * math.pi if tall else 0.8
    eyes = (
        middle + 3 * torch.tensor([[math.cos(a), math.sin(a), 0.0] for a in np.linspace(0, arc, 20) - arc / 2]).double()
    )
    size = (60, 80) if tall else (80, 60)
    views = [Camera("PINHOLE", *size, params, look_at(eye, middle, UP)) for eye in eyes]
    low, high = subject_box(views, torch.cat([trunk, head, far]) + middle) - middle
    assert 1.0 < high[longest] < 1.25 and -1.25 < low[longest] < -0.95
    assert high[across].max() < 0.85 and low[across].min() > -0.85


def test_without_points_what_the_pictures_frame():
    middle = torch.tensor([3.0, -1.0, 0.5]).double()
    least, most = reach(photos_outline(cameras(middle), None, BOX), middle)
    assert least > 0.85 * RADIUS and most < 1.4 * RADIUS


def test_photos_that_have_nothing_in_common_show_all_points():
    params = torch.tensor([50.0, 50, 40, 30]).double()
    eyes = [torch.tensor([math.cos(a), math.sin(a), 0.0]).double() for a in np.linspace(0, 6, 12)]
    outward = [Camera("PINHOLE", 80, 60, params, look_at(eye, 3 * eye, UP)) for eye in eyes]
    points = torch.from_numpy(np.random.default_rng(0).uniform(-4, 4, (3000, 3)))
    least, most = reach(photos_outline(outward, points, BOX), torch.zeros(3))
    assert least > 3.5 and most < 4.7
    assert torch.equal(photos_outline(outward, None, BOX).amax(0), BOX[1].double())


def test_a_whole_cloud_is_held_exactly_and_a_trimmed_one_loses_its_strays():
    x = ball(4000, torch.zeros(3), np.random.default_rng(0))
    assert torch.equal(cloud_outline(x).amax(0), x.amax(0)) and len(cloud_outline(x)) <= 26
    far = torch.cat([x, torch.tensor([[9.0, 9, 9], [-9, 0, 0]])])
    least, most = reach(cloud_outline(far, trim=0.01), torch.zeros(3))
    assert least > 0.9 * RADIUS and most < 1.01 * RADIUS
    faint = torch.cat([x, 3 * x[:400]])  # a tenth of them, three times as far out and nearly transparent
    weights = torch.ones(len(faint)).index_fill(0, torch.arange(4000, 4400), 0.01)
    assert reach(cloud_outline(faint, weights, trim=0.01), torch.zeros(3))[1] < 1.01 * RADIUS


def test_weighted_quantiles():
    values, weights = torch.tensor([[3.0], [1.0], [2.0]]).double(), torch.tensor([1.0, 2.0, 1.0])
    assert [float(weighted_quantile(values, weights, q)) for q in (0.1, 0.5, 0.6, 0.9, 1.0)] == [1, 1, 2, 3, 3]
    assert float(weighted_quantile(torch.tensor([[5.0]]).double(), torch.ones(1), 0.99)) == 5
