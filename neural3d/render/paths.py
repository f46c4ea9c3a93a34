"""Where the camera goes in `neural3d render`: the captured views, an orbit, a spiral, or a path drawn elsewhere.

All cameras are in the scene frame, whose +z is up. Orbits and spirals are pinholes with the field of view and size of
the first training view, its distortion left out; around a shape, of a square picture that holds all of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.files import replacing
from neural3d.geometry.cameras import Camera
from neural3d.render.spline import as_pinhole, frames_between
from neural3d.scene.bounds import convergence
from neural3d.scene.capture import pose_from, read_json
from neural3d.scene.scene import Scene
from neural3d.scene.shape import Shape
from neural3d.scene.transforms import OPENCV_FROM_OPENGL

KINDS = ("train", "val", "test", "orbit", "spiral")
FPS = 24.0
TRANSITION = 2.0  # seconds from one key frame to the next where a file does not say
SIDE, FOCAL = 512, 1.25  # pixels of a picture of a shape, and its focal length in sides
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class CameraPath:
    """Cameras in the scene frame, a name for each (file names of the pictures), and pictures per second of a film."""

    cameras: list[Camera]
    names: list[str]
    fps: float = FPS


def camera_path(scene: Scene | Shape, kind: str, count: int = 120) -> CameraPath:
    """The path called `kind`: "train", "val", "test", "orbit", "spiral", or a JSON file of nerfstudio's
    layout, of all its pictures or of key frames only.

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


def surround(box: Float[Tensor, "2 3"], heights: Sequence[float], count: int, side: int = 400) -> list[Camera]:
    """Square pictures of a whole box, `count` from all around at each height over the horizon (degrees)."""
    middle, radius = box.double().mean(0), 0.5 * float((box[1] - box[0]).double().norm())
    params = torch.tensor([FOCAL * side, FOCAL * side, side / 2, side / 2], dtype=torch.float64)
    cameras = []
    for level, height in enumerate(heights):
        for k in range(count):
            turn, rise = 2 * math.pi * (k + level / len(heights)) / count, math.radians(height)
            toward = (math.cos(rise) * math.cos(turn), math.cos(rise) * math.sin(turn), math.sin(rise))
            eye = middle + radius * math.sqrt(1 + (2 * FOCAL) ** 2) * torch.tensor(toward, dtype=torch.float64)
            cameras.append(Camera("PINHOLE", side, side, params, look_at(eye, middle, UP)))
    return cameras


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
    return replace(as_pinhole(camera), world_from_camera=pose)


def read_camera_path(path: Path, scene_from_capture: Float[Tensor, "4 4"]) -> CameraPath:
    """A camera path as nerfstudio's viewer saves it, in the capture's own frame.

    Keys: render_width, render_height (pixels), camera_path: a list of camera_to_world (16 numbers, row by row, OpenGL's
    camera frame) and fov (vertical, degrees); fps or seconds. A file without camera_path has keyframes, a list of
    matrix (as camera_to_world) and fov, and the way leads smoothly through them: from each to the next within its
    override_transition_sec, or default_transition_sec; is_cycle: back to the first one.
    """
    content = read_json(path)
    kind = content.get("camera_type", "perspective")
    if kind != "perspective":
        raise UserError(f"{path}: camera type '{kind}' is not supported; save the path with perspective cameras.")
    if content.get("camera_path"):
        cameras = _cameras_in(path, content, "camera_path", "camera_to_world", "camera")
        if "fps" in content:
            fps = _positive(path, content, "fps")
        else:
            fps = len(cameras) / _positive(path, content, "seconds") if "seconds" in content else FPS
    elif content.get("keyframes"):
        keyframes = _cameras_in(path, content, "keyframes", "matrix", "key frame")
        fps = _positive(path, {"fps": FPS, **content}, "fps")
        cycle = content.get("is_cycle") is True
        seconds = _transitions(path, content, len(keyframes) - (not cycle))
        cameras = frames_between(keyframes, [max(1, round(fps * s)) for s in seconds], cycle=cycle)
    else:
        raise UserError(
            f"{path} has no list 'camera_path' or 'keyframes'; save a camera path from nerfstudio's viewer."
        )
    moved = [camera.moved(scene_from_capture) for camera in cameras]
    return CameraPath(moved, [f"{k:04d}" for k in range(len(moved))], fps)


