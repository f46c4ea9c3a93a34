"""What all methods share, on a field in closed form."""

import math

import pytest
import torch
from toy import ball_capture

from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.methods.base import Method
from neural3d.render import RenderOut


class Onion(Method):
    """A dense green ball of radius 0.5 in a red haze just dense enough to be the surface, out to 0.52."""

    surface_density = 10.0
    batch_size = 1

    def __init__(self, scene):
        super().__init__(None, scene)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def param_groups(self):
        return []

    def loss(self, batch, progress, generator):
        raise NotImplementedError

    def density(self, positions):
        radius = positions.norm(dim=-1)
        return torch.where(radius < 0.5, 1000.0, torch.where(radius < 0.52, 12.0, 0.0))

    def color(self, positions, directions):
        inside = (positions.norm(dim=-1, keepdim=True) < 0.5).float()
        return torch.cat([1 - inside, inside, torch.zeros_like(inside)], -1)

    def render(self, camera: Camera, background=None):
        origins, directions = camera.rays()
        closest = (origins * directions).sum(-1)
        square = closest**2 - (origins.square().sum(-1) - 0.52**2)
        alpha = (square > 0).float()[..., None]
        distance = (-closest - square.clamp(min=0).sqrt())[..., None]
        depth = alpha * distance * (directions @ camera.forward.float())[..., None]
        return RenderOut(alpha.expand(*alpha.shape[:2], 3), alpha, depth, torch.zeros_like(directions))


@pytest.fixture(scope="module")
def onion(tmp_path_factory):
    return Onion(load_scene(ball_capture(tmp_path_factory.mktemp("ball"))))


def test_mesh_colours_are_what_an_eye_sees_through_the_haze(onion):
    mesh = onion.mesh(64)
    assert mesh.volume > 1.2 * 4 / 3 * math.pi * 0.5**3, "below, where no camera looks, the hull closes the surface"
    green = mesh.colors[mesh.vertices[:, 2] > 0][:, 1]
    assert green.mean() > 0.95


def test_hidden_is_what_all_cameras_see_covered(onion):
    hidden = onion._hidden(0.05, torch.device("cpu"))
    points = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0, 0, 0.51], [0.8, 0, 0], [0, 0, -0.6], [100.0, 0, 0]])
    # In the middle; in the ball; at its top; beside it; below it, where cameras above see nothing; out of all pictures.
    assert hidden(points).tolist() == [True, True, False, False, True, False]
