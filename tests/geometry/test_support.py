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
    assert -TRIM * 1.5 * spacing - 0.04 < kept.vertices[:, 2].min() < 0
    assert abs(kept.area / (2 * np.pi) - 1) < 0.06  # no hole where points happen to be few
