"""Meshes of fields, of one in closed form: what is inside, what colour is seen, what a crop box cuts off."""

import math

import pytest
import torch
from toy import ball_capture

from neural3d.geometry.cameras import Camera
from neural3d.loading import load_scene
from neural3d.render import RenderOut
from neural3d.render.extraction import hidden_from, mesh_box, surface_of_density, surface_within

CPU = torch.device("cpu")

# A dense green ball of radius 0.5 in a red haze just dense enough to be the surface, out to 0.52.


def density(positions):
    radius = positions.norm(dim=-1)
    return torch.where(radius < 0.5, 1000.0, torch.where(radius < 0.52, 12.0, 0.0))


def color(positions, directions):
    inside = (positions.norm(dim=-1, keepdim=True) < 0.5).float()
    return torch.cat([1 - inside, inside, torch.zeros_like(inside)], -1)


def render(camera: Camera):
    origins, directions = camera.rays()
    closest = (origins * directions).sum(-1)
    square = closest**2 - (origins.square().sum(-1) - 0.52**2)
    alpha = (square > 0).float()[..., None]
    distance = (-closest - square.clamp(min=0).sqrt())[..., None]
    depth = alpha * distance * (directions @ camera.forward.float())[..., None]
    return RenderOut(alpha.expand(*alpha.shape[:2], 3), alpha, depth, torch.zeros_like(directions))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return load_scene(ball_capture(tmp_path_factory.mktemp("ball")))


def test_mesh_colours_are_what_an_eye_sees_through_the_haze(scene):
    mesh, seen = surface_of_density(scene, render, density, color, 64, level=10.0, device=CPU)
    mesh = mesh.colored(seen)
    assert mesh.volume > 1.2 * 4 / 3 * math.pi * 0.5**3, "below, where no camera looks, the hull closes the surface"
    green = mesh.colors[mesh.vertices[:, 2] > 0][:, 1]
    assert green.mean() > 0.95


def test_hidden_is_what_all_cameras_see_covered(scene):
    hidden = hidden_from(scene, render, 160, None, CPU)  # four cells of the box's two units: 0.05
    points = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0, 0, 0.51], [0.8, 0, 0], [0, 0, -0.6], [100.0, 0, 0]])
    # In the middle; in the ball; at its top; beside it; below it, where cameras above see nothing; out of all pictures.
    assert hidden(points).tolist() == [True, True, False, False, True, False]


def test_a_crop_box_is_in_the_captures_frame_and_closes_what_it_cuts(scene):
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture)
    upper = torch.tensor([[-0.8, -0.8, 0.0], [0.8, 0.8, 0.8]], dtype=torch.float64)
    corners = torch.cartesian_prod(*upper.T) @ capture_from_scene[:3, :3].T + capture_from_scene[:3, 3]
    crop = torch.stack([corners.amin(0), corners.amax(0)])
    torch.testing.assert_close(mesh_box(scene, crop), upper.float())
    assert mesh_box(scene, None) is scene.aabb
    half = surface_within(scene, lambda x: x.norm(dim=-1) - 0.5, 64, crop, device=CPU)
    assert half.volume == pytest.approx(2 / 3 * math.pi * 0.5**3, rel=0.02)
    assert half.vertices[:, 2].min() == pytest.approx(0, abs=0.02)
