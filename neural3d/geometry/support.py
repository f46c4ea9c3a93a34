"""Where a point cloud supports a surface, and the trimming of what it does not.

The rule: a place is supported where a point of the cloud is no farther than a radius, TRIM of its own spacings (√ of
the area that it stands for) and two standard deviations of the noise taken together. So wide the points leave no holes
in what is supported, but it reaches as far beyond the last of them: of the surface that remains which is farther
than BACK of a radius from all that is not supported. (A morphological closing of the points.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.clouds import tree_of
from neural3d.geometry.mesh import Mesh, remove_floaters

TRIM = 2.0  # spacings: gaps of four between points are bridged
BACK = 0.75  # of the radius, by which the rim is drawn back: half a spacing beyond the last points is left
MOST = 100_000  # points that are kept; the rest is thinned by chance, and the radii grow by as much


@dataclass(frozen=True)
class Support:
    """Balls (K, 4) whose union holds the surface: centre and radius, in the frame and unit of the cloud."""

    balls: Float[Tensor, "K 4"]

    @staticmethod
    def of(points: Float[np.ndarray, "N 3"], spacing: Float[np.ndarray, "N"], noise: float) -> Support:
        some = np.random.default_rng(0).permutation(len(points))[:MOST]
        radius = np.hypot(TRIM * spacing[some] * np.sqrt(len(points) / len(some)), 2 * noise)
        return Support(torch.from_numpy(np.column_stack([points[some], radius]).astype(np.float32)))

    def trimmed(self, mesh: Mesh) -> Mesh:
        """Only the faces whose corners hold by the rule, without specks."""
        centres, radius = self.balls[:, :3].double().numpy(), self.balls[:, 3].double().numpy()
        k = min(8, len(centres))  # where density changes, the nearest ball need not be the one that holds the place
        distance, nearest = (a.reshape(-1, k) for a in tree_of(centres).query(mesh.vertices, k, workers=-1))
        held = (distance <= radius[nearest]).any(1)
        if not held.all():
            beyond = tree_of(mesh.vertices[~held]).query(mesh.vertices, workers=-1)[0]
            held = beyond > BACK * radius[nearest[:, 0]]
        return remove_floaters(mesh.kept(held[mesh.faces].all(1)))
