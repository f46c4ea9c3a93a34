"""Pictures of meshes and point clouds by casting rays and z-buffering: no graphics card, depth and normals included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.rays import box_span
from neural3d.render import RenderOut

if TYPE_CHECKING:
    from trimesh import Trimesh

CLAY = (0.74, 0.73, 0.71)  # surfaces without a colour
POINT_COLOR = (0.25, 0.42, 0.63)
FEW_RAYS = 1 << 17
POINT_SIZE = 0.004  # radius of a point in units of the subject's frame


@dataclass(frozen=True)
class Clip:
    """What lies outside `box`, in the capture's frame, is left out of a picture."""

    capture_from_subject: Float[Tensor, "4 4"]
    box: Float[Tensor, "2 3"]

    def inside(self, points: Float[Tensor, "... 3"]) -> Bool[Tensor, "..."]:
        """Which points of the subject's frame stay."""
        low, high = self._sides(points)
        moved = self._moved(points, 1)
        return ((moved >= low) & (moved <= high)).all(-1)

    def span(self, origins: Tensor, directions: Tensor) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
        """Distances, in the subject's units, at which rays enter and leave."""
        return box_span(self._moved(origins, 1), self._moved(directions, 0), self._sides(origins))

    def _moved(self, x: Tensor, offset: int) -> Tensor:
        matrix = self.capture_from_subject.double()
        return x @ matrix[:3, :3].T.to(x) + offset * (matrix[:3, 3] - self._middle()).to(x)

    def _middle(self) -> Float[Tensor, "3"]:
        """Of the box, which places are told about: the capture may lie far from its origin."""
        return self.box.double().mean(0)

    def _sides(self, x: Tensor) -> Float[Tensor, "2 3"]:
        return (self.box.double() - self._middle()).to(x)


