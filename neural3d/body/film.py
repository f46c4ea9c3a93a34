"""Films of bodies that move: daylight, a ground of tiles a metre wide, a shadow that shows whether feet touch it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from neural3d.body.rigged import normals_of
from neural3d.geometry.cameras import Camera
from neural3d.ops.mesh_raster import interpolate, mesh_raster
from neural3d.render import RenderOut
from neural3d.render.paths import look_at

UP = torch.tensor([0.0, 1.0, 0.0]).double()
LAMP = torch.nn.functional.normalize(torch.tensor([0.5, 1.0, 0.6]), dim=0)  # where the light comes from
CLAY = torch.tensor([0.62, 0.68, 0.76])  # as a mannequin, not as a person
TILES = torch.tensor([0.90, 0.82])
AMBIENT, SHADE = 0.45, 0.72
FIELD = math.radians(35)
MARGIN = 1.25  # of the picture's height beyond the tallest frame
CALM = 1.0  # seconds over which the camera's way is smoothed
FAR = 12.0  # metres at which the ground has faded to white
FINE = 2  # samples of a pixel along each axis


def film(
    vertices: Float[Tensor, "T V 3"], faces: Int[Tensor, "F 3"], rate: float, size: int = 512
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """A picture of each frame, +Y up, from a camera that goes along. The ground lies under the lowest vertex."""
    low, high = vertices[..., 1].min(), vertices[..., 1].amax(1)
    reach = (vertices.amax(1) - vertices.amin(1)).amax()
    middle = smoothed((vertices.amax(1) + vertices.amin(1)) / 2, rate)
    middle[:, 1] = (low + high.median()) / 2
    distance = MARGIN * reach / 2 / math.tan(FIELD / 2)
    away = distance * torch.nn.functional.normalize(torch.tensor([0.45, 0.25, 1.0]), dim=0)
    focal = FINE * size / 2 / math.tan(FIELD / 2)
    params = torch.tensor([focal, focal, FINE * size / 2, FINE * size / 2]).double()
    cameras = [
        Camera("PINHOLE", FINE * size, FINE * size, params, look_at((target + away).double(), target.double(), UP))
        for target in middle
    ]
    rays = directions(cameras[0])  # it never turns
    for frame, camera in zip(vertices, cameras, strict=True):
        yield picture(frame, faces, camera, rays, float(low))


def directions(camera: Camera) -> Float[Tensor, "N 3"]:
    """Of the rays of all pixels, row by row, in the world."""
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    return camera.rays(torch.stack([x, y], -1).reshape(-1, 2).double())[1].float()


def picture(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    direction: Float[Tensor, "N 3"],
    ground: float,
) -> UInt8[np.ndarray, "size size 3"]:
    """One frame on the ground at that height, drawn FINE times larger and shrunk. direction: of the camera's rays."""
    height, width = camera.height, camera.width
    body = draw(vertices, faces, camera, LAMP)
    origin = camera.centre.float()
    along = (ground - origin[1]) / direction[:, 1].clamp(max=-1e-6)
    place = origin + along[:, None] * direction
    tile = TILES[(place[:, [0, 2]].floor().sum(-1).long() % 2)]
    shadow = vertices - (vertices[:, 1:2] - ground) / LAMP[1] * LAMP
    dark = mesh_raster(in_pixels(camera, shadow)[None], faces.int(), width, height).face[0] >= 0
    tile = torch.where(dark.reshape(-1), SHADE * tile, tile)
    near = (1 - along / FAR).clamp(0, 1) * (direction[:, 1] < -1e-6)
    floor = (1 - near + near * tile).reshape(height, width, 1)

    shown = body.rgb + (1 - body.alpha) * floor
    small = torch.nn.functional.avg_pool2d(shown.permute(2, 0, 1)[None], FINE)[0].permute(1, 2, 0)
    return (255 * small.clamp(0, 1)).round().byte().numpy()


def draw(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera, lamp: Float[Tensor, "3"]
) -> RenderOut:
    """A body in daylight on black. lamp: unit vector to where the light comes from."""
    faces = faces.int()
    face, barycentrics, depth = mesh_raster(in_pixels(camera, vertices)[None], faces, camera.width, camera.height)
    normals = normals_of(vertices, faces.long())
    shown = (face[0] >= 0)[..., None]
    normal = torch.nn.functional.normalize(interpolate(normals, faces, face, barycentrics)[0], dim=-1)
    light = AMBIENT + (1 - AMBIENT) * (normal @ lamp).clamp(min=0)
    return RenderOut(shown * light[..., None] * CLAY, shown.float(), depth[0][..., None], shown * normal)


def in_pixels(camera: Camera, points: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    """x, y and depth of points of the world."""
    xy, z = camera.project(points.double())
    return torch.cat([xy, z[:, None]], 1).float()


def smoothed(way: Float[Tensor, "T 3"], rate: float) -> Float[Tensor, "T 3"]:
    """A mean over CALM seconds about each frame, ends repeated."""
    half = int(CALM * rate / 2)
    padded = torch.cat([way[:1].expand(half, -1), way, way[-1:].expand(half, -1)])
    return padded.unfold(0, 2 * half + 1, 1).mean(-1)
