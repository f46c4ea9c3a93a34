"""Where batches come from: pixels of the training photos, as rays with colours, or whole photos."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Cameras

if TYPE_CHECKING:
    from neural3d.scene import Scene, View


class Source(Protocol):
    """Gives the trainer its batches; whatever of it changes while drawing is in `state`, for exact resume."""

    unit: str  # what batches are counted in: rays, points

    def draw(self, count: int, generator: torch.Generator) -> Any:
        """The next batch. count: how many rays are wanted, where the source counts in rays."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `load_state` takes back."""

    def load_state(self, state: dict[str, Any]) -> None: ...


@dataclass
class RayBatch:
    """R rays of the training photos, in the scene frame; directions have unit length."""

    origins: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]
    rgb: Float[Tensor, "R 3"]  # straight (not multiplied by alpha), sRGB as stored
    alpha: Float[Tensor, "R 1"] | None  # None: opaque photos
    view: Int[Tensor, "R"]  # index into the training views
    xy: Float[Tensor, "R 2"]  # pixel position

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def overexposed(self) -> Bool[Tensor, "R 3"]:
        """Channels of the subject of which the photo only knows that they are bright."""
        return (self.rgb > 0.99) & (True if self.alpha is None else self.alpha > 0.5)


class ImageSource:
    """Draws pixels uniformly, with replacement, from all unmasked pixels of the training views.

    All pixels are held as uint8 in one flat tensor; the scene's downscale keeps that within memory.
    """

    unit = "rays"

    def __init__(self, scene: Scene, device: torch.device):
        self.views = [scene.views[i] for i in scene.split["train"]]
        self.cameras = Cameras.stack([v.camera for v in self.views]).to(device)
        sizes = torch.tensor([v.camera.width * v.camera.height for v in self.views])
        self.first = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).to(device)
        self.widths = torch.tensor([v.camera.width for v in self.views], device=device)
        self._same_size = len({(v.camera.width, v.camera.height) for v in self.views}) == 1

        channels = 4 if scene.has_alpha else 3
        pixels = np.full((int(sizes.sum()), channels), 255, np.uint8)
        kept = np.ones(len(pixels), bool)

        def decode(i: int) -> bool:
            """Writes view i's pixels and mask in place; True where it has a mask."""
            mine = slice(int(self.first[i]), int(self.first[i + 1]))
            image, mask = self.views[i].image(), self.views[i].mask()
            pixels[mine, : image.shape[-1]] = image.reshape(-1, image.shape[-1])[:, :channels]
            if mask is not None:
                kept[mine] = mask.reshape(-1) > 127
            return mask is not None

        with ThreadPoolExecutor(max_workers=4) as pool:  # decoding releases the interpreter
            masked = any(list(pool.map(decode, range(len(self.views)))))
        if not kept.any():
            raise UserError(f"{scene.path}: the masks hide every pixel; white (255) must mark what to keep.")
        self.pixels = torch.from_numpy(pixels).to(device)
        self.kept = torch.from_numpy(np.flatnonzero(kept)).to(device) if masked else None

    def draw(self, count: int, generator: torch.Generator) -> RayBatch:
        """`count` random pixels as rays."""
        device = self.pixels.device
        if self.kept is None:
            pixel = torch.randint(len(self.pixels), (count,), generator=generator, device=device)
        else:
            pixel = self.kept[torch.randint(len(self.kept), (count,), generator=generator, device=device)]
        return self.rays(pixel)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass

    def rays(self, pixel: Int[Tensor, "R"]) -> RayBatch:
        """The rays of given pixels: indices into `pixels`."""
        if self._same_size:
            view = torch.div(pixel, int(self.first[1]), rounding_mode="floor")
        else:
            view = torch.searchsorted(self.first, pixel, right=True) - 1
        within = pixel - self.first[view]
        width = self.widths[view]
        xy = torch.stack([within % width, torch.div(within, width, rounding_mode="floor")], -1) + 0.5
        origins, directions, _ = self.cameras.rays(view, xy)
        colour = self.pixels[pixel].float() / 255
        alpha = colour[:, 3:] if colour.shape[1] == 4 else None
        return RayBatch(origins, directions, colour[:, :3], alpha, view, xy)


