"""OpenMVG's cameras, spelt out, say where points must be."""

import json

import numpy as np
import pytest
import torch
from exporters import NAMES, POINTS, POSES, SIZE, check_damage, check_pixels, read, seen_from, write_photos

from neural3d.errors import UserError
from neural3d.loading import load_scene

LENSES = {
    "pinhole": {},
    "pinhole_radial_k1": {"disto_k1": [0.1]},
    "pinhole_radial_k3": {"disto_k3": [0.1, -0.05, 0.02]},
    "pinhole_brown_t2": {"disto_t2": [0.1, -0.05, 0.02, 0.004, -0.003]},
    "fisheye": {"fisheye": [0.1, -0.05, 0.02, 0.01]},
}
ALL = range(len(POSES))
F, MIDDLE = 61.0, (25.0, 17.0)


def pixels(p: np.ndarray, kind: str) -> np.ndarray:
    """Camera_*.hpp: pixel centres are whole numbers; the last two numbers of disto_t2 are OpenCV's p1 and p2."""
    x, y = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
    r = np.hypot(x, y)
    k = next(iter(LENSES[kind].values()), [])
    if kind == "fisheye":
        theta = np.arctan(r)
        scale = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k))) / r
        x_, y_ = x * scale, y * scale
    else:
        scale = 1 + sum(c * r ** (2 * i + 2) for i, c in enumerate(k[:3]))
        t1, t2 = k[3:] or (0.0, 0.0)
        x_ = x * scale + t2 * (r**2 + 2 * x**2) + 2 * t1 * x * y
        y_ = y * scale + t1 * (r**2 + 2 * y**2) + 2 * t2 * x * y
    return np.stack([F * x_ + MIDDLE[0], F * y_ + MIDDLE[1]], 1) + 0.5


def write(root, kind="pinhole_brown_t2", other="pinhole", placed=ALL, at="sfm_data.json", version="0.3", size=SIZE):
    """The first half of the photos by one lens, the rest by a second one of the same class, none by another."""
    first, shape = 1 << 31, {"width": size[0], "height": size[1]}

    def pointer(key, id_, data, **polymorphic):
        return {"key": key, "value": polymorphic | {"ptr_wrapper": {"id": first + id_, "data": data}}}

    def lens(of_kind):
        pinhole = shape | {"focal_length": F, "principal_point": MIDDLE}
        return {"value0": shape} if of_kind == "spherical" else pinhole | LENSES.get(of_kind, {})

    views = []
    for i, name in enumerate(NAMES):
        view = {"local_path": "", "filename": name} | shape | {"id_view": i, "id_intrinsic": i // 3, "id_pose": 10 + i}
        views.append(pointer(i, i + 1, view, polymorphic_id=1 << 30))
    content = {
        "sfm_data_version": version,
        "root_path": "D:\\data\\images",
        "views": views,
        "intrinsics": [
            pointer(0, 21, lens(kind), polymorphic_id=first + 1, polymorphic_name=kind),
            pointer(1, 22, lens(kind), polymorphic_id=1),
            pointer(2, 23, lens(other), polymorphic_id=first + 2, polymorphic_name=other),
        ],
        "extrinsics": [
            {"key": 10 + i, "value": {"rotation": POSES[i][:3, :3].T.tolist(), "center": POSES[i][:3, 3].tolist()}}
            for i in placed
        ],
        "structure": [{"key": j, "value": {"X": p.tolist(), "observations": []}} for j, p in enumerate(POINTS)],
        "control_points": [],
    }
    (root / at).parent.mkdir(exist_ok=True)
    (root / at).write_text(json.dumps(content, indent=4))
    write_photos(root / "images", size=size)
    return root


@pytest.mark.parametrize("kind", LENSES)
def test_every_lens(tmp_path, kind):
    capture = read(write(tmp_path, kind))
    check_pixels(capture, {name: pixels(seen_from(pose), kind) for name, pose in zip(NAMES, POSES)})
    np.testing.assert_allclose(capture.points[0], POINTS)
    assert not capture.notes


def test_spherical(tmp_path):
    """Camera_Spherical.hpp: longitude and latitude as shares of the picture's width."""
    expected = {}
    for name, pose in zip(NAMES, POSES):
        x, y, z = seen_from(pose).T
        longitude, latitude = np.arctan2(x, z), np.arctan2(-y, np.hypot(x, z))
        expected[name] = np.stack([longitude, -latitude], 1) / (2 * np.pi) * 80 + [40, 20]
    check_pixels(read(write(tmp_path, "spherical", size=(80, 40))), expected)


def test_unplaced_views_and_a_folder_of_its_own(tmp_path):
    capture = read(write(tmp_path, placed=(0, 2, 3), at="reconstruction_sequential/sfm_data.json", version="0.2"))
    expected = {NAMES[i]: pixels(seen_from(POSES[i]), "pinhole_brown_t2") for i in (0, 2, 3)}
    check_pixels(capture, expected)
    assert capture.notes == ["3 of 6 photos have no pose in the file and are left out."]
    assert load_scene(tmp_path).reader == "openmvg"


@pytest.mark.parametrize("share", [2, 4])
def test_reduced_photos_scale_their_lens(tmp_path, share):
    write(tmp_path)
    write_photos(tmp_path / "images", size=(SIZE[0] // share, SIZE[1] // share))
    scene = load_scene(tmp_path)
    s = scene.scene_from_capture
    moved = torch.from_numpy(POINTS) @ s[:3, :3].T + s[:3, 3]
    for view, pose in zip(scene.views, POSES):
        expected = pixels(seen_from(pose), "pinhole_brown_t2") / share
        np.testing.assert_allclose(view.camera.project(moved)[0].numpy(), expected, atol=1e-5)
    assert any("6 of 6 photos are smaller than sfm_data.json describes" in note for note in scene.notes)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"intrinsics of type 'pinhole_tilted' are not read; use one of pinhole, "):
        read(write(tmp_path, other="pinhole_tilted"))
    with pytest.raises(UserError, match=r"sfm_data\.json has no poses: .* openMVG_main_ConvertSfM_DataFormat"):
        read(write(tmp_path, placed=()))


def test_damage(tmp_path):
    check_damage(write(tmp_path) / "sfm_data.json")
