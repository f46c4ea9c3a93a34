"""The street is what it says: its points are on what rays hit, it loads, and no two houses stand in each other."""

import math

import numpy as np
import torch

from neural3d.loading import load_scene
from neural3d.synthetic.street import EYE, LENGTH, SKY, Street, make_street, pose


def test_rays_end_where_they_must():
    street = Street.built()
    origins = torch.tensor([[0.0, 0.0, EYE]]).repeat(3, 1)
    down, up, side = torch.eye(3)[2] * -1, torch.eye(3)[2], torch.eye(3)[1]
    t, what, axis = street.hit(origins, torch.stack([down, up, side]))
    assert t[:2].tolist() == [torch.tensor(EYE).item(), SKY] and what[:2].tolist() == [-1, -2]
    front = street.low[what[2], 1] if what[2] >= 0 else torch.tensor(SKY)
    assert t[2] == front and axis[2] == 1


def test_houses_line_the_road_and_keep_apart():
    street = Street.built(3)
    for side in (-1, 1):
        row = (street.low[:, 1] * side > 0) | (street.high[:, 1] * side > 0) & (street.low[:, 1] * side >= 0)
        low, high = street.low[row, 0].sort().values, street.high[row, 0].sort().values
        assert (low[1:] >= high[:-1] - 1e-4).all()
    assert street.low[:, 0].min() < -LENGTH / 2 and street.high[:, 0].max() > LENGTH / 2


def test_a_capture_of_it_loads_upright_with_its_points(tmp_path):
    folder = make_street(tmp_path, stations=4, width=24, height=18)
    scene = load_scene(folder)
    assert len(scene.views) == 12 and scene.unbounded and len(scene.points[0]) > 300
    up = scene.scene_from_capture[:3, :3] @ torch.tensor([0.0, 0, 1]).double()
    assert up[2] / up.norm() > 0.99
    view = scene.views[5]
    at = pose((1 / 3 - 0.5) * (LENGTH - 4), 1.2, math.radians(180 - 55))
    assert view.name.endswith("01_2.png")
    assert np.array_equal(view.image(), Street.built().photo(at, 24, 18))
