"""Which views are trained on and which are held out."""

from __future__ import annotations

import numpy as np

from neural3d.errors import UserError
from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions


def make_split(capture: Capture, options: SceneOptions) -> dict[str, list[int]]:
    """Indices of frames: the capture's own split, or every Nth by name held out (frames are then sorted by name)."""
    own = options.split == "capture" and any(f.split for f in capture.frames)
    split = _own(capture) if own else _every_nth(capture, options.split)
    if not split["train"]:
        raise UserError(
            f"{capture.path}: the training split is empty ({len(capture.frames)} photos in all); "
            "name training views or add photos."
        )
    if options.train_views:
        if options.train_views > len(split["train"]):
            count = len(split["train"])
            raise UserError(f"train_views = {options.train_views} but the split has {count} training views; lower it.")
        split["train"] = _spread(capture, split["train"], options.train_views)
    return split


def _spread(capture: Capture, views: list[int], count: int) -> list[int]:
    """So many of these views, from all around: the first one, then always the one farthest from all chosen."""
    places = np.stack([capture.frames[i].camera.world_from_camera[:3, 3].numpy() for i in views])
    chosen = [0]
    gap = np.full(len(views), np.inf)
    for _ in range(count - 1):
        gap = np.minimum(gap, np.linalg.norm(places - places[chosen[-1]], axis=1))
        gap[chosen] = -1  # cameras in one place too are chosen once each
        chosen.append(int(gap.argmax()))
    return [views[k] for k in sorted(chosen)]


def _own(capture: Capture) -> dict[str, list[int]]:
    split = {s: [i for i, f in enumerate(capture.frames) if f.split == s] for s in ("train", "test", "val")}
    if not split["val"]:
        del split["val"]
    if split["test"]:
        return split
    if "val" in split:
        split["test"] = split.pop("val")
        capture.notes.append("The capture has no test views; its validation views stand in.")
    else:
        indices = sorted(split["train"], key=lambda i: capture.frames[i].name)
        split = {"train": [i for k, i in enumerate(indices) if k % 8], "test": indices[::8]}
        capture.notes.append("The capture has no test views; every 8th training view by name is held out for testing.")
    return split


def _every_nth(capture: Capture, rule: str) -> dict[str, list[int]]:
    capture.frames.sort(key=lambda f: f.name)
    indices = list(range(len(capture.frames)))
    if rule == "none":
        return {"train": indices, "test": []}
    every = 8 if rule == "capture" else int(rule.partition(":")[2])
    capture.notes.append(f"Every {every}th photo by name is held out for testing.")
    return {"train": [i for i in indices if i % every], "test": indices[::every]}
