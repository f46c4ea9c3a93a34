"""The ball with hollows: its distance, its photos, and the error that it is there to tell."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.loading import load_scene
from neural3d.synthetic.hollows import HollowBall, hollow_error, photograph, surroundings, true_depth

BOWL = HollowBall(hollows=(((0.8, 0.0, 0.0), (0.8, 0.0, 0.0), 0.3),))


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return photograph(HollowBall(), tmp_path_factory.mktemp("ball") / "capture", 3, front=True, alpha=True, size=48)


def test_distances_are_those_of_a_ball_without_its_hollows():
    x = torch.tensor([[0.0, 0, 0], [0.8, 0, 0], [0.45, 0, 0], [0.6, 0, 0], [-1, 0, 0], [0, 0.8, 0]])
    expected = torch.tensor([-0.5, 0.3, -0.05, 0.1, 0.2, 0.0])
    torch.testing.assert_close(BOWL.sdf(x), expected)


def test_rays_meet_the_bottom_of_a_bowl_and_pass_through_a_tunnel():
    origins = torch.tensor([[4.0, 0, 0], [4, 0, 0.5], [0.25, 0, 4], [4, 0, 2]])
    directions = torch.tensor([[-1.0, 0, 0], [-1, 0, 0], [0, 0, -1], [-1, 0, 0]])
    t, hit = BOWL.hit(origins[:2], directions[:2])
    assert hit.all() and t.tolist() == pytest.approx([3.5, 4 - math.sqrt(0.64 - 0.25)], abs=1e-3)
    assert HollowBall().hit(origins[2:], directions[2:])[1].tolist() == [False, False], "a tunnel, and beside the ball"


def test_other_balls_are_other_balls_of_the_same_kind():
    one, two = HollowBall.other(1), HollowBall.other(2)
    assert one == HollowBall.other(1) != two and len(one.hollows) == len(HollowBall.hollows)
    assert 0.6 < one.radius / 0.8 < 1.3 and one.radius != two.radius


def test_photos_are_glossy_and_overexposed_and_cut_out(capture):
    scene = load_scene(capture)
    assert [len(scene.split[s]) for s in ("train", "test")] == [3, 6]
    pixels = np.stack([v.image() for v in scene.views])
    inside = pixels[..., 3] > 250
    assert 0.3 < inside.mean() < 0.7
    white = (pixels[..., :3].min(-1) > 252) & inside
    assert 0.01 < white.sum() / inside.sum() < 0.2
    x = torch.tensor([[0.8, 0.0, 0.0]])
    looks = [HollowBall(hollows=()).color(x, torch.nn.functional.normalize(-torch.tensor([d]), dim=1))
             for d in ([0.8, -0.3, -0.5], [0.8, 0.3, 0.5])]  # fmt: skip
    assert (looks[0] - looks[1]).max() > 0.1, "highlights move with the camera"


def test_without_alpha_there_are_surroundings(tmp_path):
    folder = photograph(HollowBall(), tmp_path / "opaque", 1, front=True, alpha=False, size=16)
    corner = np.asarray(Image.open(folder / "train" / "000.png"))
    assert corner.shape == (16, 16, 3)
    view = load_scene(folder, unbounded=True).views[0]
    direction = view.camera.rays(torch.tensor([[0.5, 0.5]]).double())[1].float()
    assert np.abs(corner[0, 0] / 255 - surroundings(direction)[0].numpy()).max() < 0.03


def test_errors_are_those_of_depths_in_hollows(capture):
    """Of the true depths none; of the ball with its hollows filled, what they are deep; of nothing at all, 1."""
    scene, ball = load_scene(capture), HollowBall()
    camera = scene.views[0].camera
    depths = [true_depth(b, scene, camera)[0] for b in (ball, HollowBall(hollows=()))]
    exact, shallow = (hollow_error(ball, scene, camera, depth) for depth in depths)
    assert len(exact) > 100 and exact.max() < 1e-3
    unit = float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)
    nearest = float(depths[1][depths[1] > 0].min()) / unit
    assert nearest == pytest.approx(4.0 - 0.8, abs=0.01), "the ball's front, in the capture's unit"
    assert 0.03 < shallow.mean() < 0.2 and shallow.min() > 0
    assert (hollow_error(ball, scene, camera, torch.zeros(48, 48)) == 1).all()
