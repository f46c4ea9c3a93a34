"""Which way the normals of a point cloud point: for all points at once, whether the surface is closed or open.

Notation: points xᵢ; μᵢ: vectors that point outward; χ: the blurred inside that they make (`geometry.indicator`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy  # its parts are imported when first used: together they take half a second
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry import clouds
from neural3d.geometry.indicator import Indicator, winding_matrix

ORIENTED = 30_000  # points that are oriented together; others follow the nearest of these
TRIES = ((64, 0.05), (96, 0.03))  # cells, and the Gaussian that blurs χ in scene units
DAMPINGS = (1.0, 10.0, 100.0)  # of the least-norm system, in shares of its diagonal
SHARPENINGS = 4  # times that normals follow the field they make
JUDGES = 500  # points at which tries are compared
TREE_NEIGHBOURS = 10  # of the spanning tree
AGREEMENT = 2.0  # of neighbours, beside how even χ is; at 1.0, tries that follow a noise of 1 % win
APART = 0.5  # of the noise is left where walls are told apart; points split by height leave √(1 − 2/π) = 0.6
WALL = 3.0  # of the noise that is left: a neighbour farther behind is of a wall's other side
EVEN = 1.2  # χ of the spanning tree may be so much less even than that of the best try
SMALL = 0.01  # share of all points that a plane may be of
AS_WELL = 0.01  # share of neighbours that may face opposite ways more than in the best try
SHEET = 0.2  # openness from which the spanning tree's surface is a sheet; noise makes it look less open than it is
OPEN = 0.3  # openness from which a surface counts as open


def outward_normals(
    points: Float[np.ndarray, "N 3"], planes: Float[np.ndarray, "N 3"], spacing: Float[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "N 3"], bool]:
    """(`planes`, unit normals of either sign, turned outward; whether they are of a sheet, which encloses nothing).

    spacing: see `geometry.clouds`.
    """
    some = np.random.default_rng(0).permutation(len(points))[:ORIENTED]
    share = spacing[some] * math.sqrt(len(points) / len(some))
    turned, sheet = _outward(points[some], planes[some], share)
    nearest = clouds.tree_of(points[some]).query(points, workers=-1)[1]
    return _along(planes, turned[nearest]), sheet


def _outward(points: np.ndarray, planes: np.ndarray, spacing: np.ndarray) -> tuple[Float[np.ndarray, "N 3"], bool]:
    """The best try.

    Where the points' noise is far less among those that face the same way, these are one side of a thin wall, and what
    was noise is its thickness. Of tries that show such walls that one counts in which neighbours agree best; χ is
    blurred by the points' spacing, and tells little of walls that are thinner. Of others that one in which χ, summed
    exactly, is most nearly 1/2 at the points, and neighbours agree best. χ alone would follow the noise: scattered
    wrong signs bring it nearer to 1/2 at points that lie off the surface.
    The spanning tree (`along_tree`) counts instead where neighbours agree far better in it and χ is about as even: a
    patch that it turns the wrong way would show there. (Not of few points, whose planes are of too much at once.)
    χ says nothing of sheets, and would make walls solid whose sides noise mixes, with all that they enclose. So the
    tree counts also where the surface that it makes is a sheet.
    """
    tree = clouds.tree_of(points)
    around = tree.query(points, min(clouds.PLANE_NEIGHBOURS, len(points)), workers=-1)[1]
    neighbours = around[:, 1 : TREE_NEIGHBOURS + 1]
    noise = clouds.noise(tree)
    judges = np.linspace(0, len(points) - 1, min(JUDGES, len(points))).astype(int)
    width = np.maximum(spacing, noise)
    matrix = winding_matrix(points, width, points[judges])
    area = (spacing**2)[:, None]
    least, best = (True, math.inf), planes
    from_middle = torch.from_numpy(points - points[around].mean(1))  # of a wall; elsewhere this is noise
    for vectors in (from_middle, *outward_vectors(points, torch.from_numpy(spacing).float() ** 2)):
        tried = _along(planes, vectors.numpy())
        left = clouds.noise(tree, tried)
        if (thick := left >= APART * noise) and vectors is from_middle:
            continue
        if thick:
            doubt = _unevenness(matrix, tried * area) + AGREEMENT * _disagreement(tried, neighbours)
        else:
            behind = -np.einsum("nkc,nc->nk", points[neighbours] - points[:, None], tried)
            doubt = _disagreement(tried, neighbours, behind < WALL * left)
        if (thick, doubt) < least:
            least, best = (thick, doubt), tried
    if not least[0]:
        return best, False
    spanned = along_tree(planes, neighbours)
    if float((matrix * torch.from_numpy(spanned * area).float()).sum((1, 2)).median()) < 0:
        spanned = -spanned
    of_tree, of_best = _disagreement(spanned, neighbours), _disagreement(best, neighbours)
    as_even = _unevenness(matrix, spanned * area) < EVEN * _unevenness(matrix, best * area)
    if as_even and of_tree < 0.5 * of_best and around.shape[1] < SMALL * len(points):
        return spanned, False
    before = winding_matrix(points, width, points[judges] + (2 * width[:, None] * spanned)[judges])
    opening = openness((before * torch.from_numpy(spanned * area).float()).sum((1, 2)))
    sheet = of_tree < of_best + AS_WELL and opening > SHEET
    return spanned if sheet else best, sheet


def outward_vectors(points: Float[np.ndarray, "N 3"], area: Float[Tensor, "N"]) -> Iterator[Float[Tensor, "N 3"]]:
    """Tries of vectors that point out of a closed shape at each point, without any start or tree.

    The shortest vectors μ for which χ is 1/2 at all points, μ = Aᵀ ξ with (A Aᵀ + damping) ξ = 1/2 (Lin, Xiao,
    Shi & Wang, "Surface Reconstruction from Point Clouds without Normals by Parametrizing the Gauss Formula", 2022),
    by conjugate gradients: the best of exact points, also on both sides of walls thinner than the blur. Then, for
    noisy ones, after μ ← −∇χ / |∇χ| a few times: normals agree with the field they make (Lin, Shi & Liu,
    "Fast and Globally Consistent Normal Orientation based on the Winding Number Normal Consistency", 2024).
    """
    for cells, width in TRIES:
        chi = Indicator(points, width, cells)
        for damping in DAMPINGS:
            vectors = _least_vectors(chi, damping)
            yield vectors
            for _ in range(SHARPENINGS):
                vectors = chi.ascent(torch.nn.functional.normalize(vectors, dim=-1) * area[:, None])
            yield vectors


def openness(before: Float[Tensor, "M"]) -> float:
    """The share of the half space behind a point that openings of the surface fill, in the mean over points.

    before: χ just outside of them. By Gauss's formula a closed surface adds nothing there, and what is missing of it
    takes away the solid angle in which it is seen, in shares of the whole sphere: 0 if closed, 1 for a flat sheet.
    """
    return max(0.0, -2 * float(before.mean()))


def along_tree(planes: Float[np.ndarray, "N 3"], neighbours: np.ndarray) -> Float[np.ndarray, "N 3"]:
    """Signs handed on along the tree over neighbours whose planes differ least (Hoppe et al., SIGGRAPH 1992).

    Parts that no neighbours join each have a sign of their own.
    """
    count, k = neighbours.shape
    near = np.repeat(np.arange(count), k), neighbours.ravel()
    differ = 1 - np.abs((planes[near[0]] * planes[near[1]]).sum(1)) + 1e-3  # 1e-3: 0 would be no edge
    graph = scipy.sparse.csr_matrix((differ, near), shape=(count, count))
    tree = scipy.sparse.csgraph.minimum_spanning_tree(graph.maximum(graph.T))
    turned = planes.copy()
    parts, part = scipy.sparse.csgraph.connected_components(tree, directed=False)
    for root in np.unique(part, return_index=True)[1] if parts < count else ():
        order, before = scipy.sparse.csgraph.breadth_first_order(tree, root, directed=False)
        for i in order[1:]:
            if turned[i] @ turned[before[i]] < 0:
                turned[i] = -turned[i]
    return turned


def _disagreement(normals: np.ndarray, neighbours: np.ndarray, same: np.ndarray | bool = True) -> float:
    """Share of neighbours that face opposite ways. same: those that lie on the same side of a wall."""
    return float(((np.einsum("nc,nkc->nk", normals, normals[neighbours]) < -0.5) & same).mean())


def _unevenness(matrix: Tensor, vectors: Float[np.ndarray, "N 3"]) -> float:
    """How much χ differs among the judges, where it should be 1/2."""
    chi = (matrix * torch.from_numpy(vectors).float()).sum((1, 2))
    return float(chi.std() / chi.median().abs())


def _along(planes: np.ndarray, vectors: np.ndarray) -> Float[np.ndarray, "N 3"]:
    return np.where((planes * vectors).sum(1)[:, None] < 0, -planes, planes)


def _least_vectors(chi: Indicator, damping: float) -> Float[Tensor, "N 3"]:
    """μ of `outward_vectors`. damping: in shares of the diagonal of A Aᵀ."""
    half = torch.full((len(chi.corner),), 0.5)
    one = torch.zeros_like(half)
    one[len(one) // 2] = 1
    damping = damping * float(one @ chi.at(chi.adjoint(one)))
    charges = _conjugate_gradients(lambda v: chi.at(chi.adjoint(v)) + damping * v, half, steps=15)
    return chi.adjoint(charges)


def _conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with A x = b for symmetric positive definite A (Hestenes & Stiefel 1952)."""
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    for _ in range(steps):
        q, rr = apply(p), r @ r
        step = rr / (p @ q)
        x, r = x + step * p, r - step * q
        p = r + (r @ r) / rr * p
    return x
