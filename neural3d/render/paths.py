"""Where the camera goes in `neural3d render`: the captured views, an orbit, a spiral, or a path drawn elsewhere.

All cameras are in the scene frame, whose +z is up. Orbits and spirals are pinholes with the field of view and size of
the first training view, its distortion left out; around a shape, of a square picture that holds all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import named
from neural3d.scene.bounds import convergence
from neural3d.scene.capture import pose_from, read_json
from neural3d.scene.scene import Scene
from neural3d.scene.shape import Shape
from neural3d.scene.transforms import OPENCV_FROM_OPENGL

KINDS = ("train", "val", "test", "orbit", "spiral")
SIDE, FOCAL = 512, 1.25  # pixels of a picture of a shape, and its focal length in sides
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class CameraPath:
    """Cameras in the scene frame, a name for each (file names of the pictures), and pictures per second of a film."""

    cameras: list[Camera]
    names: list[str]
    fps: float = 24.0


def camera_path(scene: Scene | Shape, kind: str, count: int = 120) -> CameraPath:
    """The path called `kind`: "train", "val", "test", "orbit", "spiral", or a JSON file of nerfstudio's viewer.

    count: pictures of an orbit or a spiral. Raises UserError where the kind is unknown, the split empty, the cameras
    do not suit the path, or the file is damaged.
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
    else:
        raise UserError(f"Unknown path '{kind}'; choose one of {', '.join(KINDS)}, or a .json file.")
    return CameraPath(cameras, [f"{k:04d}" for k in range(len(cameras))])


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


def orbit(scene: Scene | Shape, count: int) -> list[Camera]:
    """One turn about the vertical through the middle of the aabb, starting at the first training view's side.

    Height and horizontal distance are the training cameras' medians, so the film shows what was photographed. A shape,
    which has no cameras, fills a square picture.
    """
    cameras = [whole_view(scene)] if isinstance(scene, Shape) else scene.cameras("train")
    middle = scene.aabb.double().mean(dim=0)
    offsets = torch.stack([c.centre for c in cameras]) - middle
    distance, height = offsets[:, :2].norm(dim=1).median(), offsets[:, 2].median()
    start = math.atan2(offsets[0, 1], offsets[0, 0])
    angles = start + 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    eyes = middle + torch.stack([distance * angles.cos(), distance * angles.sin(), height.expand(count)], dim=1)
    return [_pinhole_like(cameras[0], look_at(eye, middle, UP)) for eye in eyes]


def whole_view(shape: Shape) -> Camera:
    """A square picture of all of a shape, from the front and a little above."""
    middle = shape.aabb.double().mean(dim=0)
    toward = torch.nn.functional.normalize(torch.tensor([0.6, -1.0, 0.5], dtype=torch.float64), dim=0)
    params = torch.tensor([FOCAL * SIDE, FOCAL * SIDE, SIDE / 2, SIDE / 2], dtype=torch.float64)
    pose = look_at(middle + _whole_distance(shape) * toward, middle, UP)
    return Camera("PINHOLE", SIDE, SIDE, params, pose)


def _radius(shape: Shape) -> float:
    return 0.5 * float((shape.aabb[1] - shape.aabb[0]).norm())


def _whole_distance(shape: Shape) -> float:
    """From where a ball around the shape's box just fills the picture."""
    return _radius(shape) * math.sqrt(1 + (2 * FOCAL) ** 2)


def depth_span(scene: Scene | Shape) -> tuple[float, float]:
    """Nearest and farthest depth of one colour scale for all pictures of a path."""
    if isinstance(scene, Shape):
        return _whole_distance(scene) - _radius(scene), _whole_distance(scene) + _radius(scene)
    return scene.near, 2 * scene.near + 4


