"""What is drawn over the picture: lines (frustums, boxes, the camera's path) and photos on their frustums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from neural3d.viewer.solids import Solid
from PIL import Image
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.images.colour import eight_bit, srgb
from neural3d.images.formats import open_photo
from neural3d.scene import Scene, View
from neural3d.scene.undistort import is_panorama

BLUE, ORANGE, RED = (46, 116, 214), (232, 142, 36), (222, 50, 70)
GREEN, GREY, VIOLET = (30, 150, 90), (128, 132, 140), (146, 84, 200)
HIDDEN = 0.12  # how much of a line shows through what is before it
THUMBNAIL = 160  # pixels of a photo's longer side on its frustum
NEAR = 0.02  # lines end where they come nearer to the eye


@dataclass(frozen=True)
class Lines:
    """Segments in the subject's frame and their colours."""

    ends: Float[np.ndarray, "N 2 3"]
    colors: UInt8[np.ndarray, "N 3"]

    @classmethod
    def of(cls, ends: np.ndarray, color: tuple[int, int, int]) -> Lines:
        return cls(ends.astype(np.float64), np.tile(np.array(color, np.uint8), (len(ends), 1)))

    def __add__(self, other: Lines) -> Lines:
        return Lines(np.concatenate([self.ends, other.ends]), np.concatenate([self.colors, other.colors]))


NO_LINES = Lines(np.zeros((0, 2, 3)), np.zeros((0, 3), np.uint8))


def box_lines(box: Float[Tensor, "2 3"], color: tuple[int, int, int], pose: Tensor | None = None) -> Lines:
    """The twelve edges of a box; `pose` moves them."""
    corners = torch.cartesian_prod(*box.double().T)
    if pose is not None:
        corners = corners @ pose[:3, :3].T + pose[:3, 3]
    pairs = [(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit]
    return Lines.of(corners.numpy()[np.array(pairs)], color)


def frustum_corners(camera: Camera, size: float) -> Float[np.ndarray, "5 3"]:
    """The centre, then the picture's corners (top left, clockwise) at depth `size`."""
    w, h = float(camera.width), float(camera.height)
    origins, directions = camera.rays(torch.tensor([[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]]))
    z = (directions.double() @ camera.forward)[:, None].clamp(min=0.2)  # fisheyes look sideways too
    return torch.cat([camera.centre[None], origins + directions * size / z]).numpy()


def frustum_lines(camera: Camera, size: float, color: tuple[int, int, int]) -> Lines:
    """Four edges, the picture's frame, and a tick that says which side is up."""
    eye, *corners = frustum_corners(camera, size)
    a, b, _, d = corners
    roof = (a + b) / 2 + 0.25 * (a - d)
    ends = [(eye, c) for c in corners] + [(corners[k], corners[(k + 1) % 4]) for k in range(4)]
    return Lines.of(np.array([*ends, (a, roof), (roof, b)]), color)


def frustum_size(scene: Scene) -> float:
    """So that neighbours hardly touch: 0.4 of the median distance to the nearest other camera."""
    centres = torch.stack([view.camera.centre for view in scene.views])
    if len(centres) < 2:
        return 0.2
    between = torch.cdist(centres, centres).fill_diagonal_(torch.inf).amin(1).median()
    return float(between.mul(0.4).clamp(0.03, 0.25))


def scene_lines(scene: Scene, size: float, chosen: int | None) -> Lines:
    """All frustums: training views blue, held-out ones orange, the chosen one red."""
    held_out = {i for name, views in scene.split.items() if name != "train" for i in views}
    lines = NO_LINES
    for i, view in enumerate(scene.views):
        lines += frustum_lines(view.camera, size, RED if i == chosen else ORANGE if i in held_out else BLUE)
    return lines


def path_lines(cameras: list[Camera], size: float) -> Lines:
    """Key frames and the straight way between them."""
    centres = np.array([c.centre.numpy() for c in cameras])
    lines = Lines.of(np.stack([centres[:-1], centres[1:]], 1), VIOLET) if len(cameras) > 1 else NO_LINES
    for camera in cameras:
        lines += frustum_lines(camera, size, VIOLET)
    return lines


def thumbnail(view: View) -> UInt8[np.ndarray, "h w 3"]:
    """The stored photo, small, on white where it is transparent; grey where it is gone."""
    try:
        if view.lens is not None and is_panorama(view.lens):  # of which it is a part
            return view.resized(THUMBNAIL, THUMBNAIL).image()[..., :3]
        with open_photo(view.image_path) as file:
            file.draft("RGB", (THUMBNAIL, THUMBNAIL))
            photo = srgb(eight_bit(file))
            photo.thumbnail((THUMBNAIL, THUMBNAIL))
            on_white = Image.new("RGBA", photo.size, "white")
            return np.asarray(Image.alpha_composite(on_white, photo.convert("RGBA")).convert("RGB"))
    except (OSError, UserError):
        return np.full((1, 1, 3), 128, np.uint8)


def photo_planes(views: list[View], pictures: list[UInt8[np.ndarray, "h w 3"]], size: float) -> Solid:
    """The photos as rectangles at the ends of their frustums."""
    count = len(views)
    vertices = np.concatenate([frustum_corners(view.camera, size)[1:] for view in views])
    quad = np.array([[0, 1, 2], [0, 2, 3]])
    return Solid(
        vertices,
        (quad[None] + 4 * np.arange(count)[:, None, None]).reshape(-1, 3),
        np.zeros((4 * count, 3), np.float32),
        np.ones((4 * count, 3), np.float32),
        np.tile(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), (count, 1)),
        np.repeat(np.arange(count), 2),
        pictures,
        np.zeros(2 * count, np.float32),
    )