@dataclass
class PhotoBatch:
    """One whole training photo, `shrink` times smaller than its camera says: a pixel is the mean of shrink²."""

    view: int  # index into the training views
    rgb: Float[Tensor, "H W 3"]  # straight (not multiplied by alpha), sRGB as stored
    alpha: Float[Tensor, "H W 1"] | None  # None: opaque photos
    kept: Bool[Tensor, "H W 1"] | None  # which pixels count; None: all
    shrink: int = 1

    def __len__(self) -> int:
        return self.rgb.shape[0] * self.rgb.shape[1]


class PhotoSource:
    """Draws whole training photos, each once per epoch, in an order shuffled anew for every epoch.

    Photos are held as uint8; the scene's downscale keeps that within memory.
    """

    unit = "rays"

    def __init__(self, scene: Scene, device: torch.device):
        self.views = [scene.views[i] for i in scene.split["train"]]
        self.left: list[int] = []  # views of this epoch still to come, the next one last
        channels = 4 if scene.has_alpha else 3

        def decode(view: View) -> tuple[Tensor, Tensor | None]:
            image, mask = view.image(), view.mask()
            if image.shape[2] < channels:
                image = np.dstack([image, np.full_like(image[..., :1], 255)])
            pixels = torch.from_numpy(np.array(image[..., :channels])).to(device)
            return pixels, None if mask is None else torch.from_numpy(mask[..., None] > 127).to(device)

        first = decode(self.views[0])  # alone: what photos of one lens share is then ready for the others
        with ThreadPoolExecutor(max_workers=4) as pool:  # decoding releases the interpreter
            self.photos = [first, *pool.map(decode, self.views[1:])]
        self.small: dict[int, tuple[int, Tensor, Tensor | None]] = {}  # by view: how often smaller, and its pixels
        if all(kept is not None and not kept.any() for _, kept in self.photos):
            raise UserError(f"{scene.path}: the masks hide every pixel; white (255) must mark what to keep.")

    def draw(self, count: int, generator: torch.Generator) -> PhotoBatch:
        """The next photo, halved until it has at most `count` pixels."""
        if not self.left:
            self.left = torch.randperm(len(self.views), generator=generator, device=generator.device).tolist()
        view = self.left.pop()
        pixels, shrink = self.photos[view][0].shape[0] * self.photos[view][0].shape[1], 1
        while pixels > count * shrink**2:
            shrink *= 2
        return self.photo(view, shrink)

    def photo(self, view: int, shrink: int = 1) -> PhotoBatch:
        """The photo of a training view."""
        if shrink == 1:
            self.small.pop(view, None)
            pixels, kept = self.photos[view]
        else:
            if view not in self.small or self.small[view][0] != shrink:
                self.small[view] = shrink, *reduced(*self.photos[view], shrink)
            _, pixels, kept = self.small[view]
        colour = pixels * (1 / 255)
        return PhotoBatch(view, colour[..., :3], colour[..., 3:] if colour.shape[2] == 4 else None, kept, shrink)

    def state(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_state(self, state: dict[str, Any]) -> None:
        self.left = list(state["left"])


def reduced(
    pixels: UInt8[Tensor, "H W C"], kept: Bool[Tensor, "H W 1"] | None, by: int
) -> tuple[UInt8[Tensor, "h w C"], Bool[Tensor, "h w 1"] | None]:
    """Means of by × by pixels, of those with alpha weighted by it; kept where all of them are. A rest is cut off."""

    def blocks(x: Tensor) -> Tensor:
        height, width = (n // by for n in x.shape[:2])
        return x[: height * by, : width * by].reshape(height, by, width, by, -1)

    small = blocks(pixels).float()
    if pixels.shape[2] == 4:
        alpha = small[..., 3:]
        total = alpha.sum((1, 3))
        colour = (small[..., :3] * alpha).sum((1, 3)) / total.clamp(min=1)
        small = torch.cat([colour, total / by**2], -1)
    else:
        small = small.mean((1, 3))
    return small.round().to(torch.uint8), None if kept is None else blocks(kept).all(3).all(1)
