"""A sheet of small pictures of meshes and point clouds, side by side, to compare shapes at a glance.

Meshes are drawn by casting rays, so that neither a display nor OpenGL is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.render.images import to_bytes
from neural3d.render.paths import UP, look_at

PAPER, INK = (252, 252, 250), (40, 43, 50)
CLAY = np.array([0.80, 0.78, 0.74])
LAMP = np.array([-0.35, -0.75, 0.56])  # where the light comes from: left, in front, above
FINE = 2  # rays per pixel and axis
FOCAL = 3.0  # in sides of the picture: nearly parallel

Item = Mesh | np.ndarray | None


def gallery(
    rows: Sequence[Sequence[Item]], titles: Sequence[str], labels: Sequence[Sequence[str]], *, side: int = 180
) -> UInt8[np.ndarray, "height width 3"]:
    """One row of pictures per row of items, all of a row seen by one camera; +z is up.

    Items: a mesh, a cloud of points (N, 3), a picture (H, W, 3) uint8, or None for an empty place. titles: above the
    columns. labels: below each picture.
    side: of a picture, in pixels.
    """
    margin, head, foot = 12, 30, 20
    sheet = Image.new("RGB", (2 * margin + len(titles) * side, head + margin + len(rows) * (side + foot)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        draw.text((margin + (column + 0.5) * side, 10), title, INK, font, anchor="ma")
    for i, (items, texts) in enumerate(zip(rows, labels)):
        solids = [item.vertices if isinstance(item, Mesh) else item for item in items if item is not None]
        camera = _camera([points for points in solids if points.ndim == 2], side)
        y = head + i * (side + foot)
        for column, (item, text) in enumerate(zip(items, texts)):
            x = margin + column * side
            if isinstance(item, Mesh):
                sheet.paste(Image.fromarray(mesh_picture(item, camera)), (x, y))
            elif item is not None and item.ndim == 3:
                sheet.paste(Image.fromarray(item).resize((side, side)), (x, y))
            elif item is not None:
                _draw_points(draw, item, camera, (x, y))
            draw.text((x + side / 2, y + side), text, INK, small, anchor="ma")
    return np.asarray(sheet)


def _camera(points: Sequence[np.ndarray], side: int) -> Camera:
    """From the front left, a little above, so that a ball around all the points fills the picture."""
    everything = np.concatenate(points)
    low, high = everything.min(0), everything.max(0)
    middle = torch.from_numpy((low + high) / 2).double()
    radius = 0.5 * float(np.linalg.norm(high - low))
    toward = torch.nn.functional.normalize(torch.tensor([-0.55, -1.0, 0.55], dtype=torch.float64), dim=0)
    distance = 2 * FOCAL * radius * 0.95
    params = torch.tensor([FOCAL * side, FOCAL * side, side / 2, side / 2], dtype=torch.float64)
    return Camera("PINHOLE", side, side, params, look_at(middle + distance * toward, middle, UP))


def mesh_picture(mesh: Mesh, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """Clay in daylight, on paper; both sides of faces are drawn."""
    width, height = FINE * camera.width, FINE * camera.height
    origins, directions = (a.reshape(-1, 3).numpy() for a in camera.resized(width, height).rays())
    solid = Solid(mesh)
    t, face = solid.first_hit(origins, directions)
    hit = face >= 0
    normals, rays = solid.normals[face[hit]], directions[hit]
    normals = np.where((normals * rays).sum(1, keepdims=True) > 0, -normals, normals)
    lamp = LAMP / np.linalg.norm(LAMP)
    start = origins[hit] + t[hit, None] * rays + 2e-3 * normals  # off the surface, so that it does not shade itself
    lit = ~solid.blocked(start, np.broadcast_to(lamp, start.shape), far=np.inf)
    light = 0.45 + 0.12 * normals[:, 2] + 0.45 * lit * np.clip(normals @ lamp, 0, 1)
    pixels = np.tile(np.array(PAPER) / 255, (len(hit), 1))
    pixels[hit] = np.clip(CLAY * light[:, None], 0, 1)
    return to_bytes(pixels.reshape(camera.height, FINE, camera.width, FINE, 3).mean((1, 3)))


def _draw_points(draw: ImageDraw.ImageDraw, points: np.ndarray, camera: Camera, corner: tuple[int, int]) -> None:
    """Dots, the farther the paler."""
    xy, z = (a.numpy() for a in camera.project(torch.from_numpy(points.astype(np.float64))))
    share = (z - z.min()) / max(float(np.ptp(z)), 1e-9)
    for k in np.argsort(-z):
        x, y = xy[k] + corner
        grey = int(40 + 150 * share[k])
        draw.ellipse((x - 1.6, y - 1.6, x + 1.6, y + 1.6), fill=(grey, grey, grey + 20))