def _on_screen(
    xy: Float[np.ndarray, "N 2 2"], inverse: Float[np.ndarray, "N 2"], width: int, height: int
) -> tuple[Float[np.ndarray, "n 2 2"], Float[np.ndarray, "n 2"], np.ndarray]:
    """Pixels and inverse depths of the parts of segments that lie in the picture, and which segments have one."""
    start, way = xy[:, 0], xy[:, 1] - xy[:, 0]
    safe = np.where(np.abs(way) < 1e-9, 1e-9, way)
    first, second = (-1 - start) / safe, (np.array([width, height]) + 1 - start) / safe
    enter = np.minimum(first, second).max(1).clip(0, 1)
    leave = np.maximum(first, second).min(1).clip(0, 1)
    inside = enter < leave
    share = np.stack([enter, leave], 1)[inside]
    xy = start[inside, None] + share[..., None] * way[inside, None]
    return xy, inverse[inside, :1] + share * (inverse[inside, 1:] - inverse[inside, :1]), inside


def draw_lines(
    picture: UInt8[np.ndarray, "H W 3"],
    depth: Float[np.ndarray, "h w"],
    camera: Camera,
    lines: Lines,
    near: float = NEAR,
) -> None:
    """Smooth one-pixel lines, in place; faint behind what is there. depth: 0 is nothing; may be coarser."""
    height, width = picture.shape[:2]
    pose = camera.world_from_camera.numpy()
    ends = (lines.ends - pose[:3, 3]) @ pose[:3, :3]
    z = ends[..., 2]
    kept = z.max(1, initial=0) > near
    ends, colors = ends[kept], lines.colors[kept]
    if not len(ends):
        return
    for a, b in ((0, 1), (1, 0)):  # the part behind the eye is cut off
        share = np.clip(
            (near - ends[:, a, 2]) / np.where(ends[:, b, 2] == ends[:, a, 2], 1, ends[:, b, 2] - ends[:, a, 2]), 0, 1
        )
        ends[:, a] += np.where(ends[:, a, 2] < near, share, 0)[:, None] * (ends[:, b] - ends[:, a])
    fx, fy, cx, cy = camera.params.tolist()
    xy = ends[..., :2] / ends[..., 2:] * [fx, fy] + [cx, cy]
    xy, inverse, inside = _on_screen(xy, 1 / ends[..., 2], width, height)
    colors = colors[inside]
    steps = np.abs(xy[:, 1] - xy[:, 0]).max(1).astype(int) + 2
    which = np.repeat(np.arange(len(steps)), steps)
    place = (np.arange(len(which)) - np.repeat(np.cumsum(steps) - steps, steps)) / (steps[which] - 1)
    points = xy[which, 0] + place[:, None] * (xy[which, 1] - xy[which, 0])
    far = 1 / (inverse[which, 0] + place * (inverse[which, 1] - inverse[which, 0]))
    flat = np.abs(xy[:, 1] - xy[:, 0]).argmax(1)[which] == 0  # nearly level: two pixels above one another share it
    x, y = points.T - 0.5
    for second in (0, 1):
        px = np.where(flat, np.round(x), np.floor(x) + second).astype(int)
        py = np.where(flat, np.floor(y) + second, np.round(y)).astype(int)
        across = np.where(flat, y - np.floor(y), x - np.floor(x))
        share = across if second else 1 - across
        on = (px >= 0) & (px < width) & (py >= 0) & (py < height)
        px, py, share, zs, rgb = px[on], py[on], share[on], far[on], colors[which[on]]
        before = depth[py * depth.shape[0] // height, px * depth.shape[1] // width]
        share = np.where((before > 0) & (zs > 1.02 * before), HIDDEN, 1) * np.minimum(1, 1.4 * share)
        picture[py, px] = (picture[py, px] * (1 - share[:, None]) + rgb * share[:, None]).astype(np.uint8)
