"""A surface is kept where points are, and nowhere else."""

import numpy as np
import trimesh
from reference.clouds import sphere

from neural3d.geometry import clouds
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.support import TRIM, Support


def test_half_a_ball_of_points_keeps_half_a_ball():
    points, _ = sphere(np.random.default_rng(0), 20_000)
    points = points[points[:, 2] > 0]
    around = clouds.surroundings(clouds.tree_of(points), planes=False)
    ball = trimesh.creation.icosphere(5)
    kept = Support.of(points, around.spacing, 0.0).trimmed(Mesh(ball.vertices, ball.faces))
    spacing = np.median(around.spacing)
    assert -0.5 * TRIM * spacing - 0.04 < kept.vertices[:, 2].min() < 0  # 0.04: an edge of the mesh
    assert abs(kept.area / (2 * np.pi) - 1) < 0.02  # no hole where points happen to be few


def test_what_leaves_the_points_is_drawn_back_and_a_gap_is_bridged():
    x, y = np.meshgrid(np.linspace(-1, 1, 81), np.linspace(-1, 1, 81), indexing="ij")
    grid = np.arange(81 * 81).reshape(81, 81)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[1:, :-1].ravel(), grid[1:, 1:].ravel(), grid[:-1, 1:].ravel()
    sheet = Mesh(
        np.stack([x, y, 0 * x], -1).reshape(-1, 3), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    )
    points = np.random.default_rng(0).uniform(-1, 0, (4000, 3)) * [1, 2, 0] + [0, 1, 0]  # half of it
    points = points[np.abs(points[:, 0] + 0.5) > 0.03]
    spacing = np.full(len(points), np.sqrt(2 / 4000))  # 0.022, of which the gap is 2.7
    kept = Support.of(points, spacing, 0.0).trimmed(sheet)
    assert abs(kept.vertices[:, 0].max() - spacing[0] / 2) < 0.026  # within an edge of the mesh
    assert kept.area > 1.95
