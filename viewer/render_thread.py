"""The thread that renders: coarse while the camera moves, finer and finer at rest, never in the window's way.

A request replaces the one before it; work on an older one is abandoned at the next tile.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from neural3d.viewer.camera import tile
from neural3d.viewer.memory import Memory, warped_size
from neural3d.viewer.painter import Paint
from neural3d.viewer.picture import Shot, depth_span, error_picture, fitted, furnished, photo_pixels, picture_of

from neural3d.geometry.lenses import lens_of
from neural3d.render import RenderOut
from neural3d.scene import View

if TYPE_CHECKING:
    from neural3d.viewer.live import Live

FRAME = 0.05  # seconds from one moving picture to the next, the window's drawing included
SETTLE = 0.15  # seconds without a request after which the camera counts as resting
TILE = 0.06  # seconds per tile of a refinement: how long a new request may have to wait
SHOW = 0.4  # seconds between pictures of a refinement
SMOOTH = 2.0  # seconds that smoothing the finished picture, by four pixels for one, may take
COARSEST = 1 / 20  # of the picture's side
FINER = 3.0  # from one refinement to the next, of the side
KEEPSAKE = 0.35  # of the side: pictures at least as fine are remembered
LIVE = 0.5  # seconds of painting that a picture of what changes under way may take
FAMILIAR = 0.6  # of a moving picture's pixels that are remembered, for it to need no refinement but the last


@dataclass(frozen=True)
class Frame:
    """A finished picture, or one on its way.

    scale: rendered side over the picture's. done: nothing finer will come. note: what went wrong, or the PSNR.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "h w"]
    shot: Shot
    scale: float
    seconds: float
    done: bool
    note: str = ""


