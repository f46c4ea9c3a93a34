"""A template's vertices onto a scan: rigid first (ICP), then as rigid as possible.

Besl & McKay, "A Method for Registration of 3-D Shapes" (1992); Sorkine & Alexa, "As-Rigid-As-Possible Surface Modeling"
(SGP 2007), whose energy Σ_ij |(v_i − v_j) − R_i (p_i − p_j)|² holds the template together while its vertices are
drawn to the nearest places of the scan (Amberg et al., "Optimal Step Nonrigid ICP", CVPR 2007: loosened step by step).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid

ROUNDS = 40  # of ICP from each start
SOME = 1000  # vertices that ICP looks at
STIFFNESS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)  # of the template beside the pull of the scan, loosened
STEPS = 4  # at each stiffness
FACING = 0.5  # cosine of the greatest angle between normals of places that belong together
TRIM, REACH = 3.0, 0.05  # medians of the distance, and share of the scan's diagonal, beyond both of which it has a hole


def register(template: Mesh, scan: Mesh) -> Float[np.ndarray, "V 3"]:
    """Places of the template's vertices on the scan, in the scan's frame. Both in metres, of any heading."""
    solid = Surface(scan)
    rest = align(template, solid)
    vertices, faces = rest.copy(), template.faces
    laplacian = _laplacian(rest, faces)
    for stiffness in STIFFNESS:
        for _ in range(STEPS):
            target, known = solid.match(vertices, Mesh(vertices, faces).vertex_normals())
            vertices = _arap_step(rest, vertices, laplacian, target, known, stiffness)
    return vertices


class Surface:
    """A scan to be drawn to."""

    def __init__(self, mesh: Mesh):
        self.middle = mesh.vertices.mean(0)
        self.mesh = Mesh(mesh.vertices - self.middle, mesh.faces)
        self.solid = Solid(self.mesh)
        self.reach = REACH * float(np.linalg.norm(self.solid.box[1] - self.solid.box[0]))

    def match(
        self, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"] | None
    ) -> tuple[Float[np.ndarray, "V 3"], Bool[np.ndarray, "V"]]:
        """The nearest places, and which of them belong to the points: near, and facing the same way."""
        found, face = self.solid.nearest(points - self.middle)
        distance = np.linalg.norm(found - (points - self.middle), axis=1)
        known = distance <= max(TRIM * np.median(distance), self.reach)
        if normals is not None:
            known &= (self.solid.normals[face] * normals).sum(1) > FACING
        return found + self.middle, known


def align(template: Mesh, scan: Surface) -> Float[np.ndarray, "V 3"]:
    """The template's vertices turned, moved and scaled onto the scan, from 24 starts: the best by the mean distance.

    Distances count both ways: from the template alone a small copy anywhere on the scan would fit best.
    """
    some = _some(template.vertices)
    theirs = _some(scan.mesh.vertices) + scan.middle
    spread = np.linalg.norm(theirs - theirs.mean(0)) / math.sqrt(len(theirs))
    size = spread / (np.linalg.norm(some - some.mean(0)) / math.sqrt(len(some)))
    best, least = template.vertices, math.inf
    for start in _quarter_turns():
        points = size * (some - some.mean(0)) @ start.T + theirs.mean(0)
        for _ in range(ROUNDS):
            target, known = scan.match(points, None)
            back = cKDTree(points).query(theirs)[1]
            scale, turn, move = similar(
                np.concatenate([points[known], points[back]]), np.concatenate([target[known], theirs])
            )
            points = scale * points @ turn.T + move
        there = np.linalg.norm(scan.match(points, None)[0] - points, axis=1)
        error = float(there.mean() + cKDTree(points).query(theirs)[0].mean())
        if error < least:
            scale, turn, move = similar(some, points)
            best, least = scale * template.vertices @ turn.T + move, error
    return best


def _some(vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "N 3"]:
    return vertices[:: max(1, len(vertices) // SOME)]


def similar(
    points: Float[np.ndarray, "N 3"], targets: Float[np.ndarray, "N 3"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale, rotation and move that bring points nearest to targets, by least squares (Umeyama 1991).

    trimesh's `procrustes` scales by the ratio of spreads instead, with which ICP ends in worse places.
    """
    a, b = points.mean(0), targets.mean(0)
    u, s, vt = np.linalg.svd((points - a).T @ (targets - b))
    sign = np.array([1, 1, np.sign(np.linalg.det(vt.T @ u.T))])
    turn = vt.T @ np.diag(sign) @ u.T
    size = float((s * sign).sum() / ((points - a) ** 2).sum())
    return size, turn, b - size * turn @ a


def _quarter_turns() -> list[Float[np.ndarray, "3 3"]]:
    """The 24 rotations that take axes to axes."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return found


def _laplacian(rest: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> csr_matrix:
    """D − W of the mesh's edges, weight 1 each: cotangents of slivers, which scans' templates have, would not hold."""
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    weights = csr_matrix((np.ones(len(i)), (i, j)), shape=(len(rest), len(rest)))
    return (diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()


def _arap_step(
    rest: Float[np.ndarray, "V 3"],
    vertices: Float[np.ndarray, "V 3"],
    laplacian: csr_matrix,
    target: Float[np.ndarray, "V 3"],
    known: Bool[np.ndarray, "V"],
    stiffness: float,
) -> Float[np.ndarray, "V 3"]:
    """Rotations of each vertex's neighbourhood, then all vertices at once: local and global step."""
    pairs = laplacian.tocoo()
    own = pairs.row != pairs.col
    i, j, weight = pairs.row[own], pairs.col[own], -pairs.data[own]
    before, after = rest[i] - rest[j], vertices[i] - vertices[j]
    covariance = np.zeros((len(rest), 3, 3))
    np.add.at(covariance, i, weight[:, None, None] * before[:, :, None] * after[:, None, :])
    u, _, vt = np.linalg.svd(covariance)
    sign = np.ones((len(rest), 3))
    sign[:, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    turns = np.einsum("vji,vj,vkj->vik", vt, sign, u)
    wanted = np.zeros_like(rest)
    np.add.at(wanted, i, 0.5 * weight[:, None] * np.einsum("nij,nj->ni", turns[i] + turns[j], before))
    pull = known.astype(np.float64)
    system = (stiffness * laplacian + diags(pull)).tocsc()
    return splu(system).solve(stiffness * wanted + pull[:, None] * target)
