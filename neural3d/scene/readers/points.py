"""Points beside a file of cameras: the .ply to which a program exported its tie points, in the cameras' frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.files.clouds import read_cloud
from neural3d.geometry.bounds import every_nth
from neural3d.scene.capture import Capture, head_of

MOST = 200_000  # that are taken of a dense cloud
SAMPLE = 2000, 50  # points and cameras by which it is told whether they belong together
SEEN = 0.5  # share of the points that a photo must show


def adopt_cloud(capture: Capture, file: Path, matrix: Float[np.ndarray, "4 4"] | None = None) -> None:
    """Takes the first cloud in the file's folder that the capture's photos show as its points; notes tell.

    matrix: what the cameras were moved by since they were read. Meshes and splats are passed over.
    """
    for path in sorted(file.parent.glob("*.ply")):
        header = head_of(path).partition(b"end_header")[0]
        if b"element face" in header or b"element chunk" in header or b" scale_0" in header:
            continue
        try:
            cloud = read_cloud(path)
        except UserError as error:
            capture.notes.append(f"Points beside the cameras are not used: {error}")
            continue
        points = every_nth(cloud.points, MOST)
        if matrix is not None:
            points = points @ matrix[:3, :3].T + matrix[:3, 3]
        if (share := _seen(capture, points)) < SEEN:
            capture.notes.append(
                f"Points in {path.name} are not used: photos show {share:.0%} of them; export them in the coordinates "
                "of the cameras."
            )
            continue
        grey = np.full_like(points, 0.5)
        colors = grey if cloud.colors is None else every_nth(cloud.colors, MOST)
        capture.points = points, np.round(255 * colors).astype(np.uint8)
        capture.notes.append(f"{len(points):,} points are those of {path.name} beside.")
        return


def _seen(capture: Capture, points: Float[np.ndarray, "N 3"]) -> float:
    """Share of the points that are in a photo."""
    some = torch.from_numpy(np.ascontiguousarray(every_nth(points, SAMPLE[0])))
    seen = torch.zeros(len(some), dtype=torch.bool)
    for frame in every_nth(capture.frames, SAMPLE[1]):
        xy, z = frame.camera.project(some)
        size = torch.tensor([frame.camera.width, frame.camera.height])
        seen |= (z > 0) & ((xy >= 0) & (xy < size)).all(-1)
    return float(seen.double().mean())