class RenderThread(threading.Thread):
    """Paints the latest Shot and hands each Frame to `show`, on this thread; `show` may wait for the window."""

    def __init__(
        self,
        paint: Paint,
        show: Callable[[Frame], None],
        smooth: bool = False,
        remember: bool = False,
        live: Live | None = None,
    ):
        """smooth: finished pictures get four pixels for one, as edges of meshes need. remember: while moving, show what
        the last sharp picture knows; for renderers that are too slow for more than a blur. live: what changes under
        way; its picture at rest is painted anew, as large as LIVE allows."""
        super().__init__(name="neural3d-render", daemon=True)
        self._paint, self._show, self._smooth = paint, show, smooth
        self._condition = threading.Condition()
        self._wanted: Shot | None = None
        self._turn = self._taken = 0  # of the latest request, of the one in work
        self._stopping = False
        self._moving_scale = 0.2 if live is None else 0.1  # adapts to FRAME; untrained fields are slow
        self._presented, self._pressed = 0.0, False  # when the last moving picture was, and if the next was due already
        self._remember, self._live = remember, live
        self._clock = time.perf_counter if live is None else live.clock
        self._version = -1  # of what is live, when it was painted last
        self._rest = 0.0 if live is None else live.pause(0.0)  # seconds until the next look at it
        self._painted: tuple[RenderOut, Shot, tuple[float, float] | None] | None = None  # to be painted anew
        self._threads = torch.get_num_threads()
        self._kept: tuple[Memory, Shot] | None = None  # the last sharp picture, and what it was of
        self._coarse = 1, 0.0  # pixels and seconds of the last moving picture
        self._enough = 0.0  # pixels of a moving picture, fewer of which would hardly be faster
        self._fixed, self._pace = 0.0, 1e-6  # seconds that any picture costs, and each of its pixels
        self._photo: tuple[View, tuple[int, int], np.ndarray] | None = None  # the last one an error was against

    def request(self, shot: Shot) -> None:
        """Render this next and forget what went before."""
        with self._condition:
            self._turn += 1
            self._wanted = replace(shot, turn=self._turn)
            self._condition.notify()

    def stop(self) -> None:
        """Ends after the tile in progress, and waits for that."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        while (shot := self._next()) is not None:
            try:
                self._develop(shot)
            except Exception as error:  # a renderer's failure must not end the window; it is shown there
                blank = np.full((shot.size[1], shot.size[0], 3), 255, np.uint8)
                self._show(Frame(blank, np.zeros((1, 1)), shot, 0.0, 0.0, True, f"{error or type(error).__name__}"))

    def _next(self) -> Shot | None:
        """Waits for a request, or until what is live has changed; None: there will be none."""
        while True:
            with self._condition:
                rest = None if self._live is None else self._rest
                asked = self._condition.wait_for(lambda: self._stopping or self._turn != self._taken, rest)
                self._taken = self._turn
                if self._stopping:
                    return None
                if asked:
                    self._painted = None
                    return self._wanted
            if self._wanted is not None and self._live is not None and self._live.version() != self._version:
                return self._wanted

    def _newer(self, shot: Shot, wait: float = 0.0) -> bool:
        """Whether this shot is out of date, or becomes so within `wait` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._stopping or self._turn != shot.turn, wait)

    def _develop(self, shot: Shot) -> None:
        started = self._clock()
        if self._live is not None:
            self._version = self._live.version()
            if self._painted is not None and self._painted[1] is shot:
                return self._renew()
        elif self._threads > 1:
            torch.set_num_threads(self._threads - 1)  # the window needs one core to draw what moves
        width, height = shot.camera.width, shot.camera.height
        w, h = self._part(width, self._moving_scale), self._part(height, self._moving_scale)
        out = self._paint(shot.camera.resized(w, h), shot.background, shot.clip)
        seconds = self._clock() - started
        self._coarse = w * h, seconds
        if seconds > FRAME:
            self._enough = 0.0  # what was learnt of the overhead does not hold
        self._fixed, self._pace = 0.8 * seconds, 0.2 * seconds / (w * h)  # until a larger tile tells
        span = depth_span(out.depth)
        out, familiar = self._recalled(out, shot)
        self._present(out, shot, span, seconds, w / width)
        self._adapt(seconds, max(COARSEST, min(0.25, math.sqrt(self._enough / (width * height)))))
        self._pressed = self._newer(shot)
        if self._newer(shot, SETTLE):
            return
        if self._live is None:
            torch.set_num_threads(self._threads)
        for scale in self._scales(w / width, shot, familiar):
            if scale > 1 and self._fixed + 4 * width * height * self._pace > SMOOTH:
                break
            finer = self._refine(out, shot, scale, span)
            if finer is None:
                return
            out = finer
        self._present(out, shot, span, self._clock() - started, done=True)
        if self._live is not None:
            self._calm(out, shot, span, self._clock() - started)

    def _renew(self) -> None:
        """The last picture again, over itself, of what has changed since."""
        assert self._painted is not None
        out, shot, span = self._painted
        started = self._clock()
        scale = self._affordable(shot) if self._live is not None and self._live.busy() else 1.0
        finer = self._refine(out, shot, scale, span)
        if finer is not None:
            span = depth_span(finer.depth)
            self._present(finer, shot, span, self._clock() - started, done=True)
            self._calm(finer, shot, span, self._clock() - started)

    def _calm(self, out: RenderOut, shot: Shot, span: tuple[float, float] | None, seconds: float) -> None:
        """Remembers what is shown of something live, and how long to leave it alone."""
        assert self._live is not None
        self._painted, self._rest = (out, shot, span), self._live.pause(seconds)

    def _affordable(self, shot: Shot) -> float:
        """The scale at which a picture of what is live takes LIVE seconds, or longer where half would be overhead."""
        pixels = max(LIVE - self._fixed, self._fixed) / self._pace
        return min(1.0, max(COARSEST, math.sqrt(pixels / (shot.camera.width * shot.camera.height))))

    def _scales(self, scale: float, shot: Shot, familiar: bool) -> Iterator[float]:
        """Of the refinements after a moving picture."""
        if self._live is not None and self._live.busy():
            yield self._affordable(shot)
            return
        while not familiar and (scale := scale * FINER) < 0.7:
            yield scale
        yield 1.0
        if self._smooth and shot.kind == "rgb":
            yield 2.0

    def _recalled(self, coarse: RenderOut, shot: Shot) -> tuple[RenderOut, bool]:
        """A moving picture with what is remembered in it, and whether that is most of it."""
        kept, size = self._kept, warped_size(shot.camera)
        if kept is None or shot.kind != "rgb" or size[0] <= coarse.rgb.shape[1]:
            return coarse, False
        memory, of = kept
        if of.clip is not shot.clip or not torch.equal(of.background, shot.background):
            return coarse, False
        out = resized(coarse, *size)
        return out, memory.fill(out, shot.camera.resized(*size)) > FAMILIAR

    def _adapt(self, seconds: float, least: float) -> None:
        """Another size for moving pictures, in small steps: one slow picture says little."""
        now = self._clock()
        # Of pictures in a row all counts, the wait for the window too; of one alone only what rendering it took.
        took = now - self._presented if self._pressed else 2 * seconds
        self._presented = now
        step = min(1.4, max(0.6, math.sqrt(FRAME / max(took, 1e-4))))
        self._moving_scale = min(1.0, max(least, self._moving_scale * step))

    @staticmethod
    def _part(size: int, scale: float) -> int:
        return max(1, round(size * scale))

    def _refine(
        self, coarse: RenderOut, shot: Shot, scale: float, span: tuple[float, float] | None
    ) -> RenderOut | None:
        """The whole picture at `scale`, over a coarser one, tile by tile from the top; None: abandoned."""
        width, height = self._part(shot.camera.width, scale), self._part(shot.camera.height, scale)
        camera = shot.camera.resized(width, height)
        out = resized(coarse, width, height)
        shown = started = self._clock()
        y = 0
        while y < height:
            if self._newer(shot):
                return None
            part = min(self._rows(width), height - y) if "cx" in lens_of(camera.model).names else height
            whole = part == height
            begun = self._clock()
            strip = self._paint(camera if whole else tile(camera, 0, y, width, part), shot.background, shot.clip)
            for name in ("rgb", "alpha", "depth", "normal"):
                getattr(out, name)[y : y + part] = getattr(strip, name)
            self._learn(part * width, self._clock() - begun)
            y += part
            if self._clock() - shown > SHOW and y < height:
                self._present(out, shot, span, self._clock() - started)
                shown = self._clock()
        if self._remember and shot.kind == "rgb" and scale >= KEEPSAKE:
            self._kept = Memory.of(out, shot.camera), shot
        if scale <= 1:
            self._present(out, shot, span, self._clock() - started)
        return out

    def _rows(self, width: int) -> int:
        """Of a tile that takes TILE seconds, and longer where more than half of that would be overhead."""
        pixels = max(TILE - self._fixed, self._fixed) / self._pace
        return max(1, round(pixels / width))

    def _learn(self, pixels: int, seconds: float) -> None:
        """Overhead and time per pixel, from a tile and the moving picture: splats cost before the first pixel."""
        few, short = self._coarse
        if pixels > 2 * few:
            self._pace = max(1e-9, (seconds - short) / (pixels - few))
            self._fixed = max(0.0, seconds - self._pace * pixels)
            self._enough = 0.25 * self._fixed / self._pace

    def _photo_of(self, shot: Shot) -> Float[np.ndarray, "h w 3"]:
        assert shot.photo is not None
        size = (shot.camera.width, shot.camera.height)
        if self._photo is None or self._photo[0] is not shot.photo or self._photo[1] != size:
            self._photo = shot.photo, size, photo_pixels(shot.photo, shot.camera, shot.background)
        return self._photo[2]

    def _present(
        self,
        out: RenderOut,
        shot: Shot,
        span: tuple[float, float] | None,
        seconds: float,
        scale: float | None = None,
        done: bool = False,
    ) -> None:
        """scale: None: the rendering's own."""
        width, height = shot.camera.width, shot.camera.height
        scale = out.rgb.shape[1] / width if scale is None else scale
        depth = out.depth[..., 0].numpy()
        note = ""
        if shot.kind == "error" and shot.photo is not None:
            whole = out if out.rgb.shape[1] == width else resized(out, width, height)
            picture, score = error_picture(whole, self._photo_of(shot), shot)
            note = f"{score:.2f} dB at {width} × {height}" if done else ""
        else:
            picture = furnished(fitted(picture_of(out, shot.kind, span), shot.size), depth, shot)
        self._show(Frame(picture, depth, shot, scale, seconds, done, note))


def resized(out: RenderOut, width: int, height: int) -> RenderOut:
    """A stand-in until the real pixels come: smooth colours, the rest from the nearest pixel. A copy."""
    rows = torch.arange(height) * out.rgb.shape[0] // height
    columns = torch.arange(width) * out.rgb.shape[1] // width
    rgb = torch.nn.functional.interpolate(out.rgb.permute(2, 0, 1)[None], (height, width), mode="bilinear")
    near = (x[rows][:, columns] for x in (out.alpha, out.depth, out.normal))
    return RenderOut(rgb[0].permute(1, 2, 0).contiguous(), *near)
