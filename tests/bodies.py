"""A body of SMPL's layout with every term present, made of random numbers: small, and nobody's property."""

import numpy as np


def smpl_arrays(vertices=60, joints=24, shapes=10, seed=0, **more):
    """Arrays as in SMPL's files. Joints lie near the vertices that they move; K = 4 bones a vertex."""
    rng = np.random.default_rng(seed)
    template = rng.uniform(-0.5, 0.5, (vertices, 3)) * [0.6, 1.8, 0.3]
    parents = np.array([2**32 - 1, *(rng.integers(max(0, j - 3), j) for j in range(1, joints))], np.int64)
    weights = np.zeros((vertices, joints))
    for row in weights:
        row[rng.choice(joints, 4, replace=False)] = rng.uniform(0.1, 1, 4)
    regressor = rng.uniform(0, 1, (joints, vertices)) * (rng.uniform(0, 1, (joints, vertices)) < 0.3) + 1e-3
    return {
        "v_template": template,
        "shapedirs": rng.normal(size=(vertices, 3, shapes)) * 0.03,
        "posedirs": rng.normal(size=(vertices, 3, 9 * (joints - 1))) * 0.01,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": np.stack([parents, np.arange(joints)]),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": rng.integers(0, vertices, (2 * vertices, 3)).astype(np.uint32),
        **more,
    }
