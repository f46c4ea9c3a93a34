"""What silhouettes say: batches for methods that carve, and the visual hull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from torch import Tensor

from neural3d.data.rays import ImageSource, RayBatch
from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera

if TYPE_CHECKING:
    from neural3d.scene import Scene, View


HULL_PIXELS = 400  # longer side of the photos whose silhouettes make a visual hull
SPECK = 0.05  # of the largest bright piece's area; smaller ones may be reflections


class SilhouetteSource(ImageSource):
    """Draws as many rays through the subject as past it; their `alpha` is 1 or 0.

    A pixel shows the subject where its alpha is at least half. Opaque photos before a nearly black background: where
    its brightest channel exceeds `threshold`, 0 to 1, after closing gaps narrower than a hundredth of the photo, such
    as dark cracks; the background is darker than half of that. What lies between, as shadows and folds of dark cloth
    do, may be either and is not drawn, nor are bright specks, nor pixels that a mask hides.
    Raises UserError where neither alpha nor a threshold tells the subject from the rest, or one of the two is nowhere.
    """

    def __init__(self, scene: Scene, device: torch.device, threshold: float = 0.0):
        if not scene.has_alpha and not threshold:
            raise UserError(_remedy(scene))
        super().__init__(scene, device)
        if scene.has_alpha:
            self.subject = self.pixels[:, 3] > 127
            background = ~self.subject
        else:
            self.subject, background = self._brighter(threshold), self._brightness() < 127.5 * threshold
        drawn = torch.ones_like(background)
        if self.kept is not None:
            drawn = torch.zeros_like(drawn).index_fill(0, self.kept, True)
        self.through, self.past = (where.nonzero()[:, 0] for where in (drawn & self.subject, drawn & background))
        if not len(self.through) or not len(self.past):
            raise UserError(
                f"{scene.path}: {'no' if not len(self.through) else 'every'} pixel shows the subject, by "
                + ("alpha; check the pictures." if scene.has_alpha else f"mask_threshold={threshold:g}; change it.")
            )

    def _brightness(self) -> UInt8[Tensor, "P"]:
        return self.pixels.amax(-1)

    def _brighter(self, threshold: float) -> Bool[Tensor, "P"]:
        parts = []
        brightness = self._brightness().cpu().numpy()
        for i, view in enumerate(self.views):
            photo = brightness[int(self.first[i]) : int(self.first[i + 1])]
            bright = photo.reshape(view.camera.height, view.camera.width) > 255 * threshold
            radius = max(1, max(bright.shape) // 200)
            padded = np.pad(bright, radius)  # room to grow into before shrinking: the subject may touch the rim
            disk = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius + 0.5
            closed = ndimage.binary_closing(padded, disk)[radius:-radius, radius:-radius]
            pieces, count = ndimage.label(closed)
            size = np.bincount(pieces.ravel(), minlength=count + 1)
            size[0] = 0
            parts.append(torch.from_numpy((size > SPECK * size.max())[pieces].reshape(-1)))
        return torch.cat(parts).to(self.pixels.device)

    def draw(self, count: int, generator: torch.Generator) -> RayBatch:
        """`count` random pixels as rays: the first half through the subject."""

        def some(where: Tensor, n: int) -> Tensor:
            return where[torch.randint(len(where), (n,), generator=generator, device=where.device)]

        return self.rays(torch.cat([some(self.through, count // 2), some(self.past, count - count // 2)]))

    def rays(self, pixel: Int[Tensor, "R"]) -> RayBatch:
        batch = super().rays(pixel)
        batch.alpha = self.subject[pixel, None].float()
        return batch


def visual_hull(views: list[View], x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Signed distance, in scene units and negative inside, to the largest solid with these photos' silhouettes.

    (Laurentini, "The visual hull concept for silhouette-based image understanding", PAMI 1994.) In view v a point is as
    far from the cone through the silhouette as its pixel is from the rim, positive outside, times a pixel's width at
    the point's depth: d_v. The hull's distance is max_v d_v: its sign is right, and it is never farther from 0 than the
    true one is, up to the slant of rays off the middle of the photo. A photo whose rim shows nothing of the subject
    shows all of it: beside such a photo is outside as well, or the hull would have a spike towards each camera, where
    no other looks. What no photo tells is outside, as far from the hull as from the nearest of these points that is
    in it. Photos without alpha say nothing.
    """
    most = torch.full_like(x[:, 0], -torch.inf)
    for view in views:
        shrink = max(1.0, max(view.camera.width, view.camera.height) / HULL_PIXELS)
        view = view.resized(round(view.camera.width / shrink), round(view.camera.height / shrink))
        pixels, camera = view.image(), view.camera
        if pixels.shape[-1] == 4:
            inside = pixels[..., 3] > 127
            whole = bool(inside.any() and not (inside[[0, -1]].any() or inside[:, [0, -1]].any()))
            rim = torch.from_numpy(_rim_distance(inside)).to(x.device)
            xy, z = camera.project(x)
            place = 2 * xy / xy.new_tensor([camera.width, camera.height]) - 1  # [-1, 1]² is the photo
            d = torch.nn.functional.grid_sample(
                rim[None, None], place[None, None], padding_mode="border", align_corners=False
            ).view(-1) * (_pixel_width(camera) * z)  # fmt: skip
            d = torch.where(z > 0, d, 1.0)
            shown = (z > 0) & (place.abs() < 1).all(-1) | whole
            most = torch.where(shown, torch.maximum(most, d), most)
    untold, within = ~most.isfinite(), most < 0
    most[untold] = 1.0
    if untold.any() and within.any():
        from scipy.spatial import cKDTree

        nearest = cKDTree(x[within].cpu().numpy()).query(x[untold].cpu().numpy())[0]
        most[untold] = torch.from_numpy(nearest).to(most)
    return most


def _rim_distance(inside: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Of pixel centres to the rim, in pixels; negative inside. Half a pixel for those beside it."""
    out = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    return (out - np.sign(out) / 2).astype(np.float32)


def _pixel_width(camera: Camera) -> float:
    """Of a pixel in the middle of the photo, at depth 1."""
    middle = torch.tensor([[camera.width, camera.height]]).double() / 2
    here, beside = (camera.rays(middle + step)[1][0].double() for step in (0, 1))
    return float(torch.linalg.cross(here, beside).norm()) / np.sqrt(2)


def _remedy(scene: Scene) -> str:
    masks = any(view.mask_path is not None for view in scene.views)
    remedy = (
        "its masks hide what is to be ignored; if they are silhouettes of the subject, say so with "
        "--set scene.masks=alpha"
        if masks
        else "give pictures with alpha or a folder masks/ beside the photos (white: the subject) with "
        "--set scene.masks=alpha"
    )
    return (
        f"{scene.path}: nothing tells the subject from its background: {remedy}; before a nearly black background, "
        "--set mask_threshold=0.2 makes masks from brightness. Without masks, neus finds the surface."
    )
