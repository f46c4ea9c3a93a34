"""Point clouds whose surface is known."""

import numpy as np


def sphere(rng, count, noise=0.0):
    """(points, normals) of the unit sphere, spread evenly, with noise in all directions."""
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals + noise * rng.standard_normal((count, 3)), normals
