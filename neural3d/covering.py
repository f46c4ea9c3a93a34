"""A mesh covered with flat splats that end where it ends.

A disc in the middle of a face may be as wide as its neighbours are far. Near a border, a crease or a step of colour it
must not reach across: its deviation across the edge is at most its distance from there, divided by REACH, so that rows
of ever narrower splats lead up to the edge, each as long as the discs are wide. Where such a row lies REACH deviations
from the edge, half of the light passes at the edge itself: the silhouette is where the mesh's is.

`fitted` then moves them a little, so that pictures of them become those of the mesh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.fields.gaussians import Gaussians
from neural3d.files.quantised import C0
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import sample_places
from neural3d.geometry.rotations import quaternion_from_rotation
from neural3d.ops.adam import Adam
from neural3d.ops.splat_project import splat_project
from neural3d.ops.splat_raster import splat_raster
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut
from neural3d.render.paths import surround
from neural3d.render.splats import pinhole_intrinsics
from neural3d.viewer.solids import Solid

DISC, THIN, OPACITY = 0.65, 0.05, 0.99  # deviation in spacings, thickness in deviations
REACH = 1.7
FINEST = 1e-3, 1 / 12  # least deviation of the outermost row across its edge: in diagonals of the box, in a disc's
DENSE = 2  # splats for each spacing of a row: the more overlap, the steeper the edge
SQUARE = math.sqrt(3) / 2  # area for each point of a hexagonal grid, in spacings²
HEIGHTS, AROUND, STEPS = (-70, -40, -15, 20, 50, 75), 6, 200  # views that splats are fitted to, and steps
ANGLE, STEP = math.cos(math.radians(30)), 0.1  # of normals and of colours (sRGB), from which on an edge counts
PIXEL = 1 / 12  # variance across a pixel, in its widths²: the pictures to fit are means over pixels
Render = Callable[[Camera, Tensor], RenderOut]
Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # place, face, share, frame, deviation


@dataclass
class Sides:
    """Edges where splats must end, once for each face that lies there.

    start, along: the edge, from its first end to its second. inward: unit, in the face, across the edge. slant: how
    much later and earlier than the edge a row begins and ends, for each unit of its distance from it. height: distance
    of the face's third corner.
    """

    start: Float[np.ndarray, "E 3"]
    along: Float[np.ndarray, "E 3"]
    inward: Float[np.ndarray, "E 3"]
    face: Int[np.ndarray, "E"]
    slant: Float[np.ndarray, "E 2"]
    height: Float[np.ndarray, "E"]

    @property
    def length(self) -> Float[np.ndarray, "E"]:
        return np.linalg.norm(self.along, axis=1)


def sides(solid: Solid, longest: float) -> Sides:
    """The sides of the hardest edges, as many as have the length `longest` together."""
    points = solid.vertices.astype(np.float64)
    _, same = np.unique(solid.vertices, axis=0, return_inverse=True)  # files repeat vertices where colours differ
    faces = solid.faces.astype(np.int64)
    ends = np.stack([faces, np.roll(faces, -1, 1), np.roll(faces, -2, 1)], -1).reshape(-1, 3)  # first, second, opposite
    face = np.repeat(np.arange(len(faces)), 3)
    key = np.sort(same.reshape(-1)[ends[:, :2]], axis=1)
    _, edge, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    order = np.argsort(edge, kind="stable")
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    pair = np.stack([order[first], order[first + np.minimum(count, 2) - 1]], 1)  # of each edge, two of its half edges

    a, b, c = (points[ends[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-300)
    share = np.zeros((len(ends), 3), np.float32)
    corner = np.tile(np.arange(3), len(faces))
    share[np.arange(len(ends)), corner] = share[np.arange(len(ends)), (corner + 1) % 3] = 0.5
    color = solid.paint(face, share)
    bend = (normal[pair[:, 0]] * normal[pair[:, 1]]).sum(1)
    jump = np.abs(color[pair[:, 0]] - color[pair[:, 1]]).max(1)
    hardness = np.where(count != 2, 2.0, np.maximum((1 - bend) / 2 * (bend < ANGLE), jump * (jump > STEP)))

    along, across = b - a, c - a
    length = np.linalg.norm(along, axis=1)
    direction = along / length.clip(1e-300)[:, None]
    foot = (across * direction).sum(1)
    inward = across - foot[:, None] * direction
    height = np.linalg.norm(inward, axis=1)
    usable = (hardness[edge] > 0) & (height > 0) & (length > 0)
    chosen = np.flatnonzero(usable)[np.argsort(-hardness[edge[usable]], kind="stable")]
    chosen = chosen[np.cumsum(length[chosen]) <= longest]
    h = height[chosen]
    return Sides(
        a[chosen], along[chosen], inward[chosen] / h[:, None], face[chosen],
        np.stack([foot[chosen] / h, (length - foot)[chosen] / h], 1), h,
    )  # fmt: skip


def rows(diagonal: float, widest: float) -> list[tuple[float, float]]:
    """Distance from the edge and deviation across it of each row, from there to where discs of `widest` have room."""
    found = []
    distance = REACH * max(FINEST[0] * diagonal, FINEST[1] * widest)
    while distance < REACH * widest:
        found.append((distance, distance / REACH))
        distance += distance / REACH / DISC
    return found


def cover(solid: Solid, count: int) -> Gaussians:
    """About `count` flat splats on a surface, in its colours."""
    mesh = Mesh(solid.vertices, solid.faces)
    diagonal = float(np.linalg.norm((solid.vertices.max(0) - solid.vertices.min(0)).astype(np.float64)))
    spacing = _spacing(mesh.area, count)
    hard = sides(solid, 0.5 * count * spacing / DENSE / max(1, len(rows(diagonal, DISC * spacing))))

    def strips(spacing: float) -> list[tuple[float, float, Float[np.ndarray, "E"]]]:
        """Rows, and of each the length along every side."""
        return [
            (d, deviation, np.where(d < hard.height, hard.length - d * hard.slant.sum(1), 0).clip(0))
            for d, deviation in rows(diagonal, DISC * spacing)
        ]

    least, most = spacing, 8 * spacing
    for _ in range(40):  # the spacing at which rows, and discs on the rest of the area, are as many as asked for
        spacing = math.sqrt(least * most)
        found = strips(spacing)
        rest = mesh.area - sum(float(length.sum()) * deviation / DISC for _, deviation, length in found)
        many = DENSE * sum(float(length.sum()) for *_, length in found) / spacing + max(0, rest) / (SQUARE * spacing**2)
        least, most = (spacing, most) if many > count else (least, spacing)
    parts = [_strip(solid, hard, spacing, *strip) for strip in strips(spacing)]
    parts.append(_middle(mesh, solid, hard, REACH * DISC * spacing, count - sum(len(part[0]) for part in parts)))
    place, face, share, frame, deviation = (np.concatenate(columns) for columns in zip(*parts))
    colors = solid.paint(face, share.astype(np.float32))
    return Gaussians(
        torch.from_numpy(place), torch.from_numpy(np.log(deviation)),
        quaternion_from_rotation(torch.from_numpy(frame)), torch.full((len(place),), math.log(OPACITY / (1 - OPACITY))),
        (torch.from_numpy(colors) - 0.5) / C0, torch.zeros(len(place), 0, 3),
    )  # fmt: skip


def _spacing(area: float, count: float) -> float:
    """Of so many points on a hexagonal grid."""
    return math.sqrt(area / (SQUARE * max(1, count)))


def _strip(solid: Solid, hard: Sides, spacing: float, distance: float, across: float, length: np.ndarray) -> Part:
    """One row along every side, in even steps; of sides shorter than a step, some have one."""
    number = np.diff(np.floor(np.concatenate([[0], np.cumsum(length)]) * DENSE / spacing + 0.5)).astype(int)
    side = np.repeat(np.arange(len(length)), number)
    step = (np.arange(len(side)) - np.repeat(np.cumsum(number) - number, number) + 0.5) / number[side]
    direction = (hard.along / hard.length[:, None])[side]
    at = distance * hard.slant[side, 0] + step * length[side]
    place = hard.start[side] + at[:, None] * direction + distance * hard.inward[side]
    frame = np.stack([direction, hard.inward[side], np.cross(direction, hard.inward[side])], -1)
    room = np.where(hard.length[side] < spacing, spacing, np.minimum(spacing, length[side]))
    along = np.maximum(DISC * room, across)
    sizes = along[:, None] * [1, 0, 0] + across * np.array([0, 1, THIN])
    return place, hard.face[side], _shares(solid, hard.face[side], place), frame, sizes


def _middle(mesh: Mesh, solid: Solid, hard: Sides, room: float, count: int) -> Part:
    """About `count` discs on what the rows, which reach `room` into their faces, leave free."""
    place, face, _ = sample_places(mesh, 1 << 14)
    free = float((_clear_of(hard, place, face) >= room).mean())  # share of the area
    place, face, share = sample_places(mesh, max(1, round(count / max(free, 0.05))))
    keep = _clear_of(hard, place, face) >= room
    spacing = _spacing(mesh.area, len(place))
    place, face, share = place[keep], face[keep], share[keep]
    # Of rough meshes, faces point anywhere; at creases, normals of vertices do.
    smooth = np.einsum("nk,nkc->nc", share, solid.normals[solid.faces[face]])
    normal = np.where(np.isin(face, hard.face)[:, None], mesh.face_vectors()[face], smooth)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-30)
    tangent = np.cross(np.eye(3)[np.abs(normal).argmin(1)], normal)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True).clip(1e-30)
    frame = np.stack([tangent, np.cross(normal, tangent), normal], -1)
    return place, face, share, frame, np.tile(np.array([1, 1, THIN]) * DISC * spacing, (len(place), 1))


def _clear_of(hard: Sides, place: Float[np.ndarray, "n 3"], face: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Distance of places to the nearest side of their own face; infinite where it has none."""
    clear = np.full(len(place), np.inf)
    order = np.argsort(hard.face, kind="stable")
    first = np.searchsorted(hard.face[order], face)
    for k in range(3 if len(order) else 0):  # a face has at most three
        side = order[np.minimum(first + k, len(order) - 1)]
        own = (first + k < len(order)) & (hard.face[side] == face)
        distance = ((place - hard.start[side]) * hard.inward[side]).sum(1)
        clear = np.where(own, np.minimum(clear, distance), clear)
    return clear


