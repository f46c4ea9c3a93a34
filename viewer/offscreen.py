"""A picture of a subject without a window: `neural3d view … --screenshot`."""

from __future__ import annotations

from pathlib import Path

import torch
from neural3d.viewer.open import Subject
from neural3d.viewer.painter import painter
from neural3d.viewer.picture import Kind, depth_span, fitted, furnished, picture_of
from neural3d.viewer.state import State

from neural3d.disk import require_writable
from neural3d.errors import UserError
from neural3d.render.images import save_png


def save_screenshot(
    subject: Subject, path: Path, size: tuple[int, int], kind: Kind, background: tuple[float, float, float]
) -> None:
    """The viewer's first picture as a PNG. Raises UserError where it cannot be written."""
    check_screenshot(path, size)
    width, height = size
    state = State.of(subject, width / height)
    state.kind, state.background = kind, background
    shot = state.shot(width, height)
    fine = 2 if subject.meshes is not None else 1  # edges need several rays per pixel
    with torch.no_grad():
        out = painter(subject)(shot.camera.resized(fine * width, fine * height), shot.background, None)
    picture = fitted(picture_of(out, kind, depth_span(out.depth)), size)
    save_png(path, furnished(picture, out.depth[..., 0].numpy(), shot))


def check_screenshot(path: Path, size: tuple[int, int]) -> None:
    """Raises UserError for a name or a size that cannot be, or a place that cannot be written."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: screenshots are PNG files; name it {path.with_suffix('.png')}.")
    width, height = size
    if not (1 <= width <= 16384 and 1 <= height <= 16384):
        raise UserError(f"--size {width} {height}: each must be from 1 to 16384 pixels.")
    require_writable(path)
