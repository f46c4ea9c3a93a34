"""Textures from photos: every texel takes its colour from the views that see it best.

For each photo, a texel at x with normal n that the camera at o sees through pixel p weighs

    w = (n · d)^P (f / |o − x|)² e(p),    d = (o − x) / |o − x|,

where the pixel's own ray meets the surface at x and not before it, and the photo's alpha and mask count it; f is the
focal length in pixels, so that near and sharp photos lead, and e falls to 0 towards edges in depth, where a surface
that is slightly off shows the colour of what lies behind. Of each texel's VIEWS best photos those that disagree with
their median are left out: highlights, and whatever passed before the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import BATCH, Colors, Mesh
from neural3d.geometry.solid import Solid
from neural3d.geometry.unwrap import Texels, texels_of
from neural3d.images.reading import read_header
from neural3d.progress import Progress, silent
from neural3d.render.retouch import Fill, retouched
from neural3d.scene.undistort import is_panorama

if TYPE_CHECKING:
    from neural3d.scene import View


VIEWS = 16  # photos that a texel may remember
FACING = 2.0  # P
GRAZING = 0.15  # cosine under which a view counts as seeing nothing: a pixel covers seven times its width
EDGE = 0.004  # of the photo's longer side: how far from edges in depth photos are trusted fully
STEEP = 8.0  # pixels' widths by which depth must jump between neighbours to be an edge
VOICE = 0.25  # power of w by which photos vote on the median
AGREE = 0.2  # sRGB: standard deviation of what good photos say
CHUNK = 1 << 21  # texels in hand at a time; each remembers VIEWS colours and weights, 7 bytes each
KNOWN = 500_000  # seen texels that say how photos and field differ
MOST_RAYS = 1 << 20  # per photo, for what hides what


def textured(
    mesh: Mesh,
    size: int,
    views: Sequence[View],
    color: Colors,
    progress: Progress = silent,
    gains: Float[Tensor, "V 3"] | None = None,
    fill: Fill | None = None,
) -> tuple[Mesh, float]:
    """(an unwrapped mesh with a texture of size × size, the share of its surface that photos show)

    views: of cameras in the mesh's frame, where coordinates are of order 1; their photos are read one at a time, at the
    size at which a texel is about a pixel. color: (points, normals) → sRGB, such as the field's, for what no photo
    shows, or for all without views; it is shifted so that it passes smoothly into the photos. gains: by how much each
    photo is brighter than its like.
    Between charts, all around takes the nearest texel's colour: nothing bleeds in, bilinearly or in mip-maps.
    Raises UserError where a photo is missing or damaged.
    """
    texels = texels_of(mesh, size)
    gains = torch.ones(len(views), 3) if gains is None else gains
    colors, seen = _from_photos(mesh, texels, views, gains, progress)
    nearest = nearest_texels(texels)
    if not seen.all():
        _fill(mesh, texels, colors, seen, color)
        if fill is not None and seen.any():
            pixel = photo_pixel(mesh, texels, views)
            colors = retouched(mesh, texels, colors, seen, nearest, pixel, fill, progress)
    picture = np.round(255 * np.clip(colors, 0, 1)).astype(np.uint8)[nearest]
    return replace(mesh, texture=picture), float(seen.mean())


def nearest_texels(texels: Texels) -> Int[np.ndarray, "size size"]:
    """Of each place of the texture the number of its texel, between charts that of the nearest."""
    number = np.full((texels.size, texels.size), -1, np.int32)
    number.ravel()[texels.index] = np.arange(len(texels))
    row, column = ndimage.distance_transform_edt(number < 0, return_distances=False, return_indices=True)
    return number[row, column]


def photo_pixel(mesh: Mesh, texels: Texels, views: Sequence[View]) -> float:
    """How wide a photo's pixel is on the surface, or a texel if that is wider."""
    spacing = float(np.sqrt(mesh.area / max(1, len(texels))))
    cameras = [_fitting(view, mesh, spacing).camera for view in views]
    distance = [float(np.median(np.linalg.norm(mesh.vertices - c.centre.numpy(), axis=1))) for c in cameras]
    return float(np.median([d / _focal(c) for d, c in zip(distance, cameras)]))


def _from_photos(
    mesh: Mesh, texels: Texels, views: Sequence[View], gains: Float[Tensor, "V 3"], progress: Progress
) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, "N"]]:
    """(colours, which texels any photo shows)"""
    solid = Solid(mesh)
    spacing = float(np.sqrt(mesh.area / max(1, len(texels))))
    views = [_fitting(view, mesh, spacing) for view in views]
    colors, seen = np.zeros((len(texels), 3), np.float32), np.zeros(len(texels), bool)
    starts = range(0, len(texels), CHUNK)
    for n, start in enumerate(starts):
        part = slice(start, start + CHUNK)
        points, normals = (torch.from_numpy(x[part].T.copy()) for x in (texels.points, texels.normals))
        memory = _Memory(points.shape[1])
        for k, (view, gain) in enumerate(zip(views, gains)):
            memory.add(*_Photo(view, solid, gain).look(points, normals))
            progress("painting", n * len(views) + k + 1, len(starts) * len(views))
        colors[part], seen[part] = memory.blended()
    return colors, seen