def _cameras_in(path: Path, content: dict[str, Any], entries: str, matrix: str, name: str) -> list[Camera]:
    """The cameras of a list in a file of nerfstudio's, in the capture's frame."""
    rows = content[entries]
    if not isinstance(rows, list) or not all(isinstance(e, dict) for e in rows):
        raise UserError(f"{path}: '{entries}' is no list of cameras; save the camera path again.")
    width, height = (int(_positive(path, content, key)) for key in ("render_width", "render_height"))
    cameras = []
    for index, entry in enumerate(rows):
        where = f"{path}, {name} {index}"
        numbers = np.asarray(entry.get(matrix, []), dtype=object).reshape(-1)
        pose = pose_from(numbers.reshape(4, 4) if numbers.size == 16 else None, where) @ OPENCV_FROM_OPENGL
        fov = _positive(where, {**content, **entry}, "fov")
        if fov >= 180:
            raise UserError(f"{where}: 'fov' must be under 180 degrees, not {fov:g}.")
        focal = 0.5 * height / math.tan(0.5 * math.radians(fov))
        params = torch.tensor([focal, focal, width / 2, height / 2], dtype=torch.float64)
        cameras.append(Camera("PINHOLE", width, height, params, pose))
    return cameras


def _transitions(path: Path, content: dict[str, Any], count: int) -> list[float]:
    """Seconds to the next key frame, from each; nerfstudio keeps them with the key frame that is reached."""
    default = TRANSITION
    if "default_transition_sec" in content:
        default = _positive(path, content, "default_transition_sec")
    elif "seconds" in content:
        default = _positive(path, content, "seconds") / max(1, count)
    keyframes = content["keyframes"]
    reached = [(keyframes[1:] + keyframes[:1])[k] for k in range(count)]
    return [
        _positive(path, entry, "override_transition_sec") if entry.get("override_transition_enabled") else default
        for entry in reached
    ]


def write_camera_path(
    path: Path, keyframes: Sequence[Camera], scene: Scene | Shape, *, fps: float = FPS, seconds: float
) -> None:
    """Key frames (cameras in the scene frame) and the smooth way through them; `read_camera_path` tells the layout.

    The film takes `seconds`, the same time from each key frame to the next, in the first one's size; key frames keep
    their vertical field of view. The file is in the capture's own frame. Raises UserError where it cannot be written.
    """
    if not keyframes:
        raise UserError(f"{path}: a camera path needs at least one key frame.")
    width, height = keyframes[0].width, keyframes[0].height
    keys = [as_pinhole(camera, width, height) for camera in keyframes]
    transitions = len(keys) - 1
    way = frames_between(keys, [max(1, round(fps * seconds / max(1, transitions)))] * transitions)
    capture_from_scene = torch.linalg.inv(scene.scene_from_capture)

    def entry(camera: Camera, matrix: str) -> dict[str, Any]:
        pose = camera.moved(capture_from_scene).world_from_camera @ OPENCV_FROM_OPENGL
        fov = 2 * math.degrees(math.atan(0.5 * height / float(camera.params[1])))
        return {matrix: pose.flatten().tolist(), "fov": fov, "aspect": width / height}

    key_entries = [entry(camera, "matrix") for camera in keys]
    content = {
        "default_fov": key_entries[0]["fov"],
        "default_transition_sec": seconds / max(1, transitions),
        "keyframes": [
            {**e, "override_transition_enabled": False, "override_transition_sec": None} for e in key_entries
        ],
        "camera_type": "perspective",
        "render_height": height,
        "render_width": width,
        "fps": fps,
        "seconds": len(way) / fps,
        "is_cycle": False,
        "smoothness_value": 0.0,
        "camera_path": [entry(camera, "camera_to_world") for camera in way],
    }
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def _positive(where: object, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{where}: '{key}' must be a positive number, not {value!r}.")
    return float(value)
