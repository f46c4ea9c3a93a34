"""Camera paths as files: JSON in the layout of nerfstudio's viewer, in the capture's own frame."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.disk import replacing
from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.render.spline import as_pinhole, frames_between
from neural3d.scene.capture import pose_from, read_json
from neural3d.scene.readers.transforms import OPENCV_FROM_OPENGL
from neural3d.scene.scene import Scene
from neural3d.shapes.shape import Shape

FPS = 24.0
TRANSITION = 2.0  # seconds from one key frame to the next where a file does not say


@dataclass(frozen=True)
class CameraPath:
    """Cameras in the scene frame, a name for each (file names of the pictures), and pictures per second of a film."""

    cameras: list[Camera]
    names: list[str]
    fps: float = FPS


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