def _fitting(view: View, mesh: Mesh, spacing: float) -> View:
    """The view as photographed, or its part of a panorama, reduced until a pixel is as wide as texels lie apart."""
    if view.lens is not None and not is_panorama(view.lens):
        view = replace(view, camera=view.lens, lens=None)
    whole, stored = view.lens or view.camera, read_header(view.image_path)
    width, height = (
        max(1, round(part * n / of))
        for part, n, of in zip((view.camera.width, view.camera.height), stored, (whole.width, whole.height))
    )
    camera = view.camera.resized(width, height)
    distance = np.linalg.norm(mesh.vertices - camera.centre.numpy(), axis=1)
    shrink = max(1.0, spacing * _focal(camera) / max(float(np.median(distance)), 1e-6))
    return view.resized(max(1, round(width / shrink)), max(1, round(height / shrink)))


def _focal(camera: Camera) -> float:
    """Pixels per radian at the picture's middle, for any lens."""
    middle = torch.tensor([[camera.width / 2, camera.height / 2]], dtype=torch.float64)
    _, d = camera.rays(torch.cat([middle, middle + 1]))
    return float(2**0.5 / torch.linalg.vector_norm(d[1].double() - d[0].double()).clamp_min(1e-9))


class _Photo:
    """One photo: its pixels, which of them count, and where their rays meet the surface."""

    def __init__(self, view: View, solid: Solid, gain: Float[Tensor, "3"]):
        self.camera, self.focal = view.camera, _focal(view.camera)
        image = torch.from_numpy(np.array(view.image())).permute(2, 0, 1).float() / 255
        mask = view.mask()
        counts = torch.ones(image.shape[1:]) if mask is None else torch.from_numpy(mask == 255).float()
        if len(image) == 4:
            counts *= image[3] == 1
        shrink = max(1.0, (view.camera.width * view.camera.height / MOST_RAYS) ** 0.5)
        coarse = view.camera.resized(round(view.camera.width / shrink), round(view.camera.height / shrink))
        origins, directions = (x.numpy() for x in coarse.rays())
        t, _ = solid.first_hit(origins.reshape(-1, 3), directions.reshape(-1, 3))
        self.t = t.reshape(coarse.height, coarse.width)
        self.hits = torch.from_numpy(origins + np.where(np.isfinite(self.t), self.t, 0)[..., None] * directions)
        trust = torch.from_numpy(_away_from_edges(self.t, STEEP / _focal(coarse)))
        trust = torch.nn.functional.interpolate(trust[None, None], counts.shape, mode="bilinear")[0, 0]
        alike = (image[:3] / gain[:, None, None]).clamp(max=1)
        self.layers = torch.cat([alike, counts[None], trust[None]])

    def look(
        self, points: Float[Tensor, "3 N"], normals: Float[Tensor, "3 N"]
    ) -> tuple[Int[Tensor, "M"], Float[Tensor, "M 3"], Float[Tensor, "M"]]:
        """(which points it sees, their colours, their weights)"""
        toward = self.camera.centre.float()[:, None] - points  # coordinates first: sums over a last axis of 3 are slow
        distance = toward.square().sum(0).sqrt()
        cosine = (toward * normals).sum(0) / distance.clamp_min(1e-9)
        index = (cosine > GRAZING).nonzero()[:, 0]
        x = points[:, index].T.contiguous()
        xy, _ = self.camera.project(x)
        place = xy / torch.tensor([self.camera.width, self.camera.height])
        inside = ((place > 0) & (place < 1)).all(1)  # false where it is not a number
        index, x, place = index[inside], x[inside], place[inside]
        rows, columns = self.t.shape
        row, column = (place[:, 1] * rows).long(), (place[:, 0] * columns).long()
        # A pixel and a half beside the pixel's own ray, on a surface that tilts: further away lies another surface.
        # Points behind the camera or beyond the lens's reach, whose pixels mean nothing, fail this too.
        pixel = distance[index] / (self.focal * columns / self.camera.width)
        near = (self.hits[row, column] - x).norm(dim=1) < 1.5 * pixel / cosine[index]
        index, place = index[near], place[near]
        sampled = torch.nn.functional.grid_sample(
            self.layers[None], (2 * place - 1)[None, None], align_corners=False, padding_mode="border"
        )[0, :, 0].T
        weight = cosine[index] ** FACING * (self.focal / distance[index]) ** 2 * sampled[:, 4]
        weight[sampled[:, 3] < 0.999] = 0  # one of the four pixels does not count
        good = weight > 0
        return index[good], sampled[good, :3], weight[good]


