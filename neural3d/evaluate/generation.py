"""How like a held-out set a set of generated shapes is, by the distances between them.

Yang et al.: "PointFlow: 3D Point Cloud Generation with Continuous Normalizing Flows", ICCV 2019, section 5.1, with the
Chamfer distance CD(X, Y) = mean_x min_y ‖x − y‖² + mean_y min_x ‖x − y‖².
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
from jaxtyping import Float

from neural3d.geometry.mesh import Mesh
from neural3d.shapes.samples import sample_surface

POINTS = 2048  # of each shape


def clouds_of(meshes: list[Mesh], seed: int = 0) -> list[Float[np.ndarray, "2048 3"]]:
    rng = np.random.default_rng(seed)
    return [sample_surface(mesh, POINTS, rng)[0] for mesh in meshes]


def chamfer_distances(a: list[Float[np.ndarray, "P 3"]], b: list[Float[np.ndarray, "P 3"]]) -> Float[np.ndarray, "A B"]:
    """CD of each cloud of one list and each of the other, in squared units."""
    trees_a, trees_b = ([scipy.spatial.cKDTree(cloud) for cloud in clouds] for clouds in (a, b))
    there = [[np.square(tree.query(cloud)[0]).mean() for tree in trees_b] for cloud in a]
    back = [[np.square(tree.query(cloud)[0]).mean() for cloud in b] for tree in trees_a]
    return np.array(there) + np.array(back)


def generation_scores(
    made: list[Float[np.ndarray, "P 3"]], held_out: list[Float[np.ndarray, "P 3"]]
) -> dict[str, float]:
    """coverage: share of the held-out shapes that are nearest to some generated one; of all alike: 1, more is better.

    minimum_matching: mean distance of held-out shapes to the nearest generated one; less is better. one_nn: share of
    both sets' shapes whose nearest other shape, of both, is of their own set; 0.5: they cannot be told apart.
    """
    across = chamfer_distances(made, held_out)
    inner = [chamfer_distances(clouds, clouds) for clouds in (made, held_out)]
    for distances in inner:
        np.fill_diagonal(distances, np.inf)
    own_made = inner[0].min(1) < across.min(1)
    own_held = inner[1].min(1) < across.min(0)
    return {
        "coverage": len(np.unique(across.argmin(1))) / len(held_out),
        "minimum_matching": float(across.min(0).mean()),
        "one_nn": float(np.concatenate([own_made, own_held]).mean()),
    }
