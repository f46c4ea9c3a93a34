"""Scene and View: what every method trains on, whatever the capture came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from neural3d.geometry.cameras import Camera
from neural3d.scene.images import read_image, read_mask


@dataclass
class View:
    """One photo and its camera.

    name: unique in the scene, as the capture calls it. camera: in the scene frame, at the loaded resolution.
    alpha: `image` has four channels. mask_as_alpha: the mask is the object's silhouette, and becomes the alpha channel.
    """

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None = None
    alpha: bool = False
    mask_as_alpha: bool = False

    def image(self) -> UInt8[np.ndarray, "H W channels"]:
        """Pixels, sRGB as stored, RGB or straight-alpha RGBA; decoded and area-averaged anew at each call.

        Raises UserError where the file is damaged.
        """
        width, height = self.camera.width, self.camera.height
        pixels = read_image(self.image_path, width, height, self.alpha)
        if self.mask_as_alpha and self.mask_path:
            pixels = np.dstack([pixels[..., :3], read_mask(self.mask_path, width, height)])
        return pixels

    def mask(self) -> UInt8[np.ndarray, "H W"] | None:
        """255 where the photo counts, 0 where it is to be ignored; None where all of it counts."""
        if self.mask_path is None or self.mask_as_alpha:
            return None
        coverage = read_mask(self.mask_path, self.camera.width, self.camera.height)
        return np.where(coverage >= 128, 255, 0).astype(np.uint8)


@dataclass
class Scene:
    """Views in a normalised frame, with what is known about the space they look at.

    views, split: `split["train"]` and `split["test"]` (maybe `"val"`) index views.
    aabb: the region of interest in the scene frame, inside [-1, 1]³ and touching it along its longest side.
    unbounded: photos show more than the aabb (a room, a street): methods contract or cascade space outside.
    near, far: distances along rays, in scene units, between which all is worth sampling.
    scene_from_capture: similarity from the capture's own frame and units; exports undo it. +z is up in the scene frame
        where the capture says or lets guess what is up.
    points: sparse points (N, 3) float32 in the scene frame and their colours (N, 3) uint8.
    background: what pictures with alpha are composited on, "white" or "black"; also the colour behind a bounded scene's
        opaque photos where the format says so; None: opaque photos.
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
    points: tuple[Float[np.ndarray, "N 3"], UInt8[np.ndarray, "N 3"]] | None = None
    has_alpha: bool = False
    background: str | None = None
    downscale: int = 1
    notes: list[str] = field(default_factory=list)
    method_settings: dict[str, dict] = field(default_factory=dict)

    def cameras(self, split: str = "train") -> list[Camera]:
        """Cameras of one split, in its order."""
        return [self.views[i].camera for i in self.split[split]]
