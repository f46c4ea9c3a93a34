"""From the capture's frame and units to the scene's: turned upright, with the region of interest filling [-1, 1]³."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.bounds import (
    convergence,
    every_nth,
    in_picture,
    level_axis,
    rotation_to_z,
    silhouette_hull,
    silhouette_of,
    subject_box,
    up_direction,
)
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import box_outline, cloud_outline, photos_outline
from neural3d.scene.capture import Capture, Frame
from neural3d.scene.options import SceneOptions

AXES = {"x": (1, 0, 0), "-x": (-1, 0, 0), "y": (0, 1, 0), "-y": (0, -1, 0), "z": (0, 0, 1), "-z": (0, 0, -1)}
LEAN = math.radians(10)  # least angle between +z and what cameras are level about from which these are believed
HULL_VIEWS = 24  # pictures decoded to find the subject's bounding box from its silhouettes


def normalise(
    capture: Capture, train: list[Frame], options: SceneOptions
) -> tuple[Tensor, Float[Tensor, "2 3"], Float[Tensor, "K 3"]]:
    """scene_from_capture, the region of interest and the subject's outline in the scene frame.

    The region is, in this order: what the options say; the format's box where it hugs the subject; the visual hull of
    the silhouettes of the training views; what cameras and points say; the format's box.
    """
    rotation = torch.eye(4, dtype=torch.float64)
    rotation[:3, :3] = rotation_to_z(up_in_capture(capture, options))
    given = options.aabb if options.aabb is not None else capture.box
    ball = capture.box_is_ball and options.aabb is None
    box = None if given is None else rotated_box(rotation, torch.as_tensor(given, dtype=torch.float64), ball)
    outline = None
    cameras = [f.camera.moved(rotation) for f in capture.frames]
    points = None if capture.points is None else torch.from_numpy(transform(rotation, capture.points[0]))
    if options.aabb is None and not capture.box_is_tight:
        if capture.silhouettes:
            hull = hull_of(train, rotation, box)
            if hull is None:
                capture.notes.append("The silhouettes have nothing in common; poses or masks may be wrong.")
            else:
                box, outline = hull[0], cloud_outline(hull[1])
        if box is None or (capture.points is not None and not capture.silhouettes):
            box = subject_box(cameras, points)
        if outline is None:
            outline = photos_outline(cameras, points, box)
    assert box is not None
    outline = box_outline(box) if outline is None else outline
    centre, half = box.mean(0), (box[1] - box[0]).max() / 2
    scale = torch.eye(4, dtype=torch.float64)
    scale[:3, :3] /= half
    scale[:3, 3] = -centre / half
    return scale @ rotation, ((box - centre) / half).float(), (outline - centre) / half


def up_in_capture(capture: Capture, options: SceneOptions) -> Float[Tensor, "3"]:
    """What the options say is up; else what GPS (+z) or the format says; else what the cameras say.

    These also win over a format from which they plainly differ: some programs write transforms.json in whatever frame
    the poses came in.
    """
    if options.up in AXES:
        return torch.tensor(AXES[options.up], dtype=torch.float64)
    custom = torch.tensor(AXES[capture.up_axis], dtype=torch.float64)
    if capture.metric and options.up is None:
        return custom
    cameras = [f.camera for f in capture.frames]
    if options.up == "guess" or not capture.upright:
        return up_direction(cameras)
    axis, doubt = level_axis(cameras) or (custom, 0.0)
    if math.acos((axis @ custom).clamp(-1, 1)) < max(LEAN, 3 * doubt):
        return custom
    level, up = ", ".join(f"{x:.2f}" for x in axis.tolist()), capture.up_axis
    capture.notes.append(
        f"The cameras are level about ({level}), which is taken for up, and not about +{up} as the format has it; if "
        f"+{up} is up all the same, say so: --set scene.up={up}."
    )
    return axis


def transform(matrix: Float[Tensor, "4 4"], points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    m = matrix.numpy()
    return points @ m[:3, :3].T + m[:3, 3]


def rotated_box(rotation: Tensor, box: Float[Tensor, "2 3"], ball: bool) -> Float[Tensor, "2 3"]:
    """The box of a turned box's corners, or of the turned ball in a cube."""
    if ball:
        centre, radius = rotation[:3, :3] @ box.mean(0) + rotation[:3, 3], (box[1] - box[0]) / 2
        return torch.stack([centre - radius, centre + radius])
    corners = torch.cartesian_prod(*box.T) @ rotation[:3, :3].T + rotation[:3, 3]
    return torch.stack([corners.amin(0), corners.amax(0)])


def hull_of(train: list[Frame], rotation: Tensor, box: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Box and cells of the visual hull of HULL_VIEWS training views, searched as far out as the nearest camera."""
    some = [train[i] for i in np.linspace(0, len(train) - 1, min(len(train), HULL_VIEWS)).astype(int)]
    cameras = [f.camera.moved(rotation) for f in some]
    centre = convergence(cameras)
    if centre is not None:
        reach = torch.stack([(c.centre - centre).norm() for c in cameras]).min()
        box = torch.stack([centre - reach, centre + reach])
    elif box is None:
        box = subject_box(cameras, None)
    return silhouette_hull(cameras, [silhouette_of(f.view().image()[..., 3]) for f in some], box)


def depth_range(
    cameras: list[Camera], aabb: Tensor, unbounded: bool, points: Float[np.ndarray, "N 3"] | None
) -> tuple[float, float]:
    """near, far: for a bounded scene the distances at which rays can meet the aabb; else of what the points show.

    Never nearer than 0.02, a hundredth of the scene: closer is fog on the lens.
    """
    centres = torch.stack([c.centre for c in cameras]).float()
    outside = torch.maximum(aabb[0] - centres, centres - aabb[1]).clamp(min=0).norm(dim=-1)
    corners = torch.cdist(centres, torch.cartesian_prod(*aabb.T))
    near, far = outside.min().item(), corners.max().item()
    if unbounded:
        near, far = 0.5 * near, max(far, 100.0)
        if points is not None and len(points):
            z = _depths_in_view(cameras, torch.from_numpy(points))
            if len(z):
                near, far = 0.5 * np.quantile(z, 0.001), max(far, 2 * np.quantile(z, 0.999))
    return max(0.02, float(near)), float(far)


def _depths_in_view(cameras: list[Camera], points: Tensor) -> np.ndarray:
    """z of points in the pictures of some of the cameras."""
    some = every_nth(points, 2000)
    seen = [in_picture(camera, some) for camera in every_nth(cameras, 50)]
    return torch.cat([z[inside] for inside, _, z in seen]).numpy()
