"""Bundler's manual, "Output format and scene representation", spelt out, says where points must be."""

import numpy as np
import pytest
from captures import HEIGHT, WIDTH
from exporters import NAMES, POINTS, POSES, camera_from_world, check_damage, check_pixels, read, write_photos

from neural3d.errors import UserError
from neural3d.loading import load_scene

F, K1, K2 = 61.0, 0.1, -0.05
BUNDLERS = np.diag([1.0, -1.0, -1.0])  # x right, y up, z out of the scene
COLOURS = np.arange(3 * len(POINTS)).reshape(-1, 3) % 256


def pixels(pose: np.ndarray, frame=BUNDLERS) -> np.ndarray:
    """P = R X + t, p = −P / P.z, p' = f (1 + k1 |p|² + k2 |p|⁴) p from the picture's middle, upwards."""
    rotation, t = camera_from_world(pose)
    p = POINTS @ (frame @ rotation).T + frame @ t
    p = -p[:, :2] / p[:, 2:] if frame is BUNDLERS else p[:, :2] / p[:, 2:] * [1, -1]
    r2 = (p**2).sum(1, keepdims=True)
    p = F * (1 + K1 * r2 + K2 * r2**2) * p
    return np.stack([WIDTH / 2 + p[:, 0], HEIGHT / 2 - p[:, 1]], 1)


def write(root, frame=BUNDLERS, unplaced=(), listing="list.txt", at="bundle.out"):
    lines = ["# Bundle file v0.3", f"{len(POSES)} {len(POINTS)}"]
    seen = {}
    for i, pose in enumerate(POSES):
        rotation, t = camera_from_world(pose)
        numbers = [[F, K1, K2], *(frame @ rotation), frame @ t]
        if i in unplaced:
            numbers = np.zeros((5, 3))
        else:
            seen[i] = pixels(pose, frame) - [WIDTH / 2, HEIGHT / 2]
        lines += [" ".join(repr(float(v)) for v in row) for row in numbers]
    for j, (point, colour) in enumerate(zip(POINTS, COLOURS)):
        views = [f"{i} {j} {xy[j, 0]!r} {-xy[j, 1]!r}".replace("np.float64", "") for i, xy in seen.items()]
        views = [view.replace("(", "").replace(")", "") for view in views]
        lines += [" ".join(map(repr, point.tolist())), " ".join(map(str, colour)), f"{len(views)} {' '.join(views)}"]
    (root / at).parent.mkdir(exist_ok=True)
    (root / at).write_text("\n".join(lines) + "\n")
    write_photos(root / "images")
    if listing:
        text = "".join(f"C:\\Users\\me\\the photos\\images\\{name} 0 {F + i}\n" for i, name in enumerate(NAMES))
        (root / listing).write_text(text)
    return root


def test_cameras_and_points(tmp_path):
    capture = read(write(tmp_path))
    check_pixels(capture, {name: pixels(pose) for name, pose in zip(NAMES, POSES)})
    np.testing.assert_allclose(capture.points[0], POINTS)
    assert (capture.points[1] == COLOURS).all() and not capture.notes
    scene = load_scene(tmp_path)
    assert scene.reader == "bundler" and len(scene.points[0]) == len(POINTS)
    assert len(load_scene(tmp_path / "bundle.out").views) == len(POSES)


def test_realitycaptures_positive_z(tmp_path):
    """The same file with OpenCV's camera frame: points lie in front of the cameras, so that is what it must be."""
    check_pixels(read(write(tmp_path, np.eye(3))), {name: pixels(pose) for name, pose in zip(NAMES, POSES)})


def test_unplaced_cameras_and_a_folder_of_its_own(tmp_path):
    """As Bundler leaves it: bundle/bundle.out, list.txt and photos above; focal length 0 where it found no pose."""
    capture = read(write(tmp_path, unplaced=(1, 4), at="bundle/bundle.out"))
    placed = [i for i in range(len(POSES)) if i not in (1, 4)]
    check_pixels(capture, {NAMES[i]: pixels(POSES[i]) for i in placed})
    assert capture.notes == ["2 of 6 photos have no pose in the file and are left out."]


def test_without_a_list_the_photos_are_taken_by_name(tmp_path):
    write(tmp_path, listing="")
    check_pixels(read(tmp_path), {name: pixels(pose) for name, pose in zip(NAMES, POSES)})
    (tmp_path / "images/005.png").unlink()
    with pytest.raises(UserError, match=r"has 6 cameras and names no photos; put the list .* with 6 lines"):
        read(tmp_path)


@pytest.mark.parametrize(
    "old, new, message",
    [("6 300", "6 301", "garbled"), ("6 300", "7 300", "garbled"), ("61.0", "x", "garbled")],
)
def test_what_cannot_be_read(tmp_path, old, new, message):
    file = write(tmp_path) / "bundle.out"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_damage(tmp_path):
    check_damage(write(tmp_path) / "bundle.out")
