"""What apps on Apple's phones have in common: poses that ARKit tracked, and depth pictures of the LiDAR sensor.

ARKit's world is right-handed, +y up against gravity, in metres; its camera looks along −z with +y up in the picture as
the sensor stores it (https://developer.apple.com/documentation/arkit). Depth is along the camera's z axis, in
millimetres as PNG, for pictures a few times smaller than the photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.geometry.bounds import every_nth
from neural3d.geometry.cameras import Camera, pixel_centres
from neural3d.images.formats import UNREADABLE, open_photo
from neural3d.images.reading import read_image
from neural3d.scene.capture import Capture, Frame, pose_from
from neural3d.scene.readers.transforms import OPENCV_FROM_OPENGL

MOST = 300  # frames of a film that are taken, evenly spaced: sixty a second show the same again and again
FULL = 1920  # pixels along the longer side of the pictures that ARKit's intrinsics are of
REACH = 5.0  # metres to which the sensor measures
PICTURES = 24  # depth pictures that are made points …
POINTS = 100_000  # … about so many of them


def arkit_camera(pinhole: Sequence[float], size: tuple[int, int], world_from_opengl: object, where: str) -> Camera:
    """pinhole: fx, fy, cx, cy in pixels from the corner of a photo of `size`."""
    pose = pose_from(world_from_opengl, where) @ OPENCV_FROM_OPENGL
    return Camera("PINHOLE", *size, torch.tensor(pinhole, dtype=torch.float64), pose)


def arkit_capture(reader: str, path: Path, frames: list[Frame], up_axis: str = "y") -> Capture:
    capture = Capture(reader, path, frames, upright=True, up_axis=up_axis)
    capture.notes.append("ARKit measured where the cameras are: a unit of the capture is a metre.")
    return capture


def points_of_depth(
    frames: list[Frame], depth: Callable[[Path], Path], confidence: Callable[[Path], Path]
) -> tuple[Float[np.ndarray, "N 3"], np.ndarray] | None:
    """Points of some of the photos' depth pictures, and the photos' colours there; None where there are none.

    depth, confidence: from a photo's path to where its picture would lie. Only depths in reach, and of the highest
    confidence where that is told, are taken.
    """
    measured = [f for f in frames if depth(f.image_path).is_file()]
    clouds = [_points(f, depth(f.image_path), confidence(f.image_path)) for f in every_nth(measured, PICTURES)]
    if not clouds:
        return None
    points, colours = (np.concatenate(x) for x in zip(*clouds))
    return (every_nth(points, POINTS), every_nth(colours, POINTS)) if len(points) else None


def _points(frame: Frame, depth: Path, confidence: Path) -> tuple[np.ndarray, np.ndarray]:
    z = _numbers(depth) / 1000.0
    height, width = z.shape
    camera = frame.camera.resized(width, height)
    sure = (z > 0) & (z < REACH)
    if confidence.is_file() and (said := _numbers(confidence)).shape == z.shape:
        sure &= said == said.max()
    origins, directions = (x.double() for x in camera.rays(pixel_centres(width, height)))
    along = directions @ camera.forward  # z of the unit direction
    points = origins + directions * (torch.from_numpy(z) / along)[..., None]
    return points.numpy()[sure], read_image(frame.image_path, width, height, alpha=False)[sure]


def _numbers(path: Path) -> np.ndarray:
    """A picture of one channel, 8 or 16 bits, as it is stored."""
    try:
        with open_photo(path) as picture:
            values = np.asarray(picture)
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged ({error}); copy it again from its source, or remove it.") from None
    if values.ndim != 2:
        raise UserError(f"{path} is no depth picture: it has colours; remove it.")
    return values
