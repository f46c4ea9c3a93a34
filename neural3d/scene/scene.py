"""Scene and View: what every method trains on, whatever the capture came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from neural3d.examples.examples import Examples
from neural3d.geometry.cameras import Camera
from neural3d.images.reading import area_resized, read_header, read_image, read_mask
from neural3d.scene.undistort import bent, pinhole_camera, undistorted, window
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import Shape


@dataclass
class View:
    """One photo and its camera.

    name: unique in the scene, as the capture calls it. camera: in the scene frame, at the loaded resolution.
    alpha: `image` has four channels. mask_as_alpha: the mask is the object's silhouette, and becomes the alpha channel.
    lens: the camera that took the photo, where `camera` is that of its pinhole copy, or of a part of either; None:
    `camera` took it.
    """

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None = None
    alpha: bool = False
    mask_as_alpha: bool = False
    lens: Camera | None = None

    def image(self) -> UInt8[np.ndarray, "H W channels"]:
        """Pixels, sRGB as stored, RGB or straight-alpha RGBA; decoded and area-averaged anew at each call.

        Raises UserError where the file is damaged.
        """
        if self.lens is not None:
            return self._copy(lambda view: view.image())
        width, height = self.camera.width, self.camera.height
        pixels = read_image(self.image_path, width, height, self.alpha)
        if self.mask_as_alpha and self.mask_path:
            pixels = np.dstack([pixels[..., :3], read_mask(self.mask_path, width, height)])
        return pixels

    def mask(self) -> UInt8[np.ndarray, "H W"] | None:
        """255 where the photo counts, 0 where it is to be ignored; None where all of it counts."""
        if self.mask_path is None or self.mask_as_alpha:
            return None
        if self.lens is not None:
            path = self.mask_path
            coverage = self._copy(lambda v: read_mask(path, v.camera.width, v.camera.height)[..., None])[..., 0]
        else:
            coverage = read_mask(self.mask_path, self.camera.width, self.camera.height)
        return np.where(coverage >= 128, 255, 0).astype(np.uint8)

    def resized(self, width: int, height: int) -> View:
        """The same view as a picture of another size."""
        camera, lens = self.camera.resized(width, height), self.lens
        if lens is not None:
            ratios = width / self.camera.width, height / self.camera.height
            lens = lens.resized(*(max(1, round(n * r)) for n, r in zip((lens.width, lens.height), ratios)))
        return replace(self, camera=camera, lens=lens)

    def _copy(self, read: Callable[[View], UInt8[np.ndarray, "h w C"]]) -> UInt8[np.ndarray, "H W C"]:
        """The pinhole copy of what `read` gives for the view as photographed, or a window of that.

        Photos that were shrunk are resampled at twice the size and then averaged, which keeps them sharp.
        """
        assert self.lens is not None
        if (seen := window(self.lens, self.camera)) is not None:
            return np.ascontiguousarray(read(replace(self, camera=self.lens, lens=None))[seen])
        fine = 2 if read_header(self.image_path)[0] >= 2 * self.lens.width else 1
        width, height = self.camera.width, self.camera.height
        lens = self.lens.resized(fine * self.lens.width, fine * self.lens.height)
        pixels = read(replace(self, camera=lens, lens=None))
        return area_resized(undistorted(pixels, lens, self.camera.resized(fine * width, fine * height)), width, height)


@dataclass
class Scene:
    """Views in a normalised frame, with what is known about the space they look at.

    views, split: `split["train"]` and `split["test"]` (maybe `"val"`) index views.
    aabb: the region of interest in the scene frame, inside [-1, 1]³ and touching it along its longest side.
    unbounded: photos show more than the aabb (a room, a street): methods contract or cascade space outside.
    near, far: distances along rays, in scene units, between which all is worth sampling.
    scene_from_capture: similarity from the capture's own frame and units; exports undo it. +z is up in the scene frame
        where the capture says or lets guess what is up.
    outline: what pictures of the subject frame, as a few points in the scene frame (see `geometry.outline`).
    points: sparse points (N, 3) float32 in the scene frame and their colours (N, 3) uint8.
    cell: the ground, x and y of two corners in the scene frame, of which this scene is a part (see `scene.cell`); None:
        it is whole.
    background: what pictures with alpha are composited on, "white" or "black"; also the colour behind a bounded scene's
        opaque photos where the format says so; None: opaque photos.
    metric: a unit of the capture is a metre, which GPS has measured.
    downscale: the photos' stored size was divided by this. notes: what the reader decided or found worth saying.
    method_settings: `[method.NAME]` tables of the scene's TOML.
    """

    name: str
    path: Path
    reader: str
    views: list[View]
    split: dict[str, list[int]]
    aabb: Float[Tensor, "2 3"]
    unbounded: bool
    near: float
    far: float
    scene_from_capture: Float[Tensor, "4 4"]
    outline: Float[Tensor, "K 3"] | None = None
    points: tuple[Float[np.ndarray, "N 3"], UInt8[np.ndarray, "N 3"]] | None = None
    cell: Float[Tensor, "2 2"] | None = None
    has_alpha: bool = False
    metric: bool = False
    background: str | None = None
    downscale: int = 1
    notes: list[str] = field(default_factory=list)
    method_settings: dict[str, dict] = field(default_factory=dict)

    def cameras(self, split: str = "train") -> list[Camera]:
        """Cameras of one split, in its order."""
        return [self.views[i].camera for i in self.split[split]]

    def with_pinholes(self) -> Scene:
        """The same scene seen by pinhole cameras; photos of other lenses are resampled whenever they are looked at.

        Raises UserError for panoramas, which no plane can show.
        """
        views = [replace(v, camera=pinhole_camera(v.camera), lens=v.lens or bent(v.camera)) for v in self.views]
        copies = [new.camera for old, new in zip(self.views, views) if old.lens is None and new.lens is not None]
        notes = list(self.notes)
        if copies:
            size = f"{copies[0].width}×{copies[0].height}"
            notes.append(
                f"Photos are resampled to pinhole copies without the lens's distortion, the first to {size} px."
            )
        return replace(self, views=views, notes=notes)


Data = Scene | Shape | ShapeSet  # what has a place in space
Fitted = Data | Examples  # what a method is fitted to
