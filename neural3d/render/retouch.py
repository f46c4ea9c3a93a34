"""Texels that no photo shows, filled in pictures: what is missing of a surface, seen from before it.

In the texture itself charts lie turned, cut off from those that they touch on the surface. So the surface is looked at
straight on, in parallel, by pictures of SIDE × SIDE pixels as wide as a photo's, or a texel if that is wider, upright
as photos are. What of a picture is missing is filled in as a picture is, and goes to the texels that it shows; what
later pictures show of them is known. Pictures start a little way in from the rim of what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.geometry.unwrap import Texels
from neural3d.progress import Progress, silent
from neural3d.render.photo_error import bilinear

# (pictures (P, 3, S, S) sRGB whose holes hold a smooth guess; known, wanted (P, S, S): what else of them is to be made)
Fill = Callable[[Float[Tensor, "P 3 S S"], Bool[Tensor, "P S S"], Bool[Tensor, "P S S"]], Float[Tensor, "P 3 S S"]]

SIDE = 128  # pixels of a picture
AT_ONCE = 16  # pictures that are filled side by side, apart from each other
FACING = 0.3  # cosine: texels that turn further from the picture wait for another
THIN = 2.0  # pixels from what is known: there the smooth guess is good enough
UP = np.array([0.0, 0.0, 1.0])  # of the scene's frame


def retouched(
    mesh: Mesh,
    texels: Texels,
    colors: Float[np.ndarray, "N 3"],
    seen: Bool[np.ndarray, "N"],
    nearest: Int[np.ndarray, "size size"],
    pixel: float,
    fill: Fill,
    progress: Progress = silent,
) -> Float[np.ndarray, "N 3"]:
    """The colours, those of texels that no photo shows filled in. In the mesh's frame.

    colors: a smooth guess where not seen. nearest: the texel that is nearest to each place of the texture, for places
    between charts. pixel: width of a photo's pixels on the surface.
    """
    solid, colors, known = Solid(mesh), colors.copy(), seen.copy()
    waiting = ~seen
    while True:
        index = np.flatnonzero(waiting)
        if not known.any() or not len(index):
            return colors
        points = texels.points[index]
        depth = cKDTree(texels.points[known]).query(points, distance_upper_bound=SIDE * pixel)[0] / pixel
        normals = texels.normals[index]
        may = (depth >= THIN) & normals.any(1)  # opposite corners' normals may cancel
        seeds = _apart(points, np.abs(depth - SIDE / 4), may, 1.5 * SIDE * pixel)
        if not len(seeds):
            return colors
        tree = cKDTree(points)
        frames = []
        for seed in seeds:
            around = normals[tree.query_ball_point(points[seed], SIDE / 4 * pixel)]
            toward = around[around @ normals[seed] > 0].mean(0)
            frames.append(_Frame.before(points[seed], toward / np.linalg.norm(toward), pixel))
        layers = np.concatenate([colors, known[:, None]], axis=1, dtype=np.float32)[nearest]
        looks = [frame.look(solid, mesh, layers) for frame in frames]
        pictures, certain, there = (torch.from_numpy(np.stack(part)) for part in zip(*(look[:3] for look in looks)))
        made = fill(pictures.movedim(3, 1), certain, there & ~certain).movedim(1, 3).numpy()
        for seed, frame, picture, look in zip(seeds, frames, made, looks, strict=True):
            near = np.array(tree.query_ball_point(points[seed], 0.75 * SIDE * pixel))
            shown, place = frame.shows(points[near], normals[near], look[3])
            chosen = index[near[shown]]
            chosen, place = chosen[waiting[chosen]], place[waiting[chosen]]
            colors[chosen], known[chosen] = bilinear(255 * picture, place), True
            waiting[chosen] = False
            waiting[index[tree.query_ball_point(points[seed], SIDE / 8 * pixel)]] = False  # or be asked again and again
        progress("filling", int((~seen).sum() - waiting.sum()), int((~seen).sum()))


def _apart(
    points: Float[np.ndarray, "M 3"], rank: Float[np.ndarray, "M"], may: Bool[np.ndarray, "M"], distance: float
) -> list[int]:
    """At most AT_ONCE points so far from each other, those of low rank first."""
    chosen: list[int] = []
    free = may.copy()
    order = np.argsort(rank, kind="stable")
    for i in order:
        if free[i]:
            chosen.append(int(i))
            free &= np.linalg.norm(points - points[i], axis=1) > distance
            if len(chosen) == AT_ONCE or not free.any():
                break
    return chosen


@dataclass(frozen=True)
class _Frame:
    """A picture's place: its middle on the surface; axes to the right, down, and towards who looks; a pixel's width."""

    middle: Float[np.ndarray, "3"]
    axes: Float[np.ndarray, "3 3"]
    pixel: float

    @classmethod
    def before(cls, middle: np.ndarray, toward: np.ndarray, pixel: float) -> _Frame:
        up = UP if abs(toward @ UP) < 0.95 else np.array([0.0, 1.0, 0.0])
        right = np.cross(up, toward)
        right /= np.linalg.norm(right)
        return cls(middle, np.stack([right, np.cross(right, toward), toward]), pixel)

    def look(
        self, solid: Solid, mesh: Mesh, layers: Float[np.ndarray, "size size 4"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(colours (S, S, 3), what of them is known, where the surface is, its height above the middle (S, S))"""
        steps = (np.arange(SIDE) + 0.5 - SIDE / 2) * self.pixel
        down, right = np.meshgrid(steps, steps, indexing="ij")
        far = SIDE / 2 * self.pixel  # what stands before the surface, further off, does not hide it
        places = np.stack([right, down, np.full_like(right, far)], -1).reshape(-1, 3)
        face, share = solid.hit_place(self.middle + places @ self.axes, -self.axes[2:])
        corners = mesh.faces[np.maximum(face, 0)]
        hit = np.einsum("nk,nkc->nc", share, mesh.vertices[corners])
        height = np.where(face >= 0, (hit - self.middle) @ self.axes[2], -np.inf)
        there = (face >= 0) & (height > -far) & (solid.normals[np.maximum(face, 0)] @ self.axes[2] > FACING / 2)
        assert mesh.uv is not None
        found = 255 * bilinear(layers, np.einsum("nk,nkc->nc", share, mesh.uv[corners]))
        square = SIDE, SIDE
        known = there & (found[:, 3] > 0.999)
        return (
            found[:, :3].reshape(*square, 3).astype(np.float32),
            known.reshape(square),
            there.reshape(square),
            height.reshape(square),
        )

    def shows(
        self, points: Float[np.ndarray, "M 3"], normals: Float[np.ndarray, "M 3"], height: Float[np.ndarray, "S S"]
    ) -> tuple[Int[np.ndarray, "K"], Float[np.ndarray, "K 2"]]:
        """(which texels it shows, where: (0, 0) and (1, 1) its corners)"""
        own = (points - self.middle) @ self.axes.T
        place = own[:, :2] / (SIDE * self.pixel) + 0.5
        cosine = normals @ self.axes[2]
        inside = ((place > 0) & (place < 1)).all(1) & (cosine > FACING)
        which = np.flatnonzero(inside)
        column, row = (place[which] * SIDE).astype(int).T
        near = np.abs(height[row, column] - own[which, 2]) < 1.5 * self.pixel / cosine[which]
        return which[near], place[which[near]]
