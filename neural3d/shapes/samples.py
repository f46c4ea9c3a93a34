"""Where batches for closed meshes come from: points around them with their signed distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import buried_share
from neural3d.geometry.solid import Solid, open_edges
from neural3d.shapes.shape import Shape

POOL = 1 << 20  # points around the surface whose distance is computed before training starts
MOST_BURIED = 0.005  # share of the surface; rays that graze an edge miscount now and then
NEAR = (0.5, 0.06)  # standard deviations of their offset from it, in shares of `reach`, for half of them each
CELLS = 64  # along each axis of the grid that tells where the surface is far
FAR = 0.2  # share of a batch that lies there


def sample_surface(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """`count` points spread evenly over the surface, and the unit normals of their faces."""
    vectors = mesh.face_vectors()
    area = np.linalg.norm(vectors, axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    a, b = rng.random((2, count, 1))
    root = np.sqrt(a)
    corners = mesh.vertices[mesh.faces[face]]
    points = (1 - root) * corners[:, 0] + root * (1 - b) * corners[:, 1] + root * b * corners[:, 2]
    return points, vectors[face] / area[face, None]


@dataclass
class DistanceBatch:
    """Points in the scene frame and their signed distance to the surface, negative inside."""

    points: Float[Tensor, "N 3"]
    distance: Float[Tensor, "N"]

    def __len__(self) -> int:
        return len(self.points)


class SolidSource:
    """Points near the surface of a closed mesh with their exact distance, and fewer anywhere farther than `reach`.

    Near ones come from a pool made once, from the mesh alone, so that a resumed run sees the same one. Far ones are
    fresh at every draw, or fine hash-grid cells that none of them visits would become floating specks; their distance
    is given as ±reach, which is all that clamped losses and occupancies ask.
    reach: scene units. Raises UserError for a cloud or an open surface, which have no inside.
    """

    unit = "points"

    def __init__(self, shape: Shape, device: torch.device, reach: float):
        if shape.faces is None:
            raise UserError(f"{shape.path}: a point cloud has no inside; fit its surface with --method igr.")
        mesh = shape.mesh
        if count := open_edges(mesh):
            raise UserError(
                f"{shape.path}: the surface is open or its faces disagree about outside ({count} edges), so there is "
                "no inside; close it (Blender's 3D-Print Toolbox, MeshLab's Close Holes), or fit it with --method igr."
            )
        solid = Solid(mesh)
        if (buried := buried_share(mesh)) > MOST_BURIED:
            shape.notes.append(
                f"Faces cross: {buried:.0%} of the surface lie inside it or are inside out. Parts that overlap are "
                "one solid, but distances near such faces are to them; for exact ones unite the parts first (Blender's "
                "Boolean modifier, or python -m neural3d.shapes.watertight)."
            )
        rng = np.random.default_rng(0)
        near, _ = sample_surface(mesh, POOL, rng)
        near = (near + reach * rng.standard_normal(near.shape) * np.resize(NEAR, (POOL, 1))).clip(-1, 1)
        self.near = torch.from_numpy(near.astype(np.float32)).to(device)
        self.distance = torch.from_numpy(solid.signed_distance(near).astype(np.float32)).to(device)

        axis = (np.arange(CELLS) + 0.5) * (2 / CELLS) - 1
        cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        middle = solid.signed_distance(cells)
        far = np.abs(middle) > reach + np.sqrt(3) / CELLS  # all of the cell is: distances change no faster than points
        self.far = torch.from_numpy(cells[far].astype(np.float32)).to(device)
        self.far_distance = torch.from_numpy(np.sign(middle[far]).astype(np.float32) * reach).to(device)

    def draw(self, count: int, generator: torch.Generator) -> DistanceBatch:
        """`count` points; the far ones are last."""
        device, some = self.near.device, int(FAR * count) if len(self.far) else 0
        i = torch.randint(len(self.near), (count - some,), generator=generator, device=device)
        j = torch.randint(max(1, len(self.far)), (some,), generator=generator, device=device)
        far = self.far[j] + (torch.rand(some, 3, generator=generator, device=device) * 2 - 1) / CELLS
        return DistanceBatch(torch.cat([self.near[i], far]), torch.cat([self.distance[i], self.far_distance[j]]))

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass
