"""Where a point cloud supports a surface, and the trimming of what it does not.

The rule: a place is supported where a point of the cloud is no farther than TRIM of its own spacings (√ of the area
that it stands for), or than two standard deviations of the noise if these are more, both taken together.
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
        """Only the faces whose corners lie in balls, without specks."""
        centres, radius = self.balls[:, :3].double().numpy(), self.balls[:, 3].double().numpy()
        k = min(8, len(centres))  # where density changes, the nearest ball need not be the one that holds the place
        distance, nearest = tree_of(centres).query(mesh.vertices, k, workers=-1)
        held = (distance.reshape(-1, k) <= radius[nearest].reshape(-1, k)).any(1)
        return remove_floaters(mesh.kept(held[mesh.faces].all(1)))
