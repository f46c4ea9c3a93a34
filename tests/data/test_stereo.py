"""Photos of a glossy ball with bowls: they agree about the true surface, and tell which way to it."""

import pytest
import torch
from torch.nn.functional import normalize

from neural3d.data.rays import ImageSource
from neural3d.data.stereo import RADIUS, Stereo
from neural3d.loading import load_scene
from neural3d.render.surface import sphere_trace
from neural3d.synthetic.hollows import HollowBall, photograph

CPU = torch.device("cpu")
BALL = HollowBall()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return load_scene(photograph(BALL, tmp_path_factory.mktemp("ball") / "capture", 6, front=True, alpha=True, size=96))


def on_surface(scene, batch):
    """Where rays meet the ball, and its normals there, in the scene's frame."""
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture).float()
    unit = float(torch.linalg.det(scene.scene_from_capture[:3, :3])) ** (1 / 3)

    def field(x):
        return unit * BALL.sdf(x @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3])

    hits = sphere_trace(field, batch.origins, batch.directions, 0.5, 10.0)
    batch = batch[hits.hit]
    points = (batch.origins + hits.t[hits.hit, None] * batch.directions).requires_grad_()
    (normals,) = torch.autograd.grad(field(points).sum(), points)
    return batch, points.detach(), normalize(normals, dim=-1)


def test_photos_agree_about_the_truth_and_pull_towards_it(scene):
    stereo = Stereo(ImageSource(scene, CPU), scene.aabb.mean(0))
    costs, slopes = [], []
    for away in (-0.03, 0.0, 0.03):  # 1 % of the diagonal nearer to the camera, and farther
        g = torch.Generator().manual_seed(0)
        t = torch.tensor(away, requires_grad=True)
        cost = 0.0
        for _ in range(4):
            batch, points, normals = on_surface(scene, stereo.draw(400, g))
            assert len(batch) > 10
            cost = cost + stereo.disagreement(batch, points + t * batch.directions, normals) / 4
        cost.backward()
        costs.append(float(cost.detach()))
        slopes.append(float(t.grad))
    assert costs[1] < 0.3 and costs[0] > 1.5 * costs[1] and costs[2] > 1.5 * costs[1]
    assert slopes[0] < -2 and abs(slopes[1]) < 2 and slopes[2] > 2


def test_what_is_drawn_shows_the_subject_and_comes_from_one_photo(scene):
    source = ImageSource(scene, CPU)
    stereo = Stereo(source, scene.aabb.mean(0))
    batch = stereo.draw(300, torch.Generator().manual_seed(1))
    assert len(batch) and (batch.view == batch.view[0]).all()
    alpha = torch.from_numpy(source.views[int(batch.view[0])].image()[..., 3].copy())
    for x, y in (batch.xy - 0.5).long().tolist():
        assert (alpha[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1] > 127).all()
    source.pixels[:, :3] = 200
    assert not len(stereo.draw(300, torch.Generator().manual_seed(1))), "of one colour, a patch fits anywhere"


def test_without_neighbours_nothing_is_said(scene):
    source = ImageSource(scene, CPU)
    source.views, source.first = source.views[:1], source.first[:2]
    stereo = Stereo(source, scene.aabb.mean(0))
    batch = stereo.draw(100, torch.Generator().manual_seed(0))
    assert len(batch) == 0 and stereo.disagreement(batch, batch.origins, batch.directions) == 0
