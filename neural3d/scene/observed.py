"""What points the photos of a COLMAP capture show, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neural3d.scene.readers.colmap import find_model, read_observations

if TYPE_CHECKING:
    from neural3d.scene.scene import Scene

Observed = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # see colmap.read_observations


def observed_points(scene: Scene) -> Observed:
    """`read_observations` of the COLMAP model whose points the scene has; nothing where it has no such."""
    folder = find_model(scene.path if scene.path.is_dir() else scene.path.parent)
    if folder is None or scene.points is None or any("brought into" in note for note in scene.notes):
        return {}
    return read_observations(folder)