class Solid:
    """Textured or coloured triangles, ready for rays.

    vertices, faces, normals (per vertex, unit). color: per vertex, sRGB in [0, 1]. uv: per vertex, from the top left of
    the face's texture; textures: pictures; texture: per face, which of them, -1: none. lit: how much of the colour
    depends on the angle to the eye, 0: none, as is right for photographed colours.
    """

    def __init__(
        self,
        vertices: Float[np.ndarray, "V 3"],
        faces: Int[np.ndarray, "F 3"],
        normals: Float[np.ndarray, "V 3"],
        color: Float[np.ndarray, "V 3"],
        uv: Float[np.ndarray, "V 2"],
        texture: Int[np.ndarray, "F"],
        textures: list[UInt8[np.ndarray, "h w 3"]],
        lit: Float[np.ndarray, "F"],
    ):
        self.vertices, self.faces, self.normals = vertices, faces, normals
        self.color, self.uv, self.texture, self.lit = color, uv, texture, lit
        import open3d as o3d

        self.scene = o3d.t.geometry.RaycastingScene()
        self.scene.add_triangles(
            tensor(np.ascontiguousarray(vertices, np.float32)), tensor(np.ascontiguousarray(faces, np.uint32))
        )
        sizes = np.array([t.shape[:2] for t in textures] or np.zeros((0, 2)), np.int64)
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        self.starts = np.concatenate([[0], np.cumsum(self.heights * self.widths)]).astype(np.int64)
        self.texels = np.concatenate([t.reshape(-1, 3) for t in textures]) if textures else np.zeros((0, 3), np.uint8)

    @classmethod
    def of_meshes(cls, meshes: list[Trimesh]) -> Solid:
        parts = [_Part(mesh) for mesh in meshes]
        textures = [part.picture for part in parts if part.picture is not None]
        numbers = np.cumsum([part.picture is not None for part in parts]) - 1
        offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
        join = np.concatenate
        return cls(
            join([p.vertices for p in parts]),
            join([p.faces + offset for p, offset in zip(parts, offsets)]),
            join([p.normals for p in parts]),
            join([p.color for p in parts]),
            join([p.uv for p in parts]),
            join([np.full(len(p.faces), -1 if p.picture is None else k) for p, k in zip(parts, numbers)]),
            textures,
            join([np.full(len(p.faces), p.lit, np.float32) for p in parts]),
        )

    def render(
        self, camera: Camera, background: Float[Tensor, "3"], clip: Clip | None = None, near: float = 0.0
    ) -> RenderOut:
        """What the camera sees of the part inside `clip`: sRGB over the background, z-depth, normals to the eye.

        near: what is closer to the eye is not seen.
        """
        origins, directions = (x.reshape(-1, 3) for x in camera.rays())
        enter, leave = torch.full((len(origins),), near), torch.full((len(origins),), torch.inf)
        if clip is not None:
            enter, leave = clip.span(origins, directions)
        rays = torch.cat([origins + enter[:, None] * directions, directions], 1).contiguous().numpy()
        # Few rays stay on one thread: the others' idle loops would take the processor from the window.
        hits = self.scene.cast_rays(tensor(rays), nthreads=1 if len(rays) < FEW_RAYS else 0)
        distance = enter.numpy() + hits["t_hit"].numpy()
        hit = np.flatnonzero(np.isfinite(distance) & (distance <= leave.numpy()))
        face = hits["primitive_ids"].numpy()[hit].astype(np.int64)
        v, w = hits["primitive_uvs"].numpy()[hit].T
        weights = np.stack([1 - v - w, v, w], 1).astype(np.float32)
        corners = self.faces[face]

        view = directions.numpy()[hit]
        normal = _blend(self.normals, corners, weights)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
        facing = -(normal * view).sum(1, keepdims=True)
        normal = np.where(facing < 0, -normal, normal)
        color = self.paint(face, weights)
        lit = self.lit[face][:, None]
        sky = 0.5 + 0.5 * normal[:, 2:]  # a little more light from above
        color = color * (1 - lit + lit * (0.75 * np.abs(facing) + 0.25 * sky))

        count = len(origins)
        cosine = (directions @ camera.forward.float()).numpy()
        rgb = np.tile(background.float().numpy(), (count, 1))
        rgb[hit] = color
        alpha, depth, normals = np.zeros((count, 1), np.float32), np.zeros((count, 1), np.float32), np.zeros_like(rgb)
        alpha[hit], depth[hit, 0], normals[hit] = 1, (distance * cosine)[hit], normal
        size = (camera.height, camera.width, -1)
        return RenderOut(*(torch.from_numpy(x).reshape(size) for x in (rgb, alpha, depth, normals)))

    def paint(self, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n corner"]) -> Float[np.ndarray, "n 3"]:
        """sRGB at places on faces, of vertices and texture, without light."""
        corners = self.faces[face]
        color = _blend(self.color, corners, weights)
        painted = np.flatnonzero(self.texture[face] >= 0)
        if len(painted):
            uv = _blend(self.uv, corners[painted], weights[painted])
            color[painted] *= self._sample(self.texture[face[painted]], uv)
        return color

    def picture(self, texture: int) -> UInt8[np.ndarray, "h w 3"]:
        """One of the textures."""
        part = self.texels[self.starts[texture] : self.starts[texture + 1]]
        return part.reshape(self.heights[texture], self.widths[texture], 3)

    def _sample(self, which: Int[np.ndarray, "n"], uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
        """Bilinear, repeating at the borders as glTF and OBJ do."""
        width, height, start = self.widths[which], self.heights[which], self.starts[which]
        x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        fx, fy = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
        total = np.zeros((len(which), 3), np.float32)
        for dx, dy, share in (
            (0, 0, (1 - fx) * (1 - fy)),
            (1, 0, fx * (1 - fy)),
            (0, 1, (1 - fx) * fy),
            (1, 1, fx * fy),
        ):
            total += share * self.texels[start + (top + dy) % height * width + (left + dx) % width]
        return total / 255


def _blend(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Barycentric interpolation, float32."""
    total = weights[:, :1] * values[corners[:, 0]]
    total += weights[:, 1:2] * values[corners[:, 1]]
    total += weights[:, 2:] * values[corners[:, 2]]
    return total


def tensor(array: Any) -> Any:
    """Open3D's; its type stubs do not know that arrays will do."""
    import open3d as o3d

    make: Any = o3d.core.Tensor
    return make(array)


class _Part:
    """One trimesh as arrays; its look is the texture, else the vertex or face colours, else clay."""

    def __init__(self, mesh: Any):
        visual = mesh.visual
        self.picture: np.ndarray | None = None
        colors: np.ndarray | None = None
        factor = np.ones(3, np.float32)
        self.lit = 0.25
        if visual.kind == "texture":
            material = visual.material
            image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
            if image is not None and visual.uv is not None:
                self.picture = np.asarray(image.convert("RGB"))
            given = getattr(material, "baseColorFactor", None)
            given = getattr(material, "main_color", None) if given is None and self.picture is None else given
            if given is not None:
                factor = _unit(given)
        elif visual.kind == "vertex":
            colors = _unit(visual.vertex_colors)
        elif visual.kind == "face":  # three vertices for each face, so that colours have edges
            colors = np.repeat(_unit(visual.face_colors), 3, 0)
        else:
            factor, self.lit = np.array(CLAY, np.float32), 0.8
        split = visual.kind == "face"
        self.vertices = np.asarray(mesh.vertices, np.float32)
        self.faces = np.asarray(mesh.faces, np.int64)
        self.normals = np.asarray(mesh.vertex_normals, np.float32)
        if split:
            self.vertices, self.normals = (
                self.vertices[self.faces].reshape(-1, 3),
                self.normals[self.faces].reshape(-1, 3),
            )
            self.faces = np.arange(len(self.vertices)).reshape(-1, 3)
        self.color = np.tile(factor, (len(self.vertices), 1)) if colors is None else colors
        self.uv = np.zeros((len(self.vertices), 2), np.float32)
        if self.picture is not None:
            self.uv = np.stack([visual.uv[:, 0], 1 - visual.uv[:, 1]], 1).astype(np.float32)


def _unit(color: Any) -> np.ndarray:
    """RGB in [0, 1] of bytes or floats."""
    color = np.asarray(color)
    return (color[..., :3] / 255 if color.dtype.kind in "ui" else color[..., :3]).astype(np.float32)


class Cloud:
    """Points as small opaque discs."""

    def __init__(self, points: Float[np.ndarray, "N 3"], colors: UInt8[np.ndarray, "N 3"] | None):
        self.points = torch.from_numpy(np.ascontiguousarray(points, np.float32))
        plain = np.tile(np.array(POINT_COLOR, np.float32), (len(points), 1))
        self.colors = torch.from_numpy(plain if colors is None else colors.astype(np.float32) / 255)

    def render(self, camera: Camera, background: Float[Tensor, "3"], clip: Clip | None = None) -> RenderOut:
        """What the camera sees of the points inside `clip`; they face it."""
        points, colors = self.points, self.colors
        if clip is not None:
            inside = clip.inside(points)
            points, colors = points[inside], colors[inside]
        xy, z = camera.project(points)
        width, height = camera.width, camera.height
        radius = (POINT_SIZE * float(camera.params[0]) / z.clamp(min=1e-6)).clamp(0.5, 4)
        seen = (z > 1e-3) & ((xy > -4) & (xy < torch.tensor([width + 4, height + 4]))).all(1)
        chosen = seen.nonzero()[:, 0]
        xy, z, radius = xy[seen], z[seen], radius[seen]
        # The nearest wins: positive floats order like their bits; below them, which point it is.
        key = (z.float().view(torch.int32).long() << 32) | chosen
        nearest = torch.full((width * height,), torch.iinfo(torch.int64).max)
        reach = int(radius.max().ceil()) if len(radius) else 0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                x, y = (xy[:, 0].floor() + dx).long(), (xy[:, 1].floor() + dy).long()
                on = (dx * dx + dy * dy <= radius**2) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
                nearest.scatter_reduce_(0, (y * width + x)[on], key[on], "amin")
        hit = nearest < torch.iinfo(torch.int64).max
        rgb = background.float().expand(width * height, 3).clone()
        rgb[hit] = colors[nearest[hit] & 0xFFFFFFFF]
        depth, normal = torch.zeros(width * height, 1), torch.zeros(width * height, 3)
        depth[hit] = (nearest[hit] >> 32).int().view(torch.float32)[:, None]
        normal[hit] = -camera.forward.float()
        size = (height, width, -1)
        return RenderOut(*(x.reshape(size) for x in (rgb, hit[:, None].float(), depth, normal)))
