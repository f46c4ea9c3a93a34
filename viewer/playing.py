"""Bodies that move: a clip on the free body, a mesh with a skeleton and an animation, or a body model at rest."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from jaxtyping import Float, Int
from neural3d.viewer.live import Live
from neural3d.viewer.open import Subject
from torch import Tensor

from neural3d.body import load_model
from neural3d.body.clips import read_motion
from neural3d.body.doctor import describe_model, describe_motion, is_model, is_motion
from neural3d.body.film import LAMP, draw
from neural3d.body.retarget import retarget
from neural3d.body.rigged import posed_frames, shaped
from neural3d.body.skinned import is_moving, read_moving
from neural3d.geometry.cameras import Camera
from neural3d.geometry.outline import cloud_outline
from neural3d.render import RenderOut

RATE = 30.0  # pictures a second at most
TO_Z_UP = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # from +Y up and facing +Z


class Playing(Live):
    """Frames of a body, shown by the clock and over again. vertices: in the subject's frame."""

    def __init__(self, vertices: Float[Tensor, "T V 3"], faces: Int[Tensor, "F 3"], rate: float):
        self.vertices, self.faces, self.rate = vertices, faces, rate
        self._began, self._frame = time.monotonic(), 0

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        out = draw(self.vertices[self._frame % len(self.vertices)], self.faces, camera, TO_Z_UP @ LAMP)
        behind = torch.ones(3) if background is None else background
        return RenderOut(out.rgb + (1 - out.alpha) * behind, out.alpha, out.depth, out.normal)

    def version(self) -> int:
        """The number of the frame that is due, which is what `render` draws from now on: a picture shows one moment."""
        self._frame = int((time.monotonic() - self._began) * self.rate)
        return self._frame

    def status(self) -> str:
        return f"{self._frame % len(self.vertices) / self.rate:.1f} of {len(self.vertices) / self.rate:.1f} s"

    def pause(self, seconds: float) -> float:
        return max(1 / RATE - seconds, 0.001)


def open_body(path: Path) -> Subject | None:
    """A clip on the free body, an animated mesh, or a body model; None where the file holds none of these.

    Raises UserError where it is damaged, or the clip does not suit a body.
    """
    if is_model(path):
        body = shaped(load_model(str(path), near={}), {})
        frames, faces, rate, facts = body.template[None], body.faces, 1.0, describe_model(path)
    elif is_motion(path):
        motion = read_motion(path)
        body = shaped(load_model("anny", near={}), {})
        own = retarget(motion, body.skeleton(), float(body.template[:, 1].min()))
        frames, faces, rate, facts = posed_frames(body, own), body.faces, own.rate, describe_motion(motion)
    elif is_moving(path):
        moving = read_moving(path)
        frames, faces, rate = moving.vertices, moving.faces, moving.rate
        facts = [("frames", moving.summary())]
    else:
        return None
    turned = frames @ TO_Z_UP.T
    low, high = turned.amin((0, 1)), turned.amax((0, 1))
    half, middle = (high - low).max() / 2, (high + low) / 2
    capture_from_scene = torch.eye(4, dtype=torch.float64)
    capture_from_scene[:3, :3] = half * TO_Z_UP.T
    capture_from_scene[:3, 3] = TO_Z_UP.T @ middle
    playing = Playing((turned - middle) / half, faces, rate)
    return Subject(
        kind="field",
        name=path.name,
        path=path,
        aabb=(torch.stack([low, high]) - middle) / half,
        outline=cloud_outline(playing.vertices[:: max(1, len(frames) // 20)].reshape(-1, 3)),
        capture_from_scene=capture_from_scene,
        render=playing.render,
        live=playing if len(frames) > 1 else None,
        facts=[row for row in facts if row[0] in ("template", "frames", "joints")],
    )
