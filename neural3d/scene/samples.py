"""Where batches for shapes come from: points around a closed mesh with their signed distance, or a point cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry import clouds
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import buried_share
from neural3d.geometry.solid import Solid, open_edges
from neural3d.scene.shape import Shape

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
                "Boolean modifier, or python -m neural3d.scene.watertight)."
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


MESH_POINTS = 100_000  # that stand for a mesh
FEWEST = 50  # points that a surface can be fitted to
SPREAD_NEIGHBOURS = 50  # whose distance is the standard deviation of samples around a point, as in IGR
BLUR = 0.04  # of the inside, as it is derived from the normals alone; scene units
SURE = 0.3  # how far from 1/2 the blurred inside must be to tell the sign


@dataclass
class CloudBatch:
    """Points of a cloud and points of space, in the scene frame.

    surface, normals: points of the cloud and their unit normals. near: points around some of it, at the local spacing.
    space: points anywhere in [-1, 1]³. bound: how far they are from the surface at least, negative inside; 0 where the
    cloud does not tell on which side they are.
    shell: points where the surface may be, spread evenly, also where the cloud has gaps.
    """

    surface: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3"]
    near: Float[Tensor, "M 3"]
    space: Float[Tensor, "M 3"]
    bound: Float[Tensor, "M"]
    shell: Float[Tensor, "M 3"]

    def __len__(self) -> int:
        return len(self.surface) + len(self.near) + len(self.space) + len(self.shell)


class CloudSource:
    """Draws from a point cloud, or from points sampled on a mesh, open or closed.

    Everything is computed from the cloud alone, so that a resumed run draws on the same. noise, spacing: scene units.
    given: the normals are the shape's own; else those of planes through neighbours, pointing outward as `clouds` says.
    Raises UserError for clouds that hold no surface.
    """

    unit = "points"

    def __init__(self, shape: Shape, device: torch.device):
        points, given = _cloud_of(shape)
        self.given = given is not None
        self.spacing, self.noise = clouds.spacing(points), clouds.noise(points)
        normals = clouds.outward_normals(points) if given is None else given
        indicator = clouds.Indicator(points, BLUR)
        vectors = torch.from_numpy(normals.astype(np.float64))
        at = indicator.at(vectors)
        if at.median() < 0:
            shape.notes.append("The normals point inward: they are turned around.")
            normals, vectors, at = -normals, -vectors, -at
        inside = indicator.grid(vectors) / (2 * at.median()) - 0.5
        unsure = (inside.abs() < SURE).numpy()
        self.cells = torch.from_numpy(np.argwhere(unsure)).float().to(device)
        self.cell, self.corner = 2 * indicator.HALF / indicator.CELLS, indicator.HALF
        away = np.maximum(0, scipy.ndimage.distance_transform_edt(~unsure) - 1) * self.cell  # 1: cells have a width
        self.bound = (torch.from_numpy(away) * -inside.sign()).float().to(device)
        reach = scipy.spatial.cKDTree(points).query(points, k=min(SPREAD_NEIGHBOURS, len(points) - 1) + 1)[0][:, -1]
        self.points, self.normals, self.reach = (
            torch.from_numpy(a.astype(np.float32)).to(device) for a in (points, normals, reach)
        )

    def draw(self, count: int, generator: torch.Generator) -> CloudBatch:
        """`count` points of the cloud and half as many of each other kind."""
        device, half = self.points.device, count // 2
        i = torch.randint(len(self.points), (count,), generator=generator, device=device)
        j = torch.randint(len(self.points), (half,), generator=generator, device=device)
        k = torch.randint(len(self.cells), (half,), generator=generator, device=device)
        around = torch.randn(half, 3, generator=generator, device=device)
        near = self.points[j] + self.reach[j, None] * around
        space = torch.rand(half, 3, generator=generator, device=device) * 2 - 1
        within = torch.rand(half, 3, generator=generator, device=device) - 0.5
        shell = ((self.cells[k] + within) * self.cell - self.corner).clamp(-1, 1)
        x, y, z = ((space + self.corner) / self.cell).round().long().unbind(-1)
        return CloudBatch(self.points[i], self.normals[i], near.clamp(-1, 1), space, self.bound[x, y, z], shell)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def _cloud_of(shape: Shape) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """Distinct points, and normals where the shape has them. Raises UserError where they are no surface."""
    normals: np.ndarray | None
    if shape.faces is not None:
        points, normals = sample_surface(shape.mesh, MESH_POINTS, np.random.default_rng(0))
    else:
        assert shape.vertices is not None
        _, first = np.unique(shape.vertices, axis=0, return_index=True)
        first.sort()
        points = shape.vertices[first].astype(np.float64)
        normals = None if shape.normals is None else shape.normals[first].astype(np.float64)
    if len(points) < FEWEST:
        raise UserError(f"{shape.path}: {len(points)} points at distinct places; a surface needs {FEWEST} or more.")
    thickness = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if thickness[2] < 1e-4 * thickness[0]:
        what = "line" if thickness[1] < 1e-4 * thickness[0] else "plane"
        raise UserError(f"{shape.path}: all points lie on one {what}, which bounds no solid; give points of all sides.")
    return points, normals
