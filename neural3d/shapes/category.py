"""ShapeSet: a folder of closed meshes that one method learns from, and where its batches come from."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, open_edges
from neural3d.images.formats import PICTURES
from neural3d.shapes.samples import sample_surface
from neural3d.shapes.shape import HALF_SIDE, MARGIN, MESH_SUFFIXES, ShapeFile, read_shape, scene_rotation
from neural3d.shapes.shots import Shots

SPLITS = ("train", "test")
HELD_OUT = 8  # where a folder has no test/, every 8th of each of its folders is held out, from the first on

SURFACE = 4096  # points on each training shape, of which clouds are drawn
NEAR = (0.02, 0.08)  # standard deviations, in scene units, of their offsets from it where the field is learnt
EVERYWHERE = 2048  # points more, anywhere in the set's box
SKIN = 1e-4  # scene units: how far before a face one looks for another part


@dataclass
class ShapeSet:
    """Closed meshes under one similarity, so that a cloud in the set's own frame and units has its place among them.

    members: names, as paths below `path`, of each split, train and test. meshes: of the same, in the scene frame;
    overlapping parts allowed; None in a run that was opened without its files, and of captures.
    captures: the members are folders of photos, not meshes, see `scene.objects`.
    aabb: holds all members. scene_from_capture: as in Shape; the capture's frame is the one that all files share.
    """

    name: str
    path: Path
    aabb: Float[Tensor, "2 3"]
    scene_from_capture: Float[Tensor, "4 4"]
    members: dict[str, list[str]]
    meshes: dict[str, list[Mesh]] | None = None
    captures: bool = False
    background: str = "white"
    notes: list[str] = field(default_factory=list)
    method_settings: dict[str, dict] = field(default_factory=dict)

    @property
    def outline(self) -> None:
        """No one shape's: pictures of any of them frame the box."""

    @property
    def kinds(self) -> list[str]:
        """The classes that its training shapes belong to."""
        return sorted({kind_of(name) for name in self.members["train"]})


def kind_of(name: str) -> str:
    """The folder that a member lies in or, directly in train or test, its name up to a digit or underscore."""
    folder = Path(name).parent.name
    if folder not in ("", "train", "test"):
        return folder
    return re.split(r"[\d_]", Path(name).stem)[0] or Path(name).stem


def holds_shapes(folder: Path) -> bool:
    """Does a folder hold meshes, itself or below, and neither photos nor cameras?"""
    files = [p for p in folder.rglob("*") if p.suffix] if folder.is_dir() else []
    photos = any(p.suffix.lower() in PICTURES or p.name.startswith("transforms") for p in files)
    return not photos and any(p.suffix.lower() in MESH_SUFFIXES for p in files)


def load_shape_set(folder: Path) -> ShapeSet:
    """All meshes of a folder: train/ and test/ below it, else every 8th of each folder held out.

    Raises UserError naming the file where one is damaged, empty, open or no mesh, or where formats disagree about what
    is up.
    """
    members = _split(folder)
    rotations = {str(scene_rotation(Path(name)).tolist()): name for names in members.values() for name in names}
    if len(rotations) > 1:
        names = " and ".join(rotations.values())
        raise UserError(f"{folder}: {names} disagree about what is up (+y or +z); convert them to one format.")
    rotation = scene_rotation(Path(next(iter(rotations.values()))))
    files = {split: [read_member(folder / name) for name in names] for split, names in members.items()}
    read = {split: [file.mesh for file in of_split] for split, of_split in files.items()}
    everything = [*itertools.chain(*read.values())]
    low = np.min([mesh.vertices.min(0) for mesh in everything], axis=0)
    high = np.max([mesh.vertices.max(0) for mesh in everything], axis=0)
    matrix, aabb = frame_of(low, high, rotation)
    counts = ", ".join(f"{len(names)} {split}" for split, names in members.items())
    return ShapeSet(
        name=folder.name,
        path=folder,
        aabb=aabb,
        scene_from_capture=torch.from_numpy(matrix),
        members=members,
        meshes={split: [mesh.transformed(matrix) for mesh in meshes] for split, meshes in read.items()},
        notes=[
            f"{folder.name}: shapes: {counts}",
            *(n for of_split in files.values() for f in of_split for n in f.notes),
        ],
    )


def frame_of(
    low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], rotation: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "4 4"], Float[Tensor, "2 3"]]:
    """(scene_from_capture, aabb) where the box of all shapes, in the capture's frame, is low to high."""
    scale = 2 * HALF_SIDE / float((high - low).max())
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, -scale * rotation @ (low + high) / 2
    half = torch.from_numpy(np.abs(rotation @ (high - low)) / 2 * scale).float() + MARGIN
    return matrix, torch.stack([-half, half])


def _split(folder: Path) -> dict[str, list[str]]:
    """Names of the members of each split, sorted."""
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in MESH_SUFFIXES)
    train, test = ([str(p) for p in files if p.parts[0] == split] for split in SPLITS)
    if not train:
        if test:
            raise UserError(f"{folder}: has test/ but no meshes in train/.")
        for _, group in itertools.groupby(files, key=lambda p: p.parent):
            names = [str(p) for p in group]
            test += names[::HELD_OUT] if len(names) > 1 else []
            train += [name for i, name in enumerate(names) if i % HELD_OUT or len(names) == 1]
    if len(train) < 2:
        raise UserError(
            f"{folder}: holds {len(train)} mesh to learn from; a category needs more, or give the mesh itself."
        )
    return {"train": train, "test": test}


