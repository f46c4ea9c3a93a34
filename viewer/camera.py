"""Where the viewer's user stands: a turntable about a pivot, moved by mouse and keys, and the cameras it amounts to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from neural3d.viewer.open import Subject
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.geometry.lenses import lens_of, named
from neural3d.render.paths import FILL, fitting_distance, look_at

FOV = 45.0  # vertical, degrees, where no photo suggests another
LENSES = 5.0, 70.0  # vertical, degrees: first views zoom between these
STEEP = math.radians(89)  # a turntable does not go over the pole
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Eye:
    """A view of the subject's frame.

    pivot: what the eye turns about, straight ahead at `distance`. rotation: camera axes (x right, y down, z forward) as
    columns. fov: vertical field of view in degrees. All float64.
    """

    pivot: Float[Tensor, "3"]
    distance: float
    rotation: Float[Tensor, "3 3"]
    fov: float = FOV

    @property
    def centre(self) -> Float[Tensor, "3"]:
        return self.pivot - self.distance * self.rotation[:, 2]

    @property
    def world_from_camera(self) -> Float[Tensor, "4 4"]:
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.centre
        return pose

    def camera(self, width: int, height: int) -> Camera:
        """A pinhole of this view in a picture of that size."""
        focal = 0.5 * height / math.tan(math.radians(self.fov) / 2)
        params = torch.tensor([focal, focal, width / 2, height / 2], dtype=torch.float64)
        return Camera("PINHOLE", width, height, params, self.world_from_camera)

    def turned(self, right: float, down: float) -> Eye:
        """After a drag by these angles (radians), as if the subject were held: about the vertical and sideways."""
        forward = self.rotation[:, 2]
        height = math.asin(max(-1.0, min(1.0, float(-forward[2]))))  # of the eye over the pivot
        upright = float(self.rotation[2, 1]) <= 0  # the camera's y points down
        if upright:
            steepest = max(STEEP, abs(height))  # photos may look straight down
            down = max(-steepest, min(steepest, height + down)) - height
        spin = _axis_rotation(2, -right)
        tilt = _axis_rotation(0, -down)
        return replace(self, rotation=_orthonormal(spin @ self.rotation @ tilt))

    def rolled(self, angle: float) -> Eye:
        return replace(self, rotation=_orthonormal(self.rotation @ _axis_rotation(2, angle)))

    def panned(self, right: float, down: float) -> Eye:
        """After a drag by these shares of the picture's height: what lies at the pivot follows the mouse."""
        size = 2 * self.distance * math.tan(math.radians(self.fov) / 2)
        return replace(self, pivot=self.pivot - size * (right * self.rotation[:, 0] + down * self.rotation[:, 1]))

    def closer(self, factor: float) -> Eye:
        """At `factor` times the distance; the pivot stays."""
        return replace(self, distance=max(1e-3, min(1e3, factor * self.distance)))

    def about(self, point: Float[Tensor, "3"]) -> Eye:
        """Looking straight at a point, at the distance it is at."""
        offset = point - self.centre
        return replace(
            self, pivot=point, distance=float(offset.norm()), rotation=look_at(self.centre, point, UP)[:3, :3]
        )

    def zoomed(self, factor: float) -> Eye:
        """With another field of view."""
        return replace(self, fov=max(5.0, min(120.0, self.fov * factor)))


