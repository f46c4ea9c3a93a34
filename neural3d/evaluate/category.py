"""How well a run that has learnt a category makes unseen shapes, beside the most similar of those it learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.methods.abilities import Reconstructive
from neural3d.render.gallery import Item, gallery
from neural3d.run import Run, write_json
from neural3d.scene.objects import meshes_of, shots_of
from neural3d.shapes.category import ShapeSet, kind_of, outer_surface, union_distance
from neural3d.shapes.shots import Shots, on_white

CLOUD, NOISE = 300, 0.5  # points of an unseen shape, and their standard deviation in % of its box's diagonal
CUT = 0.4  # share of these that a partial cloud lacks
Evidence = Literal["cloud", "partial", "mesh", "image", "class"]
SEEN: dict[Evidence, str] = {
    "cloud": f"{CLOUD} points, noise {NOISE} % of the diagonal of its box",
    "partial": f"{CLOUD} such points less the {CUT:.0%} farthest in one horizontal direction",
    "mesh": "the mesh itself",
    "image": "one picture",
    "class": "its class",
}
SURFACE, VOLUME = 4096, 50_000  # samples of a surface for Chamfer distances, of a volume for IoU
COARSE = 96, 4096  # the same two, to find the most similar training shapes
MOST_ROWS = 10  # of the picture


def evaluate_category(
    run: Run, *, resolution: int = 96, limit: int | None = None, seed: int = 0, seen: Evidence | None = None
) -> dict[str, Any]:
    """Reconstructs the held-out shapes and writes RUN/eval_category.json and RUN/eval/category.png.

    seen: what the run is given of each shape; None: what it learnt from. "cloud": 300 points of its outer surface,
    spread evenly, with normal noise of 0.5 % of the diagonal of its box. "partial": those of them that are left when
    the 40 % that lie farthest in a direction, horizontal and random, are cut off. "mesh": the mesh itself (DeepSDF: its
    signed distances). "image": the picture by a random one of its cameras. "class": its class. The files of all but
    clouds are eval_category_partial.json, eval/category_mesh.png and so on.
    IoU: of 50,000 points in the box around both. Chamfer: the mean exact distance from 4,096 even samples of one outer
    surface to the other, averaged over both directions, in % of the true box's diagonal; faces inside another part
    are no surface. Nearest training shape: of all, the one of greatest IoU, and the one of least Chamfer distance.
    limit: so many of the held-out shapes, evenly chosen. resolution: cells along the longest side of the set's box.
    Raises UserError where the run cannot reconstruct, or nothing is held out.
    """
    method = run.able(Reconstructive)
    seen = seen or ("cloud" if method.sees == "points" else method.sees)
    if (seen in ("image", "class") or method.sees != "points") and seen != method.sees:
        raise UserError(f"{run.directory} learnt shapes from {method.sees}; it cannot be asked by {seen}.")
    shapes = run.config.load_data()
    assert isinstance(shapes, ShapeSet)
    names, meshes, known = shapes.members["test"], meshes_of(shapes, "test"), meshes_of(shapes, "train")
    if not names:
        raise UserError(f"{shapes.path}: no shape is held out; put some into test/ beside train/.")
    chosen = np.unique(np.linspace(0, len(names) - 1, min(limit or len(names), len(names))).round().astype(int))
    truths = [_Sampled(meshes[i], seed) for i in chosen]
    overlap, nearest = _nearest(truths, known, shapes.aabb.numpy(), seed)
    rows, pictures = [], []
    device = next(run.method.parameters()).device
    if seen == "image":
        photos = _one_picture_each(shots_of(shapes, "test", run.method.config.side), chosen, seed)
        most_alike = _most_alike(photos, shots_of(shapes, "train", run.method.config.side))
    for k, (i, truth) in enumerate(zip(chosen, truths)):
        generator = torch.Generator(device).manual_seed(seed)
        shown: Item = truth.cloud(seed)
        if seen == "partial":
            shown = _cut(truth.cloud(seed), np.random.default_rng((seed, i)).uniform(0, 2 * np.pi))
        if seen == "mesh":
            shown = truth.mesh
            code = method.code_of_mesh(truth.mesh, generator)
        elif seen == "image":
            shown = (255 * photos[k].permute(1, 2, 0)).round().byte().numpy()
            code = method.code_of(photos[k].to(device), generator)
        elif seen == "class":
            shown = None
            code = method.code_of(torch.tensor(shapes.kinds.index(kind_of(names[i])), device=device), generator)
        else:
            code = method.code_of(torch.from_numpy(shown).to(device), generator)
        row: dict[str, Any] = {"name": names[i], "kind": kind_of(names[i])}
        made = None
        try:
            made = method.subject(code).mesh(resolution)
            row |= measure(_Sampled(made, seed), truth)
        except UserError:  # no surface: nothing overlaps, and all of the box is missing
            row |= {"iou": 0.0, "chamfer": 100.0}
        row["nearest_iou"] = measure(_Sampled(known[overlap[k]], seed), truth)["iou"]
        row["nearest_chamfer"] = measure(_Sampled(known[nearest[k]], seed), truth)["chamfer"]
        other = known[nearest[k]]
        if seen == "image":
            other = known[most_alike[k]]
            row |= {f"alike_{key}": value for key, value in measure(_Sampled(other, seed), truth).items()}
        rows.append(row)
        pictures.append((shown, other, made, truth.mesh))
    keys = [key for key in rows[0] if key not in ("name", "kind")]
    kinds = sorted({row["kind"] for row in rows})
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    report = {
        "method": run.config.method,
        "checkpoint": {"step": run.step},
        "protocol": {
            "seen": SEEN[seen],
            "iou": f"{VOLUME} points in the box around both",
            "chamfer": f"% of that diagonal; exact distances from {SURFACE} samples of each outer surface to the other",
            "nearest": "the training shape of greatest IoU, and the one of least Chamfer distance",
            "alike": "the training shape of which a picture is most like the one seen",
            "resolution": resolution,
            "shapes": len(rows),
            "seed": seed,
        },
        "results": {
            "mean": {key: float(np.mean([row[key] for row in rows])) for key in keys},
            "kinds": {kind: {key: float(np.mean([r[key] for r in g])) for key in keys} for kind, g in groups.items()},
            "per_shape": rows,
        },
    }
    name = "category" if seen == "cloud" else f"category_{seen}"
    write_json(run.directory / f"eval_{name}.json", report)
    _draw(run.directory / "eval" / f"{name}.png", rows, pictures)
    return report


class _Sampled:
    """A closed mesh of the scene frame, and points of its outer surface."""

    def __init__(self, mesh: Mesh, seed: int, count: int = SURFACE):
        self.mesh = mesh
        solid = self.solid()
        self.surface = outer_surface(mesh, solid, count, np.random.default_rng(seed))
        self.box = solid.box
        self.diagonal = float(np.linalg.norm(self.box[1] - self.box[0]))

    def solid(self) -> Solid:
        """Made anew: Open3D crashes where hundreds are kept."""
        return Solid(self.mesh)

    def cloud(self, seed: int) -> Float[np.ndarray, "M 3"]:
        rng = np.random.default_rng((seed, 1))  # other points than those it is measured by
        points = outer_surface(self.mesh, self.solid(), CLOUD, rng)
        return (points + NOISE / 100 * self.diagonal * rng.standard_normal(points.shape)).astype(np.float32)


def _cut(cloud: Float[np.ndarray, "M 3"], angle: float) -> Float[np.ndarray, "K 3"]:
    """Without those farthest in the horizontal direction of this angle; +z is up."""
    along = cloud @ (np.cos(angle), np.sin(angle), 0.0)
    return cloud[along <= np.quantile(along, 1 - CUT)]


def measure(result: _Sampled, truth: _Sampled) -> dict[str, float]:
    """{"iou", "chamfer"}; see `evaluate_category`."""
    solids = result.solid(), truth.solid()
    low, high = np.minimum(result.box[0], truth.box[0]), np.maximum(result.box[1], truth.box[1])
    points = np.random.default_rng(0).uniform(low, high, (VOLUME, 3))
    a, b = (solid.winding(points) > 0 for solid in solids)
    there = np.abs(union_distance(solids[1], truth.surface, result.surface)).mean()
    back = np.abs(union_distance(solids[0], result.surface, truth.surface)).mean()
    return {
        "iou": float((a & b).sum() / max(1, (a | b).sum())),
        "chamfer": float(100 * (there + back) / 2 / truth.diagonal),
    }


def _nearest(
    truths: list[_Sampled], known: list[Mesh], box: Float[np.ndarray, "2 3"], seed: int
) -> tuple[list[int], list[int]]:
    """For each truth, the known shape of greatest IoU and the one of least Chamfer distance, by few samples."""
    surface, volume = COARSE
    points = np.random.default_rng(0).uniform(box[0], box[1], (volume, 3))
    own = np.stack([truth.solid().winding(points) > 0 for truth in truths])
    few = np.concatenate([truth.surface[:surface] for truth in truths])
    iou, there, others = [], [], []
    for mesh in known:
        sampled = _Sampled(mesh, seed, surface)
        solid = sampled.solid()
        inside = solid.winding(points) > 0
        iou.append((own & inside).sum(1) / np.maximum(1, (own | inside).sum(1)))
        there.append(solid.distance(few).reshape(len(truths), -1).mean(1))
        others.append(sampled.surface)
    every = np.concatenate(others)
    back = np.stack([truth.solid().distance(every).reshape(len(known), -1).mean(1) for truth in truths])
    return np.stack(iou, 1).argmax(1).tolist(), (np.stack(there, 1) + back).argmin(1).tolist()


def _one_picture_each(shots: Shots, chosen: np.ndarray, seed: int) -> Float[Tensor, "S 3 H W"]:
    views = [int(np.random.default_rng((seed, i)).integers(shots.pixels.shape[1])) for i in chosen]
    return on_white(shots.pixels[torch.from_numpy(chosen), torch.tensor(views)])


def _most_alike(photos: Float[Tensor, "S 3 H W"], known: Shots) -> list[int]:
    """The training shapes of which some picture differs least, in the mean square of the grey values."""

    def grey(pictures: Tensor) -> Tensor:
        return pictures.mean(1).flatten(1)

    own = grey(photos)
    least = []
    for pixels in known.pixels:
        least.append(torch.cdist(own, grey(on_white(pixels))).amin(1))
    return torch.stack(least, 1).argmin(1).tolist()


def _draw(path: Path, rows: list[dict[str, Any]], pictures: list[tuple]) -> None:
    """Some of each kind, in turn."""
    from neural3d.render.images import save_png

    turn: dict[str, int] = {}
    order = []
    for i, row in enumerate(rows):
        order.append((turn.setdefault(row["kind"], 0), i))
        turn[row["kind"]] += 1
    shown = sorted(i for _, i in sorted(order)[:MOST_ROWS])
    by_picture = "alike_chamfer" in rows[0]
    labels = [
        [
            rows[i]["kind"],
            f"IoU {rows[i]['alike_iou']:.3f}" if by_picture else f"Chamfer {rows[i]['nearest_chamfer']:.2f} %",
            f"IoU {rows[i]['iou']:.3f}, Chamfer {rows[i]['chamfer']:.2f} %",
            "",
        ]
        for i in shown
    ]
    other = "most alike in training" if by_picture else "nearest training shape"
    save_png(path, gallery([pictures[i] for i in shown], ["seen", other, "reconstructed", "truth"], labels))
