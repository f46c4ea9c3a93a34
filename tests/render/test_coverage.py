"""Meshes of which it is known how much of the pictures they cover."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from toy import ball_capture

from neural3d.geometry.mesh import Mesh
from neural3d.loading import load_scene
from neural3d.render import RenderOut
from neural3d.render.coverage import VIEWS, coverage

pytest.importorskip("open3d")
BOX = torch.tensor([[-0.7, -0.7, -0.7], [0.7, 0.7, 0.7]])


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Of cameras around the origin; their photos are another's and not asked for."""
    scene = load_scene(ball_capture(tmp_path_factory.mktemp("coverage"), train=VIEWS + 4, test=1, size=64))
    return [replace(scene.views[i], alpha=False) for i in scene.split["train"]]


def ball(radius: float = 0.6) -> Mesh:
    mesh = trimesh.creation.icosphere(5, radius)
    return Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))


def drawn(camera, radius: float = 0.6, fog: float = 0.0) -> RenderOut:
    """A ball about the origin. fog: what each picture shows instead is this near its camera."""
    origin, direction = camera.rays()
    b = (origin * direction).sum(-1)
    root = b**2 - (origin**2).sum(-1) + radius**2
    t = torch.full_like(root, fog) if fog else -b - root.clamp_min(0).sqrt()
    hit = torch.ones_like(root) if fog else (root > 0).float()
    depth = (t * (direction @ camera.forward.float()) * hit)[..., None]
    return RenderOut(torch.zeros(*depth.shape[:2], 3), hit[..., None], depth, torch.zeros(*depth.shape[:2], 3))


def test_the_whole_is_covered(views):
    told = coverage(ball(), drawn, views, BOX)
    assert told.covered > 0.97 and told.good and told.views <= VIEWS
    assert str(told) == f"covers {told.covered:.0%} of what the photos show"


def test_half_a_mesh_covers_half(views):
    """Without the half x > 0; through the cut, the inside is seen, at another depth."""
    mesh = ball()
    half = mesh.kept(mesh.vertices[mesh.faces].mean(1)[:, 0] < 0)
    told = coverage(half, drawn, views, BOX)
    assert told.covered == pytest.approx(0.5, abs=0.06) and not told.good
    assert told.covered + told.missing + told.misplaced == pytest.approx(1)
    assert "missing" in str(told) and "misplaced" in str(told)


def test_a_mesh_at_another_depth_is_misplaced(views):
    told = coverage(ball(0.4), drawn, views, BOX)
    assert told.covered < 0.02
    assert told.misplaced == pytest.approx(0.5, abs=0.1) and told.missing > 0.4  # (0.4 / 0.6)², and a pixel more


def test_fog_before_the_cameras_covers_nothing(views):
    """Each picture explained by something of its own before the box, which no other view confirms."""
    told = coverage(ball(), lambda camera: drawn(camera, fog=0.5), views, BOX)
    assert told.covered == 0 and told.missing + told.misplaced == pytest.approx(1)


def test_what_lies_beyond_the_box_does_not_count(views):
    """A wall behind the ball, which all views see, and no mesh has."""

    def with_wall(camera):
        out = drawn(camera)
        wall = drawn(camera, fog=50.0)
        return replace(out, alpha=wall.alpha, depth=torch.where(out.alpha > 0, out.depth, wall.depth))

    assert coverage(ball(), with_wall, views, BOX).covered > 0.97


def test_alpha_of_photos_says_what_there_is(views):
    """The photos show a larger ball and a slab, the method hardly anything: all of it is missing."""
    with_alpha = [replace(view, alpha=True) for view in views]
    told = coverage(ball(0.05), lambda camera: drawn(camera, 0.05), with_alpha, BOX)
    assert told.covered < 0.05 and told.missing > 0.9


def test_progress_is_told(views):
    steps = []
    told = coverage(ball(), drawn, views, BOX, lambda *step: steps.append(step))
    assert steps[-1] == ("comparing with the photos", told.views, told.views) and len(steps) == told.views
