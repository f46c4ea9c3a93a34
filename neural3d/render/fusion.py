"""Depth pictures of many views, fused into one surface (Curless & Levoy, "A volumetric method for building complex
models from range images", SIGGRAPH 1996), for what renders well and has no surface of its own, such as splats.

A view whose picture has depth D where x is seen says that x lies d = D − z before its surface, z being x's own depth:
truncated to at most τ, and no word where d < −τ, for what is that far behind is hidden. The signed distance at x is the
mean of what the views say. It is a function of x, asked for only where the extraction of the mesh looks; there is no
volume in memory. Pixels that see nothing (alpha under a half) say τ: they carve.

Views count alike and along their rays: weights by slant and by the width of a pixel, and distances to the planes that
pixels show instead of along the ray, were worse on splats, plain and flat (benchmarks/results/surface_cpu).
Of a place τ grows with the distance, as the cells of a contracted grid do: see `contracted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields.encodings import contract, expand
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import BATCH, Colors, Field, Mesh, remove_floaters
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut

MOST_VIEWS, LONGEST = 120, 640  # pictures that are fused, and their longer side in pixels
NEIGHBOURS, CONFIRM = 8, 3  # views that check another one's depth, and how many must agree
FARTHEST = 4.0  # of a place: |x|∞ in the scene's frame, where the subject is within 1
NOTHING = "The views see no surface inside the box; choose another --crop, or train longer."


@dataclass
class _DepthView:
    """One view. depth: Inf where nothing is seen, not a number where what is seen is not to be trusted."""

    camera: Camera
    depth: Float[Tensor, "H W"]
    rgb: UInt8[Tensor, "H W 3"]


class Fused:
    """The surface in the pictures of some views, as a signed distance, negative inside, and its colours.

    truncation: τ, in the unit of the cameras' frame: more than the error of the depths, less than what is thin.
    contracted: outside the cube [-1, 1]³ τ grows with the square of the distance, as depth's errors and the cells do of
    a grid in contracted space.
    All positions are in the cameras' frame; the work is done where `render`'s pictures are.
    """

    def __init__(
        self,
        render: Callable[[Camera, Tensor], RenderOut],
        cameras: Sequence[Camera],
        truncation: float,
        progress: Progress = silent,
        *,
        contracted: bool = False,
    ):
        self.truncation, self.contracted = truncation, contracted
        self._views = []
        for camera in cameras:
            out = render(camera, torch.zeros(3))
            seen = out.alpha > 0.5
            rgb = torch.where(seen, out.rgb / out.alpha.clamp_min(0.5), 0)
            depth = torch.where(seen, out.depth, math.inf)[..., 0]
            self.device = depth.device
            self._views.append(_DepthView(camera, depth, (255 * rgb.clamp(0, 1)).round().byte()))
            progress("drawing depth", len(self._views), len(cameras))

    def confirm(self) -> None:
        """Silences pixels whose points fewer than CONFIRM of the NEIGHBOURS nearest views see as deep, up to τ.

        What is seen in one view alone is haze, a wall from its back, or the smear between an edge and what is behind.
        """
        centres = torch.stack([view.camera.centre for view in self._views])
        checked = []
        for view in self._views:
            x = self._points(view)
            nearest = (centres - view.camera.centre).norm(dim=1).argsort()[1 : NEIGHBOURS + 1]
            agreeing, tolerance = torch.zeros(len(x), device=self.device), self.reach(x)
            for other in (self._views[i] for i in nearest.tolist()):
                d, inside = self._before(other, x)
                agreeing += inside & (d.abs() < tolerance)
            lonely = (agreeing < min(CONFIRM, len(nearest))).view(view.depth.shape)
            checked.append(torch.where(lonely & view.depth.isfinite(), math.nan, view.depth))
        for view, depth in zip(self._views, checked):
            view.depth = depth

    def reach(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """τ at points."""
        if not self.contracted:
            return torch.full((len(x),), self.truncation, device=x.device)
        return self.truncation * x.abs().amax(1).clamp(min=1) ** 2

    def distance(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """A quarter of the mean, in [-τ / 4, τ / 4], where some view says less than τ; ± 1000 τ elsewhere.

        So `geometry.mesh.extract` takes all the former for near and refines there, and none of the latter.
        What no view faces is outside; what some face and none sees is inside, so that the surface is closed.
        """
        total, count, near, faced = torch.zeros(4, len(x), device=x.device)
        reach = self.reach(x)
        for view in self._views:
            d, inside = self._before(view, x)
            told = inside & (d > -reach)
            total += torch.where(told, torch.minimum(d, reach), 0)
            count += told
            near += told & (d < reach)
            faced += inside
        far = 1e3 * reach * torch.where((count == 0) & (faced > 0), -1.0, 1.0)
        return torch.where(near > 0, 0.25 * total / count.clamp_min(1), far)

    def color(self, x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB of surface points: the mean of views that see them, weighted by the squared cosine of their slant.

        Points that none sees get what lies before them. On any device.
        """
        x, normal = x.to(self.device), normal.to(self.device)
        total, weights = torch.zeros(len(x), 3, device=x.device), torch.zeros(len(x), 1, device=x.device)
        reach = self.reach(x)
        for view in self._views:
            d, inside = self._before(view, x)
            toward = torch.nn.functional.normalize(view.camera.centre.to(x) - x, dim=1)
            slant = (toward * normal).sum(1).clamp_min(0) ** 2
            weight = torch.where(d.abs() < reach, slant, 0) + 1e-6
            weight = torch.where(inside & d.isfinite(), weight, 0)[:, None]
            total += weight * self._pixels(view, view.rgb, x)[0].float() / 255
            weights += weight
        return torch.where(weights > 0, total / weights.clamp_min(1e-12), 0.5)

    def contracted_distance(self, y: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """`distance` at points of contracted space, in its own unit across the shells of equal distance."""
        x = expand(y)
        return self.distance(x) * self.truncation / self.reach(x)

    def seen(self, mesh: Mesh) -> Mesh:
        """The faces on the surface that views see, without those that close it where none looked."""
        x = torch.from_numpy(mesh.vertices).to(self.device)
        near = torch.cat([self.distance(part).abs() < self.reach(part) / 16 for part in x.split(BATCH)])
        return mesh.kept(near.cpu().numpy()[mesh.faces].all(1))

    def extent(self) -> Float[Tensor, "2 3"]:
        """The box in contracted space around what is seen, to be trusted and not further away than FARTHEST."""
        points = torch.cat([self._points(view)[::16] for view in self._views]).cpu()
        points = contract(points[points.abs().amax(1) < FARTHEST])  # not what is not a number
        if not len(points):
            raise UserError(NOTHING)
        ordered, rare = points.sort(0).values, len(points) // 1000
        return torch.stack([ordered[rare] - 0.05, ordered[-1 - rare] + 0.05])

    def _points(self, view: _DepthView) -> Float[Tensor, "P 3"]:
        """Where the rays of a view's pixels meet the surface; not finite where they meet none."""
        origin, direction = (x.reshape(-1, 3).to(self.device) for x in view.camera.rays())
        return origin + (view.depth.flatten() / (direction @ view.camera.forward.to(direction)))[:, None] * direction

    def _before(self, view: _DepthView, x: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
        """(d, is x in the picture?)"""
        depth, z, inside = self._pixels(view, view.depth, x)
        return depth - z, inside

    @staticmethod
    def _pixels(view: _DepthView, image: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the picture's values at points, their depths, are they in the picture?)"""
        xy, z = view.camera.project(x)
        column, row = xy.nan_to_num(-1).clamp(-1, 1e6).floor().long().unbind(-1)
        height, width = image.shape[:2]
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return image[row.clamp(0, height - 1), column.clamp(0, width - 1)], z, inside


def fused_surface(fused: Fused, extract: Callable[[Field], Mesh], *, closed: bool) -> tuple[Mesh, Colors]:
    """(the surface without floating pieces, its colours). extract: makes a mesh of a signed distance.

    closed: keep what closes it where nobody looked; else it ends there.
    """
    mesh = extract(fused.contracted_distance if fused.contracted else fused.distance)
    if fused.contracted:
        mesh = replace(mesh, vertices=expand(torch.from_numpy(mesh.vertices)).numpy())
    if not closed:
        mesh = fused.seen(mesh)
    if not len(mesh.faces):
        raise UserError(NOTHING)
    return remove_floaters(mesh), fused.color


def truncation(box: Float[Tensor, "2 3"], resolution: int) -> float:
    """τ that suits splats: 4 % of the box's longest side, where the errors of their depths are; at least six cells."""
    return float((box[1] - box[0]).max()) * max(0.04, 6 / resolution)


def fewer_and_smaller(cameras: list[Camera]) -> list[Camera]:
    """Evenly chosen and shrunk, so that their pictures take some 250 MB at most."""
    chosen = cameras[:: math.ceil(len(cameras) / MOST_VIEWS)]
    shrink = [max(1.0, max(c.width, c.height) / LONGEST) for c in chosen]
    return [c.resized(round(c.width / s), round(c.height / s)) for c, s in zip(chosen, shrink)]
