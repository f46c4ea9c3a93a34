"""A part of a scene, for a run of its own: some ground, the photos that see it, and of each the window that does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from neural3d.errors import UserError
from neural3d.scene.scene import Scene, View


def part_of(scene: Scene, cell: Sequence[Sequence[float]], windows: Iterable[Sequence]) -> Scene:
    """The scene of a cell. Frame, bounds and depths stay those of the whole, so that cells fit together.

    cell, windows: as in `SceneOptions`. Nothing is held out: what the whole holds out is in no window.
    Raises UserError where a window is of no training photo, or not inside of its pinhole copy.
    """
    whole = scene.with_pinholes()
    views = {whole.views[i].name: whole.views[i] for i in whole.split["train"]}
    parts = []
    for name, *window in windows:
        if name not in views:
            raise UserError(f"{scene.path}: the cell asks for '{name}', which is no training photo; partition anew.")
        parts.append(cut(views[name], *window))
    if not parts:
        raise UserError(f"{scene.path}: the cell has no photos; partition anew into fewer cells.")
    split = {"train": list(range(len(parts))), "test": []}
    return replace(whole, views=parts, split=split, cell=torch.tensor(cell, dtype=torch.float32))


def cut(view: View, left: int, top: int, right: int, bottom: int) -> View:
    """A window of a view that a pinhole camera sees. Raises UserError where it is not inside."""
    camera = view.camera
    if right > camera.width or bottom > camera.height:
        raise UserError(
            f"{view.image_path}: a window ends at {right}, {bottom} of {camera.width}×{camera.height} px; partition "
            "anew, or put the photo back in its size."
        )
    params = camera.params - camera.params.new_tensor([0, 0, left, top])
    lens = view.lens or camera
    return replace(view, camera=replace(camera, width=right - left, height=bottom - top, params=params), lens=lens)
