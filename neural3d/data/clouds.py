"""Where batches for point clouds come from: their points, and what they tell of the space around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry import clouds
from neural3d.geometry.indicator import Indicator
from neural3d.geometry.orientation import OPEN, openness, outward_normals
from neural3d.geometry.smoothing import relative_lengths
from neural3d.geometry.support import Support
from neural3d.shapes.samples import sample_surface
from neural3d.shapes.shape import Shape

MESH_POINTS = 100_000  # that stand for a mesh
MOST = 1_000_000  # points that are used; training draws four million times
FEWEST = 50  # points that a surface can be fitted to
CELLS = 128  # along each axis of the grid that tells on which side a point of space is
BLUR = 0.02, 1.5, 1.0  # of the inside, at least: scene units; times the spacing; times the noise
SURE = 0.3  # how far from its value at the points the blurred inside must be to tell the sign
RISE = 0.45  # of χ over BESIDE blurs before a point, about, to the point; the grid blurs a little more
BESIDE = 2.0  # blurs: nearer to a point of the cloud no sign is told, since a wall may be thinner


@dataclass
class CloudBatch:
    """Points of a cloud and points of space, in the scene frame.

    surface, normals: points of the cloud and their unit normals. near: points around some of it, at the local spacing.
    space: points anywhere in [-1, 1]³. bound: how far they are from the surface at least, negative inside; 0 where the
    cloud does not tell on which side they are.
    shell: points where the surface may be, spread evenly, also where a closed surface has gaps. facing: the normals of
    the points of the cloud that are nearest to these, about. smoothing: over what length to smooth there.
    """

    surface: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3"]
    near: Float[Tensor, "M 3"]
    space: Float[Tensor, "M 3"]
    bound: Float[Tensor, "M"]
    shell: Float[Tensor, "M 3"]
    facing: Float[Tensor, "M 3"]
    smoothing: Float[Tensor, "M"]

    def __len__(self) -> int:
        return len(self.surface) + len(self.near) + len(self.space) + len(self.shell)


class CloudSource:
    """Draws from a point cloud, or from points sampled on a mesh, open or closed.

    Everything is computed from the cloud alone, so that a resumed run draws on the same. noise, spacing: scene units.
    given: the normals are the shape's own; else those of planes through neighbours, pointing outward as
    `geometry.orientation` says. strays: how many points stand alone and were left out.
    openness: see `geometry.orientation`. open: whether it counts as open; open_ None: by that, or as a sheet.
    Raises UserError for clouds that hold no surface.
    """

    unit = "points"

    def __init__(self, shape: Shape, device: torch.device, open_: bool | None = None):
        points, given = _cloud_of(shape)
        self.given, sheet = given is not None, False
        kept = ~clouds.strays(points)
        self.strays = len(points) - int(kept.sum())
        points = points[kept]
        tree = clouds.tree_of(points)
        around = clouds.surroundings(tree, planes=given is None)
        if given is not None:
            normals = given[kept]
        else:
            assert around.normals is not None
            normals, sheet = outward_normals(points, around.normals, around.spacing)
        self.noise = clouds.noise(tree, normals)
        area = clouds.areas(around, normals, self.noise)
        spacing = np.sqrt(area)
        self.spacing = float(np.median(spacing))

        smallest, of_spacing, of_noise = BLUR
        blur = np.maximum(np.maximum(of_spacing * spacing, of_noise * self.noise), smallest)
        indicator = Indicator(points, blur, CELLS)
        chi = indicator.grid(torch.from_numpy(normals * area[:, None]).float())
        at = indicator.sample(chi, points)
        if at.median() < (0 if given is None else -0.1):  # -0.1: of an open surface either side may be the front
            shape.notes.append("The normals point inward: they are turned around.")
            normals, chi, at = -normals, -chi, -at
        before = indicator.sample(chi, points + (BESIDE * blur)[:, None] * normals)
        self.openness = openness(before)
        self.open = sheet or self.openness > OPEN if open_ is None else open_
        level = float(at.median())
        # Areas are estimates, too small of noisy or scattered points: the rise of χ to the points tells its scale.
        scale = min(max(RISE / float((at - before).median()), 1.0), 1.5)
        inside = (chi - level if self.open else scale * chi - 0.5).numpy()
        distance, nearest = _to_points(indicator, points)
        beside = distance < BESIDE * blur[nearest]
        unsure = (np.abs(inside) < SURE) | beside
        self.cell, self.corner = indicator.cell, indicator.HALF
        shell = beside if self.open else unsure
        self.cells = torch.from_numpy(np.argwhere(shell)).float().to(device)
        self.facing = torch.from_numpy(normals[nearest[shell]].astype(np.float32)).to(device)
        away = np.maximum(0, scipy.ndimage.distance_transform_edt(~unsure) - 1) * self.cell  # 1: cells have a width
        self.bound = torch.from_numpy((away * -np.sign(inside)).astype(np.float32)).to(device)
        self.tree, self.outward = tree, normals
        self.support = Support.of(points, spacing, self.noise)
        self.points, self.normals, self.reach = (
            torch.from_numpy(a.astype(np.float32)).to(device) for a in (points, normals, around.reach)
        )

    def smooth(self, h: float, even: bool) -> None:
        """Batches say to smooth over h, scene units; even: everywhere, else more or less (`geometry.smoothing`)."""
        self.smoothing = torch.full((len(self.cells),), h, device=self.cells.device)
        if not even:
            x, ratio = relative_lengths(self.tree, self.outward, self.noise, h)
            nearest = clouds.tree_of(x).query(self.cells.cpu().numpy() * self.cell - self.corner, workers=-1)[1]
            self.smoothing *= torch.from_numpy(ratio.astype(np.float32))[nearest].to(self.cells.device)

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
        bound, facing, smoothing = self.bound[x, y, z], self.facing[k], self.smoothing[k]
        return CloudBatch(self.points[i], self.normals[i], near.clamp(-1, 1), space, bound, shell, facing, smoothing)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def _to_points(
    indicator: Indicator, points: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "n n n"], Int[np.ndarray, "n n n"]]:
    """(distance of each grid point to the nearest cell that holds a point, one of the points in it)"""
    holder = np.full((indicator.cells,) * 3, -1)
    x, y, z = np.rint((points + indicator.HALF) / indicator.cell).astype(int).T
    holder[x, y, z] = np.arange(len(points))
    empty: Bool[np.ndarray, "n n n"] = holder < 0
    distance, (i, j, k) = scipy.ndimage.distance_transform_edt(empty, return_indices=True)
    return distance * indicator.cell, holder[i, j, k]


def _cloud_of(shape: Shape) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """Distinct points, at most MOST, and normals where the shape has them. Raises UserError for no surface."""
    normals: np.ndarray | None
    if shape.faces is not None:
        points, normals = sample_surface(shape.mesh, MESH_POINTS, np.random.default_rng(0))
    else:
        assert shape.vertices is not None
        some = np.arange(len(shape.vertices))
        if len(some) > MOST:
            some = np.sort(np.random.default_rng(0).choice(len(some), MOST, replace=False))
            shape.notes.append(f"{MOST:,} of the {len(shape.vertices):,} points are used, drawn by chance.")
        _, first = np.unique(shape.vertices[some], axis=0, return_index=True)
        some = some[np.sort(first)]
        points = shape.vertices[some].astype(np.float64)
        normals = None if shape.normals is None else shape.normals[some].astype(np.float64)
    if len(points) < FEWEST:
        raise UserError(f"{shape.path}: {len(points)} points at distinct places; a surface needs {FEWEST} or more.")
    thickness = np.sqrt(np.linalg.eigvalsh(np.cov(points.T))[::-1].clip(0)) * math.sqrt(len(points))
    if thickness[2] < 1e-4 * thickness[0]:
        what = "line" if thickness[1] < 1e-4 * thickness[0] else "plane"
        raise UserError(f"{shape.path}: all points lie on one {what}, which bounds no solid; give points of all sides.")
    return points, normals
