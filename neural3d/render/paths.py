"""Where the camera goes in `neural3d render`: captured views, an orbit, a spiral, a walk, or a path drawn elsewhere.

All cameras are in the scene frame, whose +z is up. Orbits, spirals and walks are pinholes of the first training view's
size. Orbits and spirals stay at the distance and height that the photos have around the subject, and their field of
view is the one that its outline (`geometry.outline`) fills. Around a shape, which has no photos, pictures are square.

Notation: a camera stands in direction (azimuth, elevation) of the subject's middle, at a distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.bounds import every_nth, seen_by
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import outline_of
from neural3d.render.path_files import CameraPath, read_camera_path
from neural3d.render.spline import as_pinhole, frames_between
from neural3d.scene.scene import Scene
from neural3d.shapes.shape import Shape

KINDS = ("train", "val", "test", "orbit", "spiral", "walk")
FILL = 0.85  # of the picture's nearer sides, that the subject's outline takes where it is widest
WIDEST = 90.0  # degrees across the picture's longer side: wider ones look odd and show what no photo does
GAP = 90.0  # degrees of the horizon without a photo, from which on a capture is from one side
FORWARD = 2.0  # times as far ahead as to the sides, from which on photos are those of a walk
KEYS = 16  # captured cameras that a walk passes
SIDE, FOCAL = 512, 1.25  # pixels of a picture of a shape, and its focal length in sides
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def camera_path(scene: Scene | Shape, kind: str, count: int = 120) -> CameraPath:
    """The path called `kind`: one of KINDS, or a JSON file of nerfstudio's layout (see `read_camera_path`).

    count: pictures of an orbit, a spiral or a walk. Raises UserError where the kind is unknown, the split empty, the
    cameras do not suit the path, or the file is damaged.
    """
    if kind.endswith(".json"):
        return read_camera_path(Path(kind), scene.scene_from_capture)
    if isinstance(scene, Shape) and kind != "orbit":
        raise UserError(f"{scene.path} is a shape without photos; choose --path orbit, or a .json file.")
    if kind in ("train", "val", "test") and not isinstance(scene, Shape):
        views = [scene.views[i] for i in scene.split.get(kind, [])]
        if not views:
            raise UserError(f"{scene.path} has no {kind} views; choose another --path: {', '.join(KINDS)}.")
        return CameraPath([v.camera for v in views], [v.name for v in views], fps=2.0)
    if kind == "orbit":
        cameras = orbit(scene, count)
    elif kind == "spiral" and not isinstance(scene, Shape):
        cameras = spiral(scene, count)
    elif kind == "walk" and not isinstance(scene, Shape):
        cameras = walk(scene, count)
    else:
        raise UserError(f"Unknown path '{kind}'; choose one of {', '.join(KINDS)}, or a .json file.")
    return CameraPath(cameras, [f"{k:04d}" for k in range(len(cameras))])


def suited_path(scene: Scene | Shape) -> tuple[str, str]:
    """The kind of path that shows a subject from where it was photographed, and why, in a few words."""
    if isinstance(scene, Shape) or len(scene.cameras("train")) < 2:
        return "orbit", "nothing says from where it was photographed"
    cameras, middle = scene.cameras("train"), middle_of(scene)
    share = float(seen_by(cameras, middle[None])[0])
    if share < 0.5:
        return "walk", f"no one subject: {share:.0%} of the photos show the middle of what they are of"
    if goes_forward(cameras):
        return "walk", "photos on a way straight ahead"
    gap = horizon_gap(cameras, middle)
    if gap > GAP:
        return "spiral", f"photos from one side: {gap:.0f}° of the horizon have none"
    return "orbit", f"photos all around, with gaps of at most {gap:.0f}°"


def goes_forward(cameras: Sequence[Camera]) -> bool:
    """Whether cameras stand along the direction in which they look, as in a street: to the sides nothing is known."""
    ahead = torch.stack([c.world_from_camera[:3, 2] for c in cameras]).mean(0)
    ahead = torch.nn.functional.normalize(ahead, dim=0)
    offset = torch.stack([c.centre for c in cameras])
    offset = offset - offset.mean(0)
    along = offset @ ahead
    across = torch.linalg.svdvals(offset - along[:, None] * ahead)[0]
    return bool(along.norm() > FORWARD * across)


def horizon_gap(cameras: Sequence[Camera], middle: Float[Tensor, "3"]) -> float:
    """The widest angle, in degrees about the middle, in which no camera stands; those right above it do not count."""
    azimuth, elevation, _ = bearings(cameras, middle)
    azimuth = azimuth[elevation.abs() < math.radians(75)].sort().values
    if len(azimuth) < 2:
        return 360.0
    return math.degrees(torch.diff(azimuth, append=azimuth[:1] + 2 * math.pi).max())


def bearings(cameras: Sequence[Camera], middle: Float[Tensor, "3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Azimuth, elevation (radians) and distance of each camera, seen from the middle."""
    offset = torch.stack([c.centre for c in cameras]) - middle
    distance = offset.norm(dim=1)
    azimuth = torch.atan2(offset[:, 1], offset[:, 0])
    return azimuth, torch.asin((offset[:, 2] / distance.clamp(min=1e-9)).clamp(-1, 1)), distance


