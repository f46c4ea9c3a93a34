import math

import numpy as np
import pytest
import torch

from neural3d.geometry.cameras import Camera
from neural3d.render.paths import look_at
from neural3d.render.spline import as_pinhole, frames_between


def camera(eye: tuple, target: tuple = (0, 0, 0), focal: float = 50, size: tuple[int, int] = (64, 48)) -> Camera:
    pose = look_at(*(torch.tensor(v, dtype=torch.float64) for v in (eye, target, (0.0, 0.0, 1.0))))
    params = torch.tensor([focal, focal, size[0] / 2, size[1] / 2], dtype=torch.float64)
    return Camera("PINHOLE", *size, params, pose)


def centres(cameras: list[Camera]) -> np.ndarray:
    return torch.stack([c.centre for c in cameras]).numpy()


def test_even_key_frames_on_a_circle_give_a_circle_that_keeps_looking_inward():
    angles = 2 * math.pi * np.arange(8) / 8
    keys = [camera((3 * math.cos(a), 3 * math.sin(a), 1)) for a in angles]
    way = frames_between(keys, [10] * 8, cycle=True)
    assert len(way) == 80
    places = centres(way)
    assert np.linalg.norm(places[:, :2], axis=1) == pytest.approx(3, abs=0.03)
    steps = np.linalg.norm(np.roll(places, -1, 0) - places, axis=1)
    np.testing.assert_allclose(steps.reshape(8, 10), np.tile(steps[:10], (8, 1)), rtol=1e-6)  # the seam is no different
    for c in way:
        xy, z = c.project(torch.zeros(3, dtype=torch.float64))
        assert z > 0 and np.hypot(*(xy.numpy() - [32, 24])) < 0.5
        np.testing.assert_allclose((c.world_from_camera[:3, :3].T @ c.world_from_camera[:3, :3]), np.eye(3), atol=1e-9)


def test_speed_and_turn_are_continuous_at_key_frames_of_uneven_distance_and_time():
    keys = [camera((3, 0, 1)), camera((2, 2, 1.5), (0, 1, 0)), camera((1.8, 2.2, 1.5)), camera((-3, 1, 0), focal=80)]
    fine = 4000
    way = frames_between(keys, [fine, fine // 2, fine])
    poses = torch.stack([c.world_from_camera for c in way]).numpy()
    for at in (fine, fine + fine // 2):
        before, after = poses[at] - poses[at - 1], poses[at + 1] - poses[at]
        np.testing.assert_allclose(before, after, atol=0.02 * np.abs(poses[at + 1] - poses[at - 1]).max())
    assert way[-1].params[0] == pytest.approx(80)
    assert np.isfinite(poses).all()


def test_neither_loops_nor_cusps_where_key_frames_lie_close_together():
    """Uniform Catmull-Rom turns back between two close key frames after a long step."""
    keys = [camera((x, -3, 1), (x, 0, 1)) for x in (0.0, 5.0, 5.1, 10.0)]
    x = centres(frames_between(keys, [50] * 3))[:, 0]
    assert (np.diff(x) > 0).all()


def test_two_key_frames_make_a_straight_line_and_a_repeated_one_a_pause():
    a, b = camera((3, 0, 1), focal=50), camera((0, 3, 1), focal=200)
    way = frames_between([a, b], [4])
    np.testing.assert_allclose(centres(way)[2], [1.5, 1.5, 1])
    assert way[2].params[0] == pytest.approx(100), "zooming is even in ln f"
    still = centres(frames_between([a, b, b, a], [5, 5, 5]))
    np.testing.assert_allclose(still[5:11], np.broadcast_to(b.centre.numpy(), (6, 3)), atol=2e-3)
    assert len(frames_between([a, a], [3])) == 4
    with pytest.raises(ValueError, match="need 1 counts"):
        frames_between([a, b], [1, 2])


def test_as_pinhole_keeps_the_vertical_field_of_view():
    lens = Camera("SIMPLE_RADIAL", 80, 60, torch.tensor([70, 41, 28, 0.1]), torch.eye(4))
    wide = as_pinhole(lens, 200, 30)
    assert wide.params.tolist() == [35, 35, 100, 15]
