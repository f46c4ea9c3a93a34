"""How far a surface is from the truth: Chamfer and Hausdorff distances, F-scores, normals, overlap of volumes.

Lengths are in % of the diagonal of the truth's bounding box. Distances are exact, from points sampled evenly by area on
one surface to the other surface itself: between two sets of samples there would be a floor of about 0.3 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh, merge_vertices
from neural3d.geometry.solid import Solid, open_edges

THRESHOLDS = (0.1, 0.5, 1.0)  # of F-scores, % of the diagonal
VOLUME_SAMPLES = 200_000  # of IoU

Visible = Callable[[Float[np.ndarray, "N 3"]], Bool[np.ndarray, "N"]]


def compare(
    result: Mesh,
    truth: Mesh,
    *,
    samples: int = 100_000,
    volume_samples: int = VOLUME_SAMPLES,
    seed: int = 0,
    thresholds: Sequence[float] = THRESHOLDS,
    visible: Visible | None = None,
) -> dict[str, Any]:
    """Figures of a result beside the truth, in one frame; plain numbers, to be written as JSON.

    With d_r the distances from `samples` points of the result to the truth and d_t those from the truth to the result:

    accuracy, completeness   mean d_r, mean d_t
    chamfer                  their mean
    hausdorff                the largest of d_r and d_t; of the samples, so that a needle may be missed
    f_score                  per threshold t, 2 P R / (P + R) of P = share of d_r ≤ t and R = share of d_t ≤ t
    normal_consistency       |n · n'| of a sample's normal and that of the other surface's nearest face: the mean of
                             each direction, and of the two (Mescheder et al. 2019)
    iou                      of the volumes, by `volume_samples` points spread evenly over the box around both; None
                             with `iou_missing` saying why, where one of them is not closed
    diagonal                 of the truth's box, in its own unit
    seen                     the share of the truth's area that counts

    All lengths but the diagonal are in % of it. thresholds too. visible: which points of the truth count for d_t, in
    the meshes' own frame; None: all. A point is inside where the surface winds around it, so parts of a solid may
    overlap; the faces of overlapping parts that lie inside the union count as surface all the same.
    Raises UserError for a mesh without faces or area or with vertices that are not finite.
    """
    require_surface(result, "result")
    require_surface(truth, "truth")
    corners = truth.vertices[truth.faces].reshape(-1, 3).astype(np.float64)
    low, diagonal = corners.min(0), float(np.linalg.norm(np.ptp(corners, axis=0)))
    rng_result, rng_truth, rng_volume = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    meshes = [Mesh((m.vertices.astype(np.float64) - low) / diagonal, m.faces) for m in (result, truth)]
    solids = [Solid(m) for m in meshes]
    points_r, faces_r = sample_surface(meshes[0], samples, rng_result)
    points_t, faces_t = sample_surface(meshes[1], samples, rng_truth)
    seen = np.ones(samples, bool) if visible is None else visible(points_t * diagonal + low)
    if not seen.any():
        raise UserError("None of the true surface is seen by the training views: is the truth in the capture's frame?")
    to_truth, nearest_t = solids[1].closest(points_r)
    to_result, nearest_r = solids[0].closest(points_t[seen])
    to_truth, to_result = 100.0 * to_truth.astype(np.float64), 100.0 * to_result.astype(np.float64)
    normals_r, normals_t = (solid.normals for solid in solids)
    agreement = [
        _mean_agreement(normals_r[faces_r], normals_t[nearest_t]),
        _mean_agreement(normals_t[faces_t[seen]], normals_r[nearest_r]),
    ]
    accuracy, completeness = float(to_truth.mean()), float(to_result.mean())
    return {
        "chamfer": (accuracy + completeness) / 2,
        "accuracy": accuracy,
        "completeness": completeness,
        "hausdorff": float(max(to_truth.max(), to_result.max())),
        "f_score": {f"{t:g}": _f_score(to_truth <= t, to_result <= t) for t in thresholds},
        "normal_consistency": sum(agreement) / 2,
        "normal_consistency_accuracy": agreement[0],
        "normal_consistency_completeness": agreement[1],
        **_overlap(meshes, solids, volume_samples, rng_volume),
        "diagonal": diagonal,
        "seen": float(seen.mean()),
    }


def sample_surface(
    mesh: Mesh, count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "count 3"], Int[np.ndarray, "count"]]:
    """Points spread evenly by area over a mesh, and the face of each. Float64."""
    cumulative = np.cumsum(np.linalg.norm(mesh.face_vectors(), axis=1))
    face = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    a, b, c = (mesh.vertices[mesh.faces[face, k]].astype(np.float64) for k in range(3))
    root, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return a + root * (1 - v) * (b - a) + root * v * (c - a), face


def buried_share(mesh: Mesh, samples: int = 4096) -> float:
    """Share of a closed surface that does not lie between outside and inside: within another part, or inside out.

    0 unless faces cross each other. mesh: of size about 1. Exact but for the number of samples.
    """
    points, face = sample_surface(mesh, samples, np.random.default_rng(0))
    solid = Solid(mesh)
    out = solid.normals[face]
    step = 1e-4 * out
    good = (solid.winding(points + step, toward=out) == 0) & (solid.winding(points - step, toward=-out) == 1)
    return 1 - float(good.mean())


def sample_places(
    mesh: Mesh, count: int
) -> tuple[Float[np.ndarray, "count 3"], Int[np.ndarray, "count"], Float[np.ndarray, "count corner"]]:
    """As `sample_surface`, but with even gaps and no chance: points, the face of each, shares of its corners.

    Equal steps of area, and within a face the plane's most even sequence (Roberts' R₂, of the plastic number).
    """
    cumulative = np.cumsum(np.linalg.norm(mesh.face_vectors(), axis=1))
    step = np.arange(count)
    face = np.searchsorted(cumulative, (step + 0.5) / count * cumulative[-1], side="right")
    u, v = (0.5 + step[:, None] * [0.7548776662466927, 0.5698402909980532]).T % 1
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)  # the unit square's upper half, folded down
    share = np.stack([1 - u - v, u, v], 1)
    return np.einsum("nk,nkc->nc", share, mesh.vertices[mesh.faces[face]].astype(np.float64)), face, share


def seen_by(
    solid: Solid, cameras: Sequence[Camera], points: Float[np.ndarray, "N 3"], at_least: int = 2
) -> Bool[np.ndarray, "N"]:
    """Which points of a solid's own surface lie in the pictures of so many cameras, with nothing of the solid before.

    Cameras are in the frame of the points. What lies within a ten-thousandth of the solid's diagonal before a point
    does not hide it: that is the face the point is on.
    """
    low, high = solid.box
    margin = 1e-4 * np.linalg.norm(high - low)
    times = np.zeros(len(points), int)
    for camera in cameras:
        todo = np.flatnonzero(times < at_least)
        x = torch.from_numpy(points[todo])
        xy, _ = camera.project(x)
        size = torch.tensor([camera.width, camera.height])
        inside = ((xy >= 0) & (xy <= size)).all(-1)
        todo, x, xy = todo[inside.numpy()], x[inside], xy[inside]
        ray = x - camera.centre
        distance = ray.norm(dim=1, keepdim=True)
        # The pixel's own ray leads back to the point: not so behind the camera, nor where a strong distortion folds.
        facing = (camera.rays(xy)[1].double() * ray / distance).sum(1) > 1 - 1e-6
        shorter = (ray * (1 - margin / distance)).numpy()
        free = ~solid.blocked(camera.centre.numpy(), shorter, far=1.0)
        times[todo] += facing.numpy() & free
    return times >= at_least


def require_surface(mesh: Mesh, name: str) -> None:
    """Raises UserError where there is nothing to measure distances to. name: what the mesh is, such as "truth"."""
    if len(mesh.faces) == 0:
        raise UserError(f"The {name} has no faces: a triangle mesh is needed to measure distances to its surface.")
    if not np.isfinite(mesh.vertices[mesh.faces]).all():
        raise UserError(f"The {name} has vertices that are not finite (NaN or Inf); remove them.")
    if not mesh.area > 0:
        raise UserError(f"The {name} has no area: all its faces are degenerate.")


def _mean_agreement(a: Float[np.ndarray, "N 3"], b: Float[np.ndarray, "N 3"]) -> float:
    return float(np.abs((a * b).sum(1)).mean())


def _f_score(result_near: Bool[np.ndarray, "N"], truth_near: Bool[np.ndarray, "M"]) -> float:
    precision, recall = float(result_near.mean()), float(truth_near.mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _overlap(meshes: list[Mesh], solids: list[Solid], count: int, rng: np.random.Generator) -> dict[str, Any]:
    for mesh, name in zip(meshes, ("result", "truth")):
        if open_edges(mesh) and (gaps := open_edges(merge_vertices(mesh))):
            return {"iou": None, "iou_missing": f"the {name} is not closed ({gaps:,} open edges)"}
    low = np.minimum(solids[0].box[0], solids[1].box[0])
    high = np.maximum(solids[0].box[1], solids[1].box[1])
    points = rng.uniform(low, high, (count, 3))
    a, b = (solid.winding(points) != 0 for solid in solids)  # -1 inside a mesh that is inside out
    both, either = int((a & b).sum()), int((a | b).sum())
    if either == 0:
        return {"iou": None, "iou_missing": f"none of {count:,} points in the box lies inside"}
    return {"iou": both / either, "iou_points_inside": either}
