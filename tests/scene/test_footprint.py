"""Steps and cells that follow the photos' pixels, whatever the distance of the cameras and the unit of the capture."""

import math

import pytest
import torch
from captures import HEIGHT, WIDTH, ring

from neural3d.scene.footprint import ACROSS, photo_resolution, photo_steps, subject_scale
from neural3d.scene.scene import Scene, View

SHORTEST = 1 / 128


def scene(radius=4.0, focal=60.0, unbounded=True):
    cameras = ring(params=(focal, focal, WIDTH / 2, HEIGHT / 2), radius=radius, centre=(0.0, 0.0, 0.0))
    views = [View(str(i), camera, None) for i, camera in enumerate(cameras)]
    aabb = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
    split = {"train": list(range(len(views))), "test": []}
    return Scene("ring", None, "", views, split, aabb, unbounded, 0.1, 100.0, torch.eye(4).double())


def test_distance_and_angle_of_a_pixel():
    distance, angle = subject_scale(scene(radius=4.0))
    assert torch.allclose(angle, torch.tensor(1 / 60.0).double(), rtol=1e-3)
    assert 4.0 < distance.min() < distance.max() < math.hypot(4.0, 1.5) + 1e-6


@pytest.mark.parametrize("radius", [2.0, 4.0, 8.0, 40.0])
def test_a_step_is_so_many_footprints_however_far_the_cameras_stand(radius):
    distance, angle = (x.median() for x in subject_scale(scene(radius)))
    steps = photo_steps(scene(radius), 0.5, SHORTEST)
    assert steps.cone == pytest.approx(float(angle) / 2), "of the pixel alone"
    assert steps.at_subject == pytest.approx(float(angle * distance) / 2)
    # So the steps from half to twice the distance are as many for all of them.
    assert math.log(4) / steps.cone == pytest.approx(math.log(4) * 120, rel=1e-3)


def test_small_photos_get_shorter_steps():
    assert photo_steps(scene(), 100.0, SHORTEST).cone == pytest.approx(WIDTH / 60 / ACROSS, rel=1e-3)


@pytest.mark.parametrize("radius", [2.0, 8.0])
def test_photos_finer_than_the_grid_get_no_finer_steps(radius):
    fine = scene(radius, focal=60_000.0)
    assert photo_steps(fine, 0.5, SHORTEST).at_subject == pytest.approx(SHORTEST)


def test_cameras_amid_the_subject_and_bounded_scenes():
    assert photo_steps(scene(radius=1e-3, focal=60_000.0), 0.5, SHORTEST).cone <= SHORTEST
    bounded = photo_steps(scene(unbounded=False), 0.5, SHORTEST)
    assert (bounded.shortest, bounded.cone, bounded.at_subject) == (SHORTEST, 0.0, SHORTEST)


def test_the_finest_cells_are_two_thirds_of_a_footprint():
    fine = scene(focal=600.0)
    distance, angle = (x.median() for x in subject_scale(fine))
    assert 2 / photo_resolution(fine, side=2) == pytest.approx(float(distance * angle) / 1.5, rel=0.02)
