"""A mesh covered with flat splats that end where it ends.

A disc in the middle of a face may be as wide as its neighbours are far. Near a border, a crease or a step of colour it
must not reach across: its deviation across the edge is at most its distance from there, divided by REACH, so that rows
of ever narrower splats lead up to the edge, each as long as the discs are wide. Where such a row lies REACH deviations
from the edge, half of the light passes at the edge itself: the silhouette is where the mesh's is.

At last the splats are fitted to pictures of the mesh, in the manner in which the file will be drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from neural3d.fields.gaussians import Gaussians
from neural3d.fields.quantised import C0
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.mesh_metrics import sample_places
from neural3d.geometry.rotations import quaternion_from_rotation
from neural3d.viewer.solids import Solid

DISC, THIN, OPACITY = 0.65, 0.05, 0.99  # deviation in spacings, thickness in deviations
REACH = 1.7
FINEST = 1e-3  # deviation of the outermost row across its edge, in diagonals of the mesh's box: a pixel of 1000
ANGLE, STEP = math.cos(math.radians(30)), 0.1  # of normals and of colours (sRGB), from which on an edge counts


@dataclass
class Sides:
    """Edges where splats must end, once for each face that lies there.

    start, along: the edge, from its first end to its second. inward: unit, in the face, across the edge. face. corners:
    which corners of the face are the ends. slant: how much later and earlier than the edge a row begins and ends for
    each unit of its distance from it. height: the distance of the face's third corner.
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


def rows(finest: float, widest: float) -> list[tuple[float, float]]:
    """Distance from the edge and deviation across it of each row, from the edge to where discs of `widest` have room."""
    found, deviation = [], min(finest, widest)
    distance = REACH * deviation
    while distance < REACH * widest:
        found.append((distance, distance / REACH))
        distance += distance / REACH / DISC
    return found


def cover(solid: Solid, count: int) -> Gaussians:
    """About `count` flat splats on a surface, in its colours."""
    mesh = Mesh(solid.vertices, solid.faces)
    low, high = solid.vertices.min(0), solid.vertices.max(0)
    finest = FINEST * float(np.linalg.norm((high - low).astype(np.float64)))
    hexagonal = math.sqrt(2 * mesh.area / (math.sqrt(3) * count))  # spacing of points on a grid of that density
    few = max(1, len(rows(finest, DISC * hexagonal)))
    hard = sides(solid, 0.5 * count * hexagonal / few)

    def plan(spacing: float) -> tuple[list[tuple[float, float, np.ndarray]], int]:
        """Rows with the length each takes along each side; and how many discs the rest of the area takes."""
        strips, covered = [], 0.0
        for distance, deviation in rows(finest, DISC * spacing):
            length = np.where(distance < hard.height, hard.length - distance * hard.slant.sum(1), 0).clip(0)
            strips.append((distance, deviation, length))
            covered += float(length.sum()) * deviation / DISC
        return strips, max(0, round((mesh.area - covered) * 2 / (math.sqrt(3) * spacing**2)))

    least, most = hexagonal / 4, hexagonal * 8
    for _ in range(40):  # the spacing at which all of them together are as many as asked for
        spacing = math.sqrt(least * most)
        strips, discs = plan(spacing)
        many = sum(float(length.sum()) for _, _, length in strips) / spacing + discs > count
        least, most = (spacing, most) if many else (least, spacing)
    strips, discs = plan(spacing)
    parts = [_strip(solid, hard, spacing, *strip) for strip in strips]
    parts.append(_middle(mesh, solid, hard, spacing, count, discs))
    place, face, share, frame, deviation = (np.concatenate(columns) for columns in zip(*parts))
    colors = solid.paint(face, share.astype(np.float32))
    return Gaussians(
        torch.from_numpy(place), torch.from_numpy(np.log(deviation)),
        quaternion_from_rotation(torch.from_numpy(frame)), torch.full((len(place),), math.log(OPACITY / (1 - OPACITY))),
        (torch.from_numpy(colors) - 0.5) / C0, torch.zeros(len(place), 0, 3),
    )  # fmt: skip


Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # place, face, share, frame, deviation


def _strip(solid: Solid, hard: Sides, spacing: float, distance: float, deviation: float, length: np.ndarray) -> Part:
    """One row along every side, in even steps."""
    number = np.ceil(length / spacing - 1e-9).astype(int)
    side = np.repeat(np.arange(len(length)), number)
    step = (np.arange(len(side)) - np.repeat(np.cumsum(number) - number, number) + 0.5) / number[side]
    direction = hard.along / hard.length[:, None].clip(1e-300)
    begin = distance * hard.slant[:, 0]
    at = begin[side] + step * length[side]
    place = hard.start[side] + at[:, None] * direction[side] + distance * hard.inward[side]
    face = hard.face[side]
    u, v = direction[side], hard.inward[side]
    frame = np.stack([u, v, np.cross(u, v)], -1)
    wide = np.minimum(DISC * spacing, DISC * length[side] / number[side] if len(side) else 0)
    sizes = np.stack(
        [np.maximum(wide, deviation), np.full(len(side), deviation), np.full(len(side), THIN * deviation)], 1
    )
    return place, face, _shares(solid, face, place), frame, sizes


def _middle(mesh: Mesh, solid: Solid, hard: Sides, spacing: float, count: int, discs: int) -> Part:
    """Discs on what the rows leave free."""
    number = max(1, round(mesh.area * 2 / (math.sqrt(3) * spacing**2)))
    place, face, share = sample_places(mesh, number)
    clear = np.full(len(place), np.inf)
    room = REACH * DISC * spacing
    by_face = np.argsort(hard.face, kind="stable")
    at = np.searchsorted(hard.face[by_face], face)
    for k in range(3):  # a face has up to three such sides
        which = by_face[np.minimum(at + k, len(by_face) - 1)] if len(by_face) else at
        if not len(by_face):
            break
        own = (at + k < len(by_face)) & (hard.face[which] == face)
        distance = ((place - hard.start[which]) * hard.inward[which]).sum(1)
        clear = np.where(own, np.minimum(clear, distance), clear)
    keep = clear >= room
    place, face, share = place[keep], face[keep], share[keep]
    smooth = np.einsum("nk,nkc->nc", share, solid.normals[solid.faces[face]])  # of rough meshes, faces point anywhere
    normal = smooth / np.linalg.norm(smooth, axis=1, keepdims=True).clip(1e-30)
    helper = np.eye(3)[np.abs(normal).argmin(1)]
    tangent = np.cross(helper, normal)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True).clip(1e-30)
    frame = np.stack([tangent, np.cross(normal, tangent), normal], -1)
    sizes = np.tile(np.array([1, 1, THIN]) * DISC * spacing, (len(place), 1))
    return place, face, share, frame, sizes


def _shares(solid: Solid, face: Int[np.ndarray, "n"], place: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n corner"]:
    """Barycentric coordinates of places in their faces."""
    a, b, c = (solid.vertices[solid.faces[face][:, k]].astype(np.float64) for k in range(3))
    u, v, w = b - a, c - a, place - a
    uu, uv, vv, wu, wv = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    det = (uu * vv - uv**2).clip(1e-300)
    s, t = (wu * vv - wv * uv) / det, (wv * uu - wu * uv) / det
    return np.stack([1 - s - t, s, t], 1)
