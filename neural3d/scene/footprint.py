"""How large a pixel is where the photos look: what the cells of grids and the steps along rays are measured by."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.fields.radiance import Steps
from neural3d.scene.scene import Scene

ACROSS = 64  # steps to the longer side of a picture, at least


def subject_scale(scene: Scene) -> tuple[Float[Tensor, "V"], Float[Tensor, "V"]]:
    """Of each training camera: its distance to the middle of the region of interest, and one pixel's angle in radians.

    A footprint, a pixel's width at the distance t, is t times that angle.
    """
    distances, angles = [], []
    for camera in scene.cameras("train"):
        middle = torch.tensor([[camera.width, camera.height]]).double() / 2
        centre, beside = (camera.rays(middle + shift)[1][0].double() for shift in (0, 1))
        angles.append(torch.linalg.cross(centre, beside).norm() / math.sqrt(2))
        distances.append((camera.centre - scene.aabb.double().mean(0)).norm())
    return torch.stack(distances), torch.stack(angles)


def photo_resolution(scene: Scene, side: float, cells_per_pixel: float = 1.5) -> int:
    """Cells along a hash grid's cube at which its finest level matches the photos' pixels at the subject.

    side: of that cube, in scene units (contracted ones where the grid is).

    Finer levels cannot be seen in the photos, only overfit them: on lego at 200 × 200 pixels 256 cells score 1.1 dB
    over 2048.
    """
    distance, angle = subject_scale(scene)
    return max(64, min(8192, round(cells_per_pixel * side * float((1 / (angle * distance)).median()))))


def photo_steps(scene: Scene, footprints: float, shortest: float) -> Steps:
    """Steps of so many footprints, so that what is far takes no more samples than the photos resolve there.

    Small photos get shorter ones, ACROSS to the width of what they show: so much is worth telling apart in depth, too.
    Never finer than `shortest` at the subject, nor than in that proportion beyond it: very fine photos would ask for
    more than can be marched. Bounded scenes are as near as their subject throughout; their steps are all the shortest.
    """
    if not scene.unbounded:
        return Steps(shortest, 0.0, shortest)
    distance, angle = (float(x.median()) for x in subject_scale(scene))
    distance = max(1.0, distance)  # cameras amid the subject see what is about a unit away
    pixels = max(max(camera.width, camera.height) for camera in scene.cameras("train"))
    cone = max(min(footprints, pixels / ACROSS) * angle, shortest / distance)
    return Steps(shortest, cone, cone * distance)
