"""Depth pictures of many views, fused into one surface (Curless & Levoy, "A volumetric method for building complex
models from range images", SIGGRAPH 1996), for what renders well and has no surface of its own, such as splats.

A pixel with a depth and a normal n is a piece of a plane. Of a point x in front of it, or behind by less than τ, it
says that x lies s = nᵀ(x − plane) outside; what is further behind is hidden from it. The signed distance at x is the
mean of what the views say, each with the weight (cos θ / footprint)²: depths err by multiples of a pixel's width there,
and more on what is seen aslant. Pixels that see nothing (alpha under a half) and those that see something more than τ
behind x carve: they say τ, with a small weight, for at silhouettes they are wrong by a pixel. It is a function of x,
asked for only where the extraction of the mesh looks; there is no volume in memory.

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
ASLANT = 0.1  # cos θ under which a pixel is not to be trusted
CARVING = 0.2  # cos θ as if of pixels that carve
FARTHEST = 4.0  # of a place: |x|∞ in the scene's frame, where the subject is within 1
NOTHING = "The views see no surface inside the box; choose another --crop, or train longer."


@dataclass
class _Look:
    """One view. planes: per pixel n and nᵀ(plane − eye), −∞ where nothing is seen, and the depth, ∞ there. Not numbers
    are the first where the surface is seen too slanted, all where it is not to be trusted. footprint: a pixel's width
    at the distance 1.
    """

    camera: Camera
    planes: Float[Tensor, "H W 5"]
    rgb: UInt8[Tensor, "H W 3"]
    footprint: float


@dataclass
class _Said:
    """What a view says of points: how far they lie outside along the normal, and before the surface along the ray; not
    a number where it is not to be trusted. cosine: of θ; width: of a pixel there. inside: of the picture; elsewhere the
    rest means nothing.
    """

    outside: Float[Tensor, "N"]
    before: Float[Tensor, "N"]
    cosine: Float[Tensor, "N"]
    width: Float[Tensor, "N"]
    inside: Bool[Tensor, "N"]


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
        self._looks = []
        for camera in cameras:
            out = render(camera, torch.zeros(3))
            seen = out.alpha > 0.5
            rgb = torch.where(seen, out.rgb / out.alpha.clamp_min(0.5), 0)
            self.device = rgb.device
            direction = camera.rays()[1].to(self.device)
            along = direction / (direction @ camera.forward.to(direction))[..., None]
            slope = (out.normal * along).sum(-1, keepdim=True)
            slanted = slope > -ASLANT * along.norm(dim=-1, keepdim=True)
            planes = torch.where(slanted, math.nan, torch.cat([out.normal, out.depth * slope], -1))
            planes = torch.cat([planes, out.depth], -1)
            nothing = planes.new_tensor([0, 0, 0, -math.inf, math.inf])
            planes = torch.where(seen, planes, nothing)
            footprint = float((along[0, 1] - along[0, 0]).norm())
            self._looks.append(_Look(camera, planes, (255 * rgb.clamp(0, 1)).round().byte(), footprint))
            progress("drawing depth", len(self._looks), len(cameras))

    def confirm(self) -> None:
        """Silences pixels whose points fewer than CONFIRM of the NEIGHBOURS nearest views see where they are, up to τ.

        What is seen in one view alone is haze, a wall from its back, or the smear between an edge and what is behind.
        """
        centres = torch.stack([look.camera.centre for look in self._looks])
        checked = []
        for look in self._looks:
            x = self._points(look)
            nearest = (centres - look.camera.centre).norm(dim=1).argsort()[1 : NEIGHBOURS + 1]
            agreeing, tolerance = torch.zeros(len(x), device=self.device), self.reach(x)
            for other in (self._looks[i] for i in nearest.tolist()):
                said = self._said(other, x)
                agreeing += said.inside & (said.outside.abs() < tolerance) & (said.before.abs() < 4 * tolerance)
            lonely = (agreeing < min(CONFIRM, len(nearest))).view(*look.planes.shape[:2], 1)
            checked.append(torch.where(lonely & look.planes[..., 4:].isfinite(), math.nan, look.planes))
        for look, planes in zip(self._looks, checked):
            look.planes = planes

    def reach(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """τ at points."""
        grown = x.abs().amax(1).clamp(min=1) ** 2 if self.contracted else torch.ones(len(x), device=x.device)
        return self.truncation * grown

    def distance(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """A quarter of the mean, in [-τ / 4, τ / 4], where some view says less than τ; ± 1000 τ elsewhere.

        So `geometry.mesh.extract` takes all the former for near and refines there, and none of the latter.
        What no view faces is outside; what some face and none sees is inside, so that the surface is closed.
        """
        total, weights, near, told, faced = torch.zeros(5, len(x), device=x.device)
        reach = self.reach(x)
        for look in self._looks:
            said = self._said(look, x)
            aslant = said.outside.isnan() & (said.before > 4 * reach)  # at least it is clear up to there
            carves = said.inside & ((said.outside >= reach) | aslant)
            speaks = said.inside & (said.before > -reach) & (said.outside > -reach) | carves
            weight = torch.where(speaks, (torch.where(carves, CARVING, said.cosine) / said.width) ** 2, 0)
            total += torch.where(speaks, weight * torch.where(carves, reach, said.outside), 0)
            weights += weight
            near += speaks & ~carves
            told += speaks
            faced += said.inside
        far = 1e3 * reach * torch.where((told == 0) & (faced > 0), -1.0, 1.0)
        return torch.where(near > 0, 0.25 * total / weights.clamp_min(1e-30), far)

    def color(self, x: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB of surface points: the mean of views that see them, weighted by the squared cosine of their slant.

        Points that none sees get what lies before them. On any device.
        """
        x, normal = x.to(self.device), normal.to(self.device)
        total, weights = torch.zeros(len(x), 3, device=x.device), torch.zeros(len(x), 1, device=x.device)
        reach = self.reach(x)
        for look in self._looks:
            said = self._said(look, x)
            toward = torch.nn.functional.normalize(look.camera.centre.to(x) - x, dim=1)
            slant = (toward * normal).sum(1).clamp_min(0) ** 2
            weight = torch.where(said.before.abs() < reach, slant, 0) + 1e-6
            weight = torch.where(said.inside & said.before.isfinite(), weight, 0)[:, None]
            total += weight * self._pixels(look, look.rgb, x)[0].float() / 255
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
        points = torch.cat([self._points(look)[::16] for look in self._looks]).cpu()
        points = contract(points[points.abs().amax(1) < FARTHEST])  # not what is not a number
        if not len(points):
            raise UserError(NOTHING)
        ordered, rare = points.sort(0).values, len(points) // 1000
        return torch.stack([ordered[rare] - 0.05, ordered[-1 - rare] + 0.05])

    def _points(self, look: _Look) -> Float[Tensor, "P 3"]:
        """Where the rays of a view's pixels meet the surface; not finite where they meet none."""
        origin, direction = (x.reshape(-1, 3).to(self.device) for x in look.camera.rays())
        depth = look.planes[..., 4].flatten()
        return origin + (depth / (direction @ look.camera.forward.to(direction)))[:, None] * direction

    def _said(self, look: _Look, x: Float[Tensor, "N 3"]) -> _Said:
        planes, z, inside = self._pixels(look, look.planes, x)
        ray = x - look.camera.centre.to(x)
        distance = ray.norm(dim=1)
        along = (planes[:, :3] * ray).sum(1)
        before = (planes[:, 4] - z) * distance / z
        return _Said(along - planes[:, 3], before, -along / distance, distance * look.footprint, inside)

    @staticmethod
    def _pixels(look: _Look, image: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the picture's values at points, their depths, are they in the picture?)"""
        xy, z = look.camera.project(x)
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


def truncation(box: Float[Tensor, "2 3"], resolution: int, flat: bool = False) -> float:
    """τ that suits splats: 3 % of the box's longest side, of flat ones 2 %, where the errors of their depths are; at
    least three cells.
    """
    return float((box[1] - box[0]).max()) * max(0.02 if flat else 0.03, 3 / resolution)


def fewer_and_smaller(cameras: list[Camera]) -> list[Camera]:
    """Evenly chosen and shrunk, so that their pictures take some 250 MB at most."""
    chosen = cameras[:: math.ceil(len(cameras) / MOST_VIEWS)]
    shrink = [max(1.0, max(c.width, c.height) / LONGEST) for c in chosen]
    return [c.resized(round(c.width / s), round(c.height / s)) for c, s in zip(chosen, shrink)]