def _axis_rotation(axis: int, angle: float) -> Float[Tensor, "3 3"]:
    c, s = math.cos(angle), math.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def _orthonormal(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """The nearest rotation: thousands of small turns would otherwise drift."""
    u, _, v = torch.linalg.svd(matrix)
    return u @ v


def looking(toward: Float[Tensor, "3"], target: Float[Tensor, "3"], distance: float, fov: float = FOV) -> Eye:
    """Upright, from `distance` away in direction `toward` of the target."""
    toward = torch.nn.functional.normalize(toward.double(), dim=0)
    target = target.double()
    return Eye(target, distance, look_at(target + distance * toward, target, UP)[:3, :3], fov)


def first_eye(subject: Subject, aspect: float) -> Eye:
    """Upright, the subject's outline filling the picture; of a run from as far away as its photos, as it has learnt
    nothing of what is nearer. Of a place (an unbounded scene) from where one was taken. aspect: width / height.
    """
    middle, scene = subject.middle, subject.scene
    if scene is None or subject.kind == "scene":
        return framed(subject.outline, looking(torch.tensor([0.6, -1.0, 0.5]), middle, 1.0), aspect)
    cameras = scene.cameras("train")
    offsets = torch.stack([c.centre for c in cameras]) - middle
    if scene.unbounded:  # the photo nearest to their mean that looks at the subject
        facing = torch.stack([c.forward for c in cameras]).mul(-offsets).sum(1) / offsets.norm(dim=1)
        offset = offsets[((offsets - offsets.mean(0)).norm(dim=1) + 10 * (facing < 0.9)).argmin()]
        return zoomed_on(subject.outline, looking(offset, middle, float(offset.norm())), aspect)
    toward = torch.nn.functional.normalize(offsets[0], dim=0)
    toward[2] = toward[2].clamp(0.25, 0.6)
    return zoomed_on(subject.outline, looking(toward, middle, float(offsets.norm(dim=1).median())), aspect)


def framed(outline: Float[Tensor, "K 3"], eye: Eye, aspect: float) -> Eye:
    """From where the outline just fits the picture, in the eye's direction."""
    tangent = math.tan(math.radians(eye.fov) / 2)
    distance = fitting_distance(outline - eye.pivot, eye.rotation, (tangent * aspect, tangent))
    return replace(eye, distance=max(distance, 1e-3))


def zoomed_on(outline: Float[Tensor, "K 3"], eye: Eye, aspect: float) -> Eye:
    """From where the eye stands, by the lens that the outline fills; beyond all lenses from nearer or farther."""
    x, y, z = ((outline.double() - eye.centre) @ eye.rotation).T
    ahead = z > 1e-3 * eye.distance
    tangent = float(torch.maximum(x.abs() / aspect, y.abs())[ahead].div(z[ahead]).max()) / FILL if ahead.any() else 1e9
    fov = 2 * math.degrees(math.atan(tangent))
    fitting = min(max(fov, LENSES[0]), LENSES[1])
    eye = replace(eye, fov=fitting)
    return eye if fov == fitting else framed(outline, eye, aspect)


def photo_eye(camera: Camera, box: Float[Tensor, "2 3"]) -> Eye:
    """A captured camera as an eye: its pose, its vertical field of view, the pivot at the box's middle depth."""
    ahead = float((box.double().mean(0) - camera.centre) @ camera.forward)
    distance = ahead if ahead > 1e-3 else 1.0
    pivot = camera.centre + distance * camera.forward
    return Eye(pivot, distance, camera.world_from_camera[:3, :3].clone(), field_of_view(camera))


def field_of_view(camera: Camera) -> float:
    """Vertical, in degrees; of a lens that has no focal length in pixels per tangent, `FOV`."""
    values = named(camera.model, camera.params)
    if lens_of(camera.model).projection != "perspective":
        return FOV
    return math.degrees(2 * math.atan(0.5 * camera.height / float(values["fy"])))


def tile(camera: Camera, x: int, y: int, width: int, height: int) -> Camera:
    """The part of a camera's picture whose first pixel is (x, y), as a camera of its own."""
    params = camera.params.clone()
    names = lens_of(camera.model).names
    params[names.index("cx")] -= x
    params[names.index("cy")] -= y
    return replace(camera, width=width, height=height, params=params)


def opengl_view(eye: Eye) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """centre of rotation, eye, up: what Open3D's `look_at` takes."""
    return eye.pivot.numpy(), eye.centre.numpy(), -eye.rotation[:, 1].numpy()