def spiral(scene: Scene, count: int, turns: int = 2) -> list[Camera]:
    """Round and round before the subject, for captures taken from one side (Mildenhall et al. 2019, LLFF).

    In the frame of the mean camera the eye moves on an ellipse in x and y and along z at half that pace; the axes are
    what 90 % of the photographs stay within. All look at one point, as far ahead as the subject.
    """
    cameras = scene.cameras("train")
    poses = torch.stack([c.world_from_camera for c in cameras])
    forward = poses[:, :3, 2].mean(dim=0)
    if forward.norm() < 0.5:
        raise UserError(f"{scene.path}: its cameras look in all directions, which no spiral shows; use --path orbit.")
    centre = poses[:, :3, 3].mean(dim=0)
    mean_pose = look_at(centre, centre + forward, -poses[:, :3, 1].mean(dim=0))

    target = convergence(cameras)
    target = scene.aabb.double().mean(dim=0) if target is None else target
    focus = torch.clamp((target - centre) @ mean_pose[:3, 2], min=scene.near)
    radii = torch.quantile(((poses[:, :3, 3] - centre) @ mean_pose[:3, :3]).abs(), 0.9, dim=0)

    angles = 2 * math.pi * turns * torch.arange(count, dtype=torch.float64) / count
    local = radii * torch.stack([angles.cos(), -angles.sin(), -(0.5 * angles).sin()], dim=1)
    eyes = centre + local @ mean_pose[:3, :3].T
    subject = centre + focus * mean_pose[:3, 2]
    return [_pinhole_like(cameras[0], look_at(eye, subject, -mean_pose[:3, 1])) for eye in eyes]


def _pinhole_like(camera: Camera, pose: Float[Tensor, "4 4"]) -> Camera:
    """The camera's size and focal length, undistorted, its principal point in the middle."""
    lens, width, height = named(camera.model, camera.params), camera.width, camera.height
    if "fx" in lens:
        fx, fy = float(lens["fx"]), float(lens["fy"])
    else:  # a panorama: a square window of 90°
        width, fx, fy = height, height / 2, height / 2
    params = torch.tensor([fx, fy, width / 2, height / 2], dtype=torch.float64)
    return Camera("PINHOLE", width, height, params, pose)


def read_camera_path(path: Path, scene_from_capture: Float[Tensor, "4 4"]) -> CameraPath:
    """A camera path as nerfstudio's viewer saves it, in the capture's own frame.

    Keys: render_width, render_height (pixels), camera_path: a list of camera_to_world (16 numbers, row by row, OpenGL's
    camera frame) and fov (vertical, degrees); fps or seconds.
    """
    content = read_json(path)
    kind = content.get("camera_type", "perspective")
    if kind != "perspective":
        raise UserError(f"{path}: camera type '{kind}' is not supported; save the path with perspective cameras.")
    entries = content.get("camera_path")
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"{path} has no list 'camera_path'; save a camera path from nerfstudio's viewer.")
    width, height = (int(_positive(path, content, key)) for key in ("render_width", "render_height"))

    cameras = []
    for index, entry in enumerate(entries):
        where = f"{path}, camera {index}"
        numbers = np.asarray(entry.get("camera_to_world", []), dtype=object).reshape(-1)
        pose = pose_from(numbers.reshape(4, 4) if numbers.size == 16 else None, where) @ OPENCV_FROM_OPENGL
        fov = _positive(where, {**content, **entry}, "fov")
        if fov >= 180:
            raise UserError(f"{where}: 'fov' must be under 180 degrees, not {fov:g}.")
        focal = 0.5 * height / math.tan(0.5 * math.radians(fov))
        params = torch.tensor([focal, focal, width / 2, height / 2], dtype=torch.float64)
        cameras.append(Camera("PINHOLE", width, height, params, pose).moved(scene_from_capture))
    if "fps" in content:
        fps = _positive(path, content, "fps")
    else:
        fps = len(cameras) / _positive(path, content, "seconds") if "seconds" in content else 24.0
    return CameraPath(cameras, [f"{k:04d}" for k in range(len(cameras))], fps)


def _positive(where: object, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{where}: '{key}' must be a positive number, not {value!r}.")
    return float(value)