def _shares(solid: Solid, face: Int[np.ndarray, "n"], place: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n corner"]:
    """Barycentric coordinates of places in their faces."""
    a, b, c = (solid.vertices[solid.faces[face][:, k]].astype(np.float64) for k in range(3))
    u, v, w = b - a, c - a, place - a
    uu, uv, vv, wu, wv = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    det = (uu * vv - uv**2).clip(1e-300)
    s, t = (wu * vv - wv * uv) / det, (wv * uu - wu * uv) / det
    return np.stack([1 - s - t, s, t], 1)


def fitted(
    splats: Gaussians,
    target: Render,
    box: Float[Tensor, "2 3"],
    side: int,
    antialiased: bool,
    progress: Progress = silent,
) -> Gaussians:
    """The splats, moved until their pictures are those of `target`, from all around, `side` pixels wide.

    Adam on the squared error, before backgrounds of any colour, so that what shines through counts; the same on every
    run. `splats` themselves are changed. They are widened by a pixel, not by renderers' 0.3: against that they would
    be sharpened, and be too sharp whenever a subject is larger in the picture than here.
    """
    cameras = surround(box, HEIGHTS, AROUND, side)
    wanted = [target(camera, torch.zeros(3)) for camera in cameras]
    generator = torch.Generator().manual_seed(0)
    disc = float(splats.log_scales.detach().exp().amax(1).median())
    rates = {"means": 0.05 * disc, "log_scales": 0.03, "quats": 0.01, "opacity_logits": 0.1, "sh_dc": 0.02}
    groups = [{"params": [getattr(splats, name)], "lr": rate, "rate": rate} for name, rate in rates.items()]
    optimizer = Adam(groups, betas=(0.9, 0.99), eps=1e-15)
    order: list[int] = []
    for step in range(STEPS):
        order = order or torch.randperm(len(cameras), generator=generator).tolist()
        k = order.pop()
        camera, want = cameras[k], wanted[k]
        background = torch.rand(3, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        projected = splat_project(
            splats.means, splats.quats, splats.log_scales, splats.opacity_logits, splats.sh_dc, splats.sh_rest,
            torch.linalg.inv(camera.world_from_camera).float(), pinhole_intrinsics(camera).float(), side, side,
            sh_degree=0, blur=PIXEL, antialiased=antialiased, raw=True,
        )  # fmt: skip
        image, _ = splat_raster(
            projected.xy, projected.conic, projected.depth, projected.opacity, projected.color, side, side,
            background=background,
        )  # fmt: skip
        error = image - (want.rgb + (1 - want.alpha) * background)
        (error.square().sum() / want.alpha.sum().clamp(min=1)).backward()
        optimizer.step()
        progress("fitting", step + 1, STEPS)
    return splats