def read_member(path: Path) -> ShapeFile:
    file = read_shape(path)
    mesh = file.mesh
    if len(mesh.faces) == 0:
        raise UserError(f"{path}: has no faces; a category is learnt from closed meshes, not from point clouds.")
    if count := open_edges(mesh):
        raise UserError(
            f"{path}: the surface is open or its faces disagree about outside ({count} edges), so there is no inside; "
            "close all meshes of the folder: python -m neural3d.shapes.watertight IN OUT."
        )
    if not mesh.volume > 0:
        raise UserError(f"{path}: encloses no volume, so there is no inside; leave it out.")
    return file


# --- what is known about one shape ---


def outer_surface(mesh: Mesh, solid: Solid, count: int, rng: np.random.Generator) -> Float[np.ndarray, "count 3"]:
    """Points spread evenly over what is seen of a mesh: the parts of faces that lie in another part are left out."""
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < count:
        points, normals = sample_surface(mesh, count, rng)
        kept.append(points[solid.winding(points + SKIN * normals, toward=normals) <= 0])
        if len(kept) == 1 and len(kept[0]) == 0:
            raise UserError("A mesh has no outer surface: each of its faces lies inside another part.")
    return np.concatenate(kept)[:count]


def union_distance(
    solid: Solid, surface: Float[np.ndarray, "M 3"], points: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N"]:
    """Signed distance to the outer surface, negative inside.

    Exact outside, and inside where the nearest face is an outer one. Where it is a face within another part, which
    shows by all of `surface` (samples of the outer surface) being farther than their spacing explains, it is the
    distance to the nearest of these.
    """
    inside, distance = solid.winding(points) > 0, solid.distance(points)
    tree = scipy.spatial.cKDTree(surface)
    spacing = float(np.quantile(tree.query(surface, k=2)[0][:, 1], 0.99))
    outer = tree.query(points[inside])[0]
    own = distance[inside]
    hidden = outer**2 > own**2 + (1.6 * spacing) ** 2  # a gap of one in a million
    distance[inside] = -np.where(hidden, outer, own)
    return distance


# --- batches ---


@dataclass
class CategoryBatch:
    """S training shapes, Q points around each with their signed distance, and what is seen of them."""

    shape: Int[Tensor, "S"]  # index into the training shapes
    points: Float[Tensor, "S Q 3"]
    distance: Float[Tensor, "S Q"]
    cloud: Float[Tensor, "S M 3"]  # noisy points of the surface
    picture: Float[Tensor, "S 3 H W"] | None = None  # sRGB, on white

    def __len__(self) -> int:
        return self.distance.numel()


class CategorySource:
    """Draws shapes without repetition within a batch, then points around and on each.

    What is drawn from is made once from the meshes alone, so that a resumed run sees the same: 150 kB per shape.
    points: how many around each shape. cloud: how many on it. noise: standard deviation of these, in shares of the
    diagonal of the shape's own box. shots: of the training shapes; one picture of each comes along.
    """

    unit = "points"

    def __init__(
        self,
        shapes: ShapeSet,
        device: torch.device,
        *,
        points: int,
        cloud: int = 0,
        noise: float = 0.0,
        shots: Shots | None = None,
    ):
        assert shapes.meshes is not None
        self.per_shape, self.cloud, self.noise = points, cloud, noise
        self.shots = shots.to(device) if shots else None
        sets = [distance_samples(mesh, shapes.aabb.numpy(), i) for i, mesh in enumerate(shapes.meshes["train"])]
        self.surface, self.points, self.distance = (torch.from_numpy(np.stack(a)).to(device) for a in zip(*sets))
        self.diagonal = (self.surface.amax(1) - self.surface.amin(1)).norm(dim=-1)

    def draw(self, count: int, generator: torch.Generator) -> CategoryBatch:
        """As many whole shapes as `count` points amount to, or all there are."""
        device = self.points.device
        shape = torch.randperm(len(self.points), generator=generator, device=device)[: max(1, count // self.per_shape)]
        i = self._some(self.points, self.per_shape, len(shape), generator)
        j = self._some(self.surface, self.cloud, len(shape), generator)
        row = shape[:, None]
        cloud = self.surface[row, j]
        offset = torch.randn(cloud.shape, generator=generator, device=device)
        cloud = cloud + self.noise * self.diagonal[shape, None, None] * offset
        batch = CategoryBatch(shape, self.points[row, i], self.distance[row, i], cloud)
        if self.shots is not None:
            batch.picture = self.shots.draw(shape, generator)[0]
        return batch

    def _some(self, of: Tensor, count: int, shapes: int, generator: torch.Generator) -> Int[Tensor, "S count"]:
        return torch.randint(of.shape[1], (shapes, count), generator=generator, device=of.device)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def distance_samples(
    mesh: Mesh, aabb: Float[np.ndarray, "2 3"], seed: int
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """(points on a closed shape, points around it and in the box, their signed distance), float32."""
    rng = np.random.default_rng(seed)
    solid = Solid(mesh)
    surface = outer_surface(mesh, solid, SURFACE, rng)
    near = surface + rng.standard_normal(surface.shape) * np.resize(NEAR, (len(surface), 1))
    points = np.concatenate([near, rng.uniform(aabb[0], aabb[1], (EVERYWHERE, 3))]).clip(-1, 1)
    distance = union_distance(solid, surface, points)
    return surface.astype(np.float32), points.astype(np.float32), distance.astype(np.float32)