def toward(azimuth: Tensor, elevation: Tensor) -> Float[Tensor, "N 3"]:
    """Unit vectors."""
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin().expand_as(azimuth)], -1)


def middle_of(scene: Scene | Shape) -> Float[Tensor, "3"]:
    """Of the box around the subject's outline."""
    outline = outline_of(scene)
    return (outline.amin(0) + outline.amax(0)) / 2


def look_at(eye: Float[Tensor, "3"], target: Float[Tensor, "3"], up: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """world_from_camera (x right, y down, z forward) at `eye`, looking at `target`; up need not be perpendicular."""
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.linalg.cross(forward, up)
    if right.norm() < 1e-6 * up.norm():  # looking straight up or down: any heading will do
        right = torch.linalg.cross(forward, up.roll(1))
    right = torch.nn.functional.normalize(right, dim=0)
    pose = torch.eye(4, dtype=eye.dtype)
    pose[:3, :] = torch.stack([right, torch.linalg.cross(forward, right), forward, eye], dim=1)
    return pose


def fitting_distance(
    points: Float[Tensor, "K 3"], rotation: Float[Tensor, "3 3"], tangents: tuple[float, float], fill: float = FILL
) -> float:
    """How far from the origin a camera looks at it, so that the points take `fill` of the picture.

    points: about the origin. rotation: world_from_camera. tangents: of half the fields of view across and upright.
    """
    x, y, z = (points.double() @ rotation).T
    return float((torch.maximum(x.abs() / (fill * tangents[0]), y.abs() / (fill * tangents[1])) - z).max())


def orbit(scene: Scene | Shape, count: int) -> list[Camera]:
    """One turn about the vertical through the subject's middle, starting at the first training view's side.

    Distance and elevation are the training cameras' medians, so the film shows what was photographed. A shape, which
    has no cameras, is seen whole in square pictures.
    """
    middle = middle_of(scene)
    cameras = [whole_view(scene)] if isinstance(scene, Shape) else scene.cameras("train")
    azimuth, elevation, distance = bearings(cameras, middle)
    angles = azimuth[0] + 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    eyes = middle + distance.median() * toward(angles, elevation.median())
    if isinstance(scene, Shape):
        return [_square(eye, middle, SIDE) for eye in eyes]
    return fitted([_pinhole_like(cameras[0], look_at(eye, middle, UP)) for eye in eyes], outline_of(scene))


def fitted(cameras: list[Camera], outline: Float[Tensor, "K 3"]) -> list[Camera]:
    """The pinholes, all with the one focal length at which the outline just fills the picture (see FILL)."""
    first = cameras[0]
    half = torch.tensor([first.width, first.height], dtype=torch.float64) / 2
    reach = torch.zeros((), dtype=torch.float64)
    for camera in cameras:
        xy, z = camera.project(outline.double())
        reach = torch.maximum(reach, ((xy - half).abs() / half)[z > 0].amax() if (z > 0).any() else reach)
    least = float(half.max()) / math.tan(math.radians(WIDEST / 2)) / float(first.params[0])
    zoom = max(least, FILL / max(float(reach), 1e-6))
    return [replace(c, params=c.params * c.params.new_tensor([zoom, zoom, 1, 1])) for c in cameras]


def spiral(scene: Scene, count: int) -> list[Camera]:
    """To and fro before the subject, for captures from one side, in the manner of LLFF (Mildenhall et al. 2019).

    In azimuth and elevation the eye moves on an ellipse, and in distance at half that pace; nine tenths of the photos
    lie within its axes, half of them within the reach of its distance. Narrow ones are gone round twice.
    """
    cameras, middle = scene.cameras("train"), middle_of(scene)
    gap = horizon_gap(cameras, middle)
    if gap <= GAP:
        raise UserError(f"{scene.path}: its photos are from all around, which no spiral shows; use --path orbit.")
    azimuth, elevation, distance = bearings(cameras, middle)
    ordered = azimuth.sort().values
    before = torch.diff(ordered, append=ordered[:1] + 2 * math.pi).argmax()  # the camera before the gap
    centre = ordered[before] - (2 * math.pi - math.radians(gap)) / 2
    azimuth = torch.remainder(azimuth - centre + math.pi, 2 * math.pi) - math.pi + centre

    def reach(values: Tensor, share: float) -> Tensor:
        low, high = torch.quantile(values, values.new_tensor([0.5 - share / 2, 0.5 + share / 2]))
        return torch.stack([(low + high) / 2, (high - low) / 2])

    (a, da), (e, de), (d, dd) = reach(azimuth, 0.9), reach(elevation, 0.9), reach(distance, 0.5)
    turns = 2 if max(da, de) < math.radians(30) else 1
    angles = 2 * math.pi * turns * torch.arange(count, dtype=torch.float64) / count
    eyes = middle + (d + dd * (0.5 * angles).sin())[:, None] * toward(a + da * angles.cos(), e + de * angles.sin())
    return fitted([_pinhole_like(cameras[0], look_at(eye, middle, UP)) for eye in eyes], outline_of(scene))


def walk(scene: Scene, count: int) -> list[Camera]:
    """Smoothly past some of the captured cameras, in their order: for rooms and streets, which have no one subject."""
    keys = [as_pinhole(camera) for camera in every_nth(scene.cameras("train"), KEYS)]
    if len(keys) < 2:
        raise UserError(f"{scene.path} has one camera only, which makes no walk; use --path orbit.")
    marks = [round(k * (count - 1) / (len(keys) - 1)) for k in range(len(keys))]
    return frames_between(keys, [max(1, b - a) for a, b in pairwise(marks)])[:count]


def surround(box: Float[Tensor, "2 3"], heights: Sequence[float], count: int, side: int = 400) -> list[Camera]:
    """Square pictures of a whole box, `count` from all around at each height over the horizon (degrees)."""
    middle, radius = box.double().mean(0), 0.5 * float((box[1] - box[0]).double().norm())
    distance = radius * math.sqrt(1 + (2 * FOCAL) ** 2)
    cameras = []
    for level, height in enumerate(heights):
        turns = 2 * math.pi * (torch.arange(count, dtype=torch.float64) + level / len(heights)) / count
        for direction in toward(turns, torch.tensor(math.radians(height), dtype=torch.float64)):
            cameras.append(_square(middle + distance * direction, middle, side))
    return cameras


def whole_view(shape: Shape) -> Camera:
    """A square picture of all of a shape, from the front and a little above; all of it also when it turns."""
    middle = middle_of(shape)
    direction = torch.nn.functional.normalize(torch.tensor([0.6, -1.0, 0.5], dtype=torch.float64), dim=0)
    turns = math.radians(15) * torch.arange(24, dtype=torch.float64)
    poses = [look_at(direction_, torch.zeros_like(middle), UP) for direction_ in toward(turns, direction[2].asin())]
    tangents = (0.5 / FOCAL, 0.5 / FOCAL)
    distance = max(fitting_distance(outline_of(shape) - middle, pose[:3, :3], tangents) for pose in poses)
    return _square(middle + distance * direction, middle, SIDE)


def _square(eye: Float[Tensor, "3"], middle: Float[Tensor, "3"], side: int) -> Camera:
    params = torch.tensor([FOCAL * side, FOCAL * side, side / 2, side / 2], dtype=torch.float64)
    return Camera("PINHOLE", side, side, params, look_at(eye, middle, UP))


def depth_span(scene: Scene | Shape) -> tuple[float, float]:
    """Nearest and farthest depth of one colour scale for all pictures of a path."""
    if isinstance(scene, Shape):
        distance = float((whole_view(scene).centre - middle_of(scene)).norm())
        radius = float((outline_of(scene) - middle_of(scene)).norm(dim=1).max())
        return distance - radius, distance + radius
    return scene.near, 2 * scene.near + 4


def _pinhole_like(camera: Camera, pose: Float[Tensor, "4 4"]) -> Camera:
    return replace(as_pinhole(camera), world_from_camera=pose)
