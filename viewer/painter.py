"""One way to paint every subject: a picture with depth and normals, from a camera, clipped to a box."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from neural3d.viewer.open import Render, Subject
from neural3d.viewer.solids import Clip, Cloud, Solid
from torch import Tensor

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.cameras import Camera
from neural3d.render import RenderOut
from neural3d.render.splats import render_splats

Paint = Callable[[Camera, Float[Tensor, "3"], Clip | None], RenderOut]


def painter(subject: Subject) -> Paint:
    """paint(camera, background, clip): the subject by our own renderers, on the CPU as float32."""
    if subject.meshes is not None:
        return Solid.of_meshes(subject.meshes).render
    if subject.points is not None:
        return Cloud(*subject.points).render
    if subject.render is None:
        return _nothing
    if subject.splats is not None:
        return _splat_painter(subject.render, subject.splats, subject.antialiased)
    return _field_painter(subject.render)


def _nothing(camera: Camera, background: Float[Tensor, "3"], clip: Clip | None = None) -> RenderOut:
    """A capture without points: only its cameras are to be seen."""
    size = (camera.height, camera.width)
    return RenderOut(background.float().expand(*size, 3), *(torch.zeros(*size, n) for n in (1, 1, 3)))


def _on_cpu(out: RenderOut) -> RenderOut:
    return RenderOut(*(x.float().cpu() for x in (out.rgb, out.alpha, out.depth, out.normal)))


def _field_painter(render: Render) -> Paint:
    def paint(camera: Camera, background: Float[Tensor, "3"], clip: Clip | None = None) -> RenderOut:
        out = _on_cpu(render(camera, background))
        if clip is None:
            return out
        origins, directions = camera.rays()
        along = directions @ camera.forward.float()
        surface = origins + directions * (out.depth[..., 0] / along)[..., None]
        keep = clip.inside(surface)[..., None] & (out.alpha > 0.5)
        return RenderOut(
            torch.where(keep, out.rgb, background), *(x * keep for x in (out.alpha, out.depth, out.normal))
        )

    return paint


def _splat_painter(render: Render, splats: Gaussians, antialiased: bool) -> Paint:
    kept: tuple[Clip, Gaussians] | None = None  # the last clip and what it holds

    def paint(camera: Camera, background: Float[Tensor, "3"], clip: Clip | None = None) -> RenderOut:
        nonlocal kept
        if clip is None:
            return _on_cpu(render(camera, background))
        if kept is None or kept[0] is not clip:
            kept = clip, splats.selected(clip.inside(splats.means))
        return _on_cpu(render_splats(kept[1], camera, background, antialiased=antialiased))

    return paint
