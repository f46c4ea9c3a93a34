"""What the viewer shows, apart from the window that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from neural3d.viewer.camera import Eye, first_eye
from neural3d.viewer.items import (
    GREEN,
    GREY,
    NO_LINES,
    Lines,
    box_lines,
    frustum_size,
    path_lines,
    photo_planes,
    scene_lines,
    thumbnail,
)
from neural3d.viewer.open import Subject
from neural3d.viewer.picture import Kind, Shot, beside
from neural3d.viewer.solids import Clip, Solid
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.scene import Data, Scene, View
from neural3d.shapes.shape import Shape

WHITE, DARK = (1.0, 1.0, 1.0), (0.11, 0.12, 0.14)
ROOM = 0.25  # how far the clip sliders reach beyond the subject's box, in its sides


@dataclass
class State:
    """The user's choices; `shot` says what picture they ask for."""

    subject: Subject
    eye: Eye
    kind: Kind = "rgb"
    background: tuple[float, float, float] = WHITE
    frustums: bool = False
    photos: bool = False
    bounds: bool = False
    clipping: bool = False
    clip_box: Float[Tensor, "2 3"] = field(init=False)  # in the capture's frame
    chosen: int = 0  # which of the scene's views
    keyframes: list[Camera] = field(default_factory=list)

    @classmethod
    def of(cls, subject: Subject, aspect: float) -> State:
        return cls(subject, first_eye(subject, aspect), frustums=subject.kind == "scene")

    def __post_init__(self) -> None:
        self.clip_box = capture_box(self.subject)
        scene = self.scene
        self.size = frustum_size(scene) if scene else 0.2
        self._clip: Clip | None = None
        self._planes: Solid | None = None
        self._lines: tuple[tuple, Lines] | None = None  # of the last choices

    @property
    def scene(self) -> Scene | None:
        return self.subject.scene

    @property
    def view(self) -> View | None:
        """The chosen photo."""
        return self.scene.views[self.chosen] if self.scene else None

    @property
    def clip(self) -> Clip | None:
        if self._clip is None or self._clip.box is not self.clip_box:  # the same one as long as it is the same box
            self._clip = Clip(self.subject.capture_from_scene, self.clip_box)
        return self._clip if self.clipping else None

    def clip_range(self) -> Float[np.ndarray, "2 3"]:
        """What the sliders reach, in the capture's frame."""
        low, high = capture_box(self.subject).double().numpy()
        return np.stack([low - ROOM * (high - low), high + ROOM * (high - low)])

    def clip_words(self) -> str:
        """As `neural3d export` takes them."""
        values = self.clip_box.flatten().tolist()
        return "--crop " + " ".join(
            f"{x:.6g}" if abs(x) < 1e4 else f"{x:.11g}" for x in values
        )  # UTM to less than a mm

    def lines(self) -> Lines:
        choices = (self.frustums, self.bounds, self.clipping, self.chosen, tuple(map(id, self.keyframes)))
        key = (*choices, tuple(self.clip_box.flatten().tolist()))
        if self._lines is None or self._lines[0] != key:
            self._lines = key, self._all_lines()
        return self._lines[1]

    def _all_lines(self) -> Lines:
        lines = NO_LINES
        if self.frustums and self.scene:
            lines += scene_lines(self.scene, self.size, self.chosen)
        if self.bounds:
            lines += box_lines(self.subject.aabb, GREY)
        if self.clipping:
            lines += box_lines(self.clip_box, GREEN, torch.linalg.inv(self.subject.capture_from_scene.double()))
        if self.keyframes:
            lines += path_lines(self.keyframes, self.size)
        return lines

    def planes(self) -> Solid | None:
        """The photos on their frustums; read when first asked for."""
        if not (self.photos and self.frustums and self.scene):
            return None
        if self._planes is None:
            views = self.scene.views
            self._planes = photo_planes(views, [thumbnail(view) for view in views], self.size)
        return self._planes

    def shot(self, width: int, height: int) -> Shot:
        """The picture for a window of that size."""
        width, height = max(1, width), max(1, height)
        background = torch.tensor(self.background)
        view = self.view
        if self.kind == "error" and view is not None and self.subject.render is not None:
            _, scale = beside(view.camera.width, view.camera.height, (width, height))
            sides = (max(1, round(view.camera.width * scale)), max(1, round(view.camera.height * scale)))
            given = torch.tensor(WHITE if self.scene and self.scene.background == "white" else (0.0, 0.0, 0.0))
            return Shot(view.camera.resized(*sides), "error", (width, height), given, self.clip, photo=view)
        camera = self.eye.camera(width, height)
        near = 1.5 * self.size if self.frustums else 0.0
        return Shot(camera, self.kind, (width, height), background, self.clip, self.lines(), self.planes(), near=near)

    def path_scene(self) -> Data:
        """What a camera path is written for: the scene, or one made up for a file, whose frame it keeps."""
        s = self.subject
        return s.scene or Shape(s.name, s.path, s.aabb, torch.linalg.inv(s.capture_from_scene.double()))


def capture_box(subject: Subject) -> Float[Tensor, "2 3"]:
    """The axis-aligned box, in the capture's frame, around the subject's box."""
    matrix = subject.capture_from_scene.double()
    corners = torch.cartesian_prod(*subject.aabb.double().T) @ matrix[:3, :3].T + matrix[:3, 3]
    return torch.stack([corners.amin(0), corners.amax(0)])
