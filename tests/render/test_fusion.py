import numpy as np
import pytest
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import extract
from neural3d.geometry.solid import open_edges
from neural3d.render import RenderOut
from neural3d.render.fusion import LONGEST, MOST_VIEWS, Fused, fewer_and_smaller, fused_surface, truncation
from neural3d.render.paths import look_at

BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
RADIUS = 0.7


def camera(direction: tuple, distance: float = 3.0, side: int = 160) -> Camera:
    eye = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0) * distance
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    params = torch.tensor([0.8 * side, 0.8 * side, side / 2, side / 2])
    return Camera("PINHOLE", side, side, params, look_at(eye, torch.zeros(3, dtype=torch.float64), up))


def ball(camera: Camera, background: torch.Tensor) -> RenderOut:
    """A ball of RADIUS, red where x > 0 and blue elsewhere, on whatever background."""
    origin, direction = camera.rays()
    b = (origin * direction).sum(-1)
    root = b**2 - (origin**2).sum(-1) + RADIUS**2
    hit = (root > 0)[..., None]
    t = -b - root.clamp_min(0).sqrt()
    x = origin + t[..., None] * direction
    rgb = torch.where(x[..., :1] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9]))
    z = (t * (direction @ camera.forward.float()))[..., None]
    rgb, z = torch.where(hit, rgb, background), torch.where(hit, z, 0)
    return RenderOut(rgb, hit.float(), z, torch.where(hit, x / RADIUS, 0))


AROUND = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)]
BELOW = [(1, 1, -1), (-1, 1, -1), (1, -1, -1), (-1, -1, -1)]


def fused_ball(directions: list[tuple], closed: bool, resolution: int = 64):
    fused = Fused(ball, [camera(d) for d in directions], truncation(BOX, resolution))
    mesh, color = fused_surface(fused, lambda field: extract(field, BOX, resolution), closed=closed)
    return mesh.colored(color)


def test_a_ball_seen_from_all_sides_is_that_ball_in_its_colours():
    mesh = fused_ball(AROUND + BELOW, closed=True)
    assert not open_edges(mesh)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(radius - RADIUS).mean() < 0.01 and abs(radius - RADIUS).max() < 0.06
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.04)
    clear = abs(mesh.vertices[:, 0]) > 0.1
    expected = np.where(mesh.vertices[:, :1] > 0, [[0.9, 0.1, 0.1]], [[0.1, 0.1, 0.9]])
    np.testing.assert_allclose(mesh.colors[clear], expected[clear], atol=0.03)


def test_what_nobody_sees_is_filled_or_left_open():
    """Three cameras on one side: their shadow is inside, or the surface ends where they cannot look."""
    front = [(1, 0, 0.2), (1, 0.4, 0.2), (1, -0.4, 0)]
    closed, opened = (fused_ball(front, closed=closed) for closed in (True, False))
    assert not open_edges(closed) and open_edges(opened)
    assert closed.vertices[:, 0].min() < -0.9, "the shadow reaches the box"
    assert abs(np.linalg.norm(opened.vertices, axis=1) - RADIUS).max() < 0.1
    assert opened.vertices[:, 0].min() > -0.3


def test_nothing_is_a_sentence():
    def empty(camera: Camera, background: torch.Tensor) -> RenderOut:
        nothing = torch.zeros(camera.height, camera.width, 1)
        return RenderOut(nothing.expand(-1, -1, 3), nothing, nothing, nothing.expand(-1, -1, 3))

    fused = Fused(empty, [camera((1, 0, 0))], 0.1)
    with pytest.raises(UserError, match="no surface"):
        fused_surface(fused, lambda field: extract(field, BOX, 32), closed=True)


def test_many_large_views_become_fewer_and_smaller():
    chosen = fewer_and_smaller([camera((1, k / 100, 0), side=1000) for k in range(300)])
    assert len(chosen) <= MOST_VIEWS and {(c.width, c.height) for c in chosen} == {(LONGEST, LONGEST)}


def test_what_one_view_sees_alone_is_silenced():
    """A disc before the ball in one picture: a floater, without which the others agree."""
    cameras = [camera((1, 0.05 * k, 0.1 * (k % 2))) for k in range(6)]

    def render(camera: Camera, background: torch.Tensor) -> RenderOut:
        out = ball(camera, background)
        disc = torch.zeros_like(out.alpha)
        if camera is cameras[2]:
            disc[60:100, 60:100] = 1
        depth = torch.where(disc > 0, 1.2, out.depth)
        normal = torch.where(disc > 0, -camera.forward.float(), out.normal)
        return RenderOut(out.rgb, torch.maximum(out.alpha, disc), depth, normal)

    nearest = []
    for confirms in (False, True):
        fused = Fused(render, cameras, truncation(BOX, 64))
        if confirms:
            fused.confirm()
        spot = cameras[2].centre.float() + 1.2 * cameras[2].forward.float()
        behind = spot + 0.02 * cameras[2].forward.float()
        nearest.append(bool(fused.distance(behind[None]).abs() < fused.truncation))
    assert nearest == [True, False]


def test_a_place_is_fused_as_far_as_it_is_seen():
    """Cameras about the origin see a ball from inside, three times beyond the unit cube: cells and τ grow with it."""
    wide = 3.0

    def inside(camera: Camera, background: torch.Tensor) -> RenderOut:
        origin, direction = camera.rays()
        b = (origin * direction).sum(-1)
        t = -b + (b**2 - (origin**2).sum(-1) + wide**2).sqrt()
        x = origin + t[..., None] * direction
        z = (t * (direction @ camera.forward.float()))[..., None]
        return RenderOut(torch.ones_like(x), torch.ones_like(z), z, -x / wide)

    cameras = []
    for k in range(24):
        angle = torch.tensor(2 * torch.pi * k / 24, dtype=torch.float64)
        eye = 0.5 * torch.stack([angle.cos(), angle.sin(), 0.2 * angle.sin()])
        pose = look_at(eye, 2 * eye, torch.tensor([0.0, 0, 1], dtype=torch.float64))
        cameras.append(Camera("PINHOLE", 80, 80, torch.tensor([50.0, 50, 40, 40]), pose))
    fused = Fused(inside, cameras, 0.05, contracted=True)
    fused.confirm()
    box = fused.extent()
    assert 1.55 < box.abs().max() < 1.8  # 2 − 1/3 and a margin
    mesh, _ = fused_surface(fused, lambda field: extract(field, box, 96), closed=False)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(radius - wide).mean() < 0.02 * wide and abs(radius - wide).max() < 0.12 * wide
    assert mesh.area > 0.3 * 4 * np.pi * wide**2