def _away_from_edges(t: Float[np.ndarray, "H W"], jump: float) -> Float[np.ndarray, "H W"]:
    """0 at edges in depth and at silhouettes, rising to 1 over EDGE of the picture's longer side.

    t: distances along the rays, infinite where nothing is hit. jump: what of the distance makes an edge.
    """
    edge = np.zeros(t.shape, bool)
    finite = np.where(np.isfinite(t), t, 1e9)
    for axis in (0, 1):
        a, b = (np.take(finite, range(k, t.shape[axis] - 1 + k), axis) for k in (0, 1))
        steep = np.abs(a - b) > jump * np.minimum(a, b)
        edge |= np.pad(steep, [(0, int(k == axis)) for k in (0, 1)])
        edge |= np.pad(steep, [(int(k == axis), 0) for k in (0, 1)])
    if not edge.any():
        return np.ones(t.shape, np.float32)
    reach = max(1.0, EDGE * max(t.shape))
    return np.clip(ndimage.distance_transform_edt(~edge) / reach, 0, 1).astype(np.float32)


class _Memory:
    """The VIEWS best colours of each of N texels."""

    def __init__(self, count: int):
        self.weights: Float[Tensor, "N K"] = torch.zeros(count, VIEWS)
        self.colors: UInt8[Tensor, "N K 3"] = torch.zeros(count, VIEWS, 3, dtype=torch.uint8)

    def add(self, index: Int[Tensor, "M"], colors: Float[Tensor, "M 3"], weights: Float[Tensor, "M"]) -> None:
        least, slot = self.weights[index].min(1)
        better = weights > least
        index, slot = index[better], slot[better]
        self.weights[index, slot] = weights[better]
        self.colors[index, slot] = (255 * colors[better]).round().to(torch.uint8)

    def blended(self, batch: int = 1 << 18) -> tuple[Float[np.ndarray, "N 3"], Bool[np.ndarray, "N"]]:
        """(colours, which texels any photo saw)"""
        parts = [_blend(c.float() / 255, w) for c, w in zip(self.colors.split(batch), self.weights.split(batch))]
        return torch.cat(parts).numpy(), (self.weights > 0).any(1).numpy()


def _blend(colors: Float[Tensor, "N K 3"], weights: Float[Tensor, "N K"]) -> Float[Tensor, "N 3"]:
    """The weighted mean of those that agree with the median, in which the best view has hardly more to say.

    The least weight is taken from all when K photos are remembered, so that a photo that enters or leaves the memory
    from one texel to the next shows no border.
    """
    weights = weights - 0.999 * weights.amin(1, keepdim=True)
    order = colors.argsort(dim=1)
    ordered = torch.gather((weights**VOICE)[..., None].expand_as(colors), 1, order).cumsum(1)
    middle = (ordered < 0.5 * ordered[:, -1:]).sum(1, keepdim=True).clamp_max(colors.shape[1] - 1)
    median = torch.gather(colors, 1, torch.gather(order, 1, middle))
    distance = (colors - median).square().mean(2)
    weights = weights * torch.exp(-0.5 * distance / AGREE**2)
    return (weights[..., None] * colors).sum(1) / weights.sum(1, keepdim=True).clamp_min(1e-12)


def _fill(mesh: Mesh, texels: Texels, colors: np.ndarray, seen: np.ndarray, color: Colors) -> None:
    """Colours of texels that no photo shows, in place: those of `color`, plus what the seen ones around differ from it.

    The difference spreads over the surface like heat (a membrane through what is known), so that no border shows.
    """
    hidden = np.flatnonzero(~seen)
    colors[hidden] = _colors_at(texels, hidden, color)
    if not seen.any():
        return
    known = np.flatnonzero(seen)[:: max(1, int(seen.sum()) // KNOWN)]
    difference = colors[known] - _colors_at(texels, known, color)
    _, vertex = np.unique(mesh.vertices, axis=0, return_inverse=True)  # charts' borders are doubled
    faces, count = vertex.reshape(-1)[mesh.faces], int(vertex.max()) + 1
    corners, share = faces[texels.face[known]], texels.share[known]
    weight = np.bincount(corners.ravel(), share.ravel(), count)
    total = [np.bincount(corners.ravel(), (share * difference[:, k, None]).ravel(), count) for k in range(3)]
    a, b = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    edges = coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(count, count)).tocsr()
    # A vertex that photos show holds its value a hundred times as fast as a neighbour pulls; 1e-3 keeps pieces that
    # nobody saw as they are.
    held = 100 * weight / weight.mean()
    system = diags(np.asarray(edges.sum(1)).ravel() + held + 1e-3) - edges
    offset = np.stack([cg(system, 100 / weight.mean() * t, rtol=1e-4, maxiter=500)[0] for t in total], axis=1)
    colors[hidden] += np.einsum("nk,nkc->nc", texels.share[hidden], offset[faces[texels.face[hidden]]])


def _colors_at(texels: Texels, which: Int[np.ndarray, "M"], color: Colors) -> Float[np.ndarray, "M 3"]:
    points, normals = (torch.from_numpy(x[which]).split(BATCH) for x in (texels.points, texels.normals))
    return np.concatenate([color(x, n).cpu().numpy() for x, n in zip(points, normals)])
