"""What the tests of other programs' files share: a small world, cameras that see it, photos, and random damage.

Each test writes a file in its program's layout, and computes by that program's own formulas where points of the world
are in the pictures; nothing here knows what a reader does.
"""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import HEIGHT, WIDTH, cloud, ring, write_picture

from neural3d.errors import UserError
from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers import open_capture

SIZE = WIDTH, HEIGHT
POINTS = cloud()
UP = (0.4, -0.7, 0.5)  # not an axis: a level camera has no roll, and shows no mistake of it
POSES = [camera.world_from_camera.numpy() for camera in ring(count=6, up=UP)]  # OpenCV's camera frame
NAMES = [f"{i:03d}.png" for i in range(len(POSES))]


def write_photos(folder: Path, names=NAMES, size=SIZE) -> None:
    for i, name in enumerate(names):
        write_picture(folder / name, i, size)


def camera_from_world(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pose[:3, :3].T, -pose[:3, :3].T @ pose[:3, 3]


def seen_from(pose: np.ndarray, points: np.ndarray = POINTS) -> np.ndarray:
    """Points in the camera frame."""
    return (points - pose[:3, 3]) @ pose[:3, :3]


def read(path: Path, **options) -> Capture:
    return open_capture(path, SceneOptions(**options))


def check_pixels(capture: Capture, expected: dict[str, np.ndarray], points=POINTS, atol: float = 1e-6) -> None:
    """The capture's cameras show the points where they are expected, in front of them; and there are no others."""
    assert {frame.name for frame in capture.frames} == set(expected)
    for frame in capture.frames:
        xy, z = frame.camera.project(torch.from_numpy(points))
        assert (z > 0).all()
        np.testing.assert_allclose(xy.numpy(), expected[frame.name], atol=atol)


def check_damage(file: Path, rounds: int = 150) -> None:
    """A file that is cut off, or where characters are others, is read or refused in words: nothing else happens."""
    whole, chance = file.read_bytes(), random.Random(0)
    for _ in range(rounds):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.choice(
                [b"", b"9", b"-", b"nan", b"e", b"[", b'"', b"<", b"\xff"]
            )
        file.write_bytes(bytes(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data))
        try:
            read(file)
        except UserError as error:
            assert str(file.parent) in str(error)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        read(file)
