"""OpenSfM's "Geometric models", spelt out, says where points must be."""

import json

import numpy as np
import pytest
from captures import HEIGHT, WIDTH
from exporters import NAMES, POINTS, POSES, camera_from_world, check_damage, check_pixels, read, seen_from, write_photos
from scipy.spatial.transform import Rotation

from neural3d.errors import UserError
from neural3d.loading import load_scene

BROWN = {
    "projection_type": "brown", "focal_x": 1.25, "focal_y": 1.3, "c_x": 0.02, "c_y": -0.03,
    "k1": 0.1, "k2": -0.05, "k3": 0.02, "p1": 0.004, "p2": -0.003,
}  # fmt: skip
ALL = range(len(POSES))
LENSES = {
    "brown": BROWN,
    "perspective": {"projection_type": "perspective", "focal": 1.25, "k1": 0.1, "k2": -0.05},
    "radial": {"projection_type": "radial", "focal_x": 1.2, "focal_y": 1.3, "c_x": 0.02, "k1": 0.1, "k2": 0.02},
    "simple_radial": {"projection_type": "simple_radial", "focal_x": 1.2, "focal_y": 1.2, "c_x": 0.02, "k1": 0.1},
    "fisheye": {"projection_type": "fisheye", "focal": 0.6, "k1": 0.1, "k2": -0.05},
    "fisheye_opencv": {
        "projection_type": "fisheye_opencv", "focal_x": 0.6, "focal_y": 0.61, "c_x": 0.01, "c_y": 0.02,
        "k1": 0.1, "k2": -0.05, "k3": 0.02, "k4": 0.01,
    },
    "fisheye62": {
        "projection_type": "fisheye62", "focal_x": 0.6, "focal_y": 0.6, "c_x": 0.01, "c_y": 0.02,
        "k1": 0.1, "k2": -0.05, "k3": 0.02, "k4": 0.01, "k5": 0.002, "k6": -0.001, "p1": 0, "p2": 0,
    },
}  # fmt: skip


def pixels(p: np.ndarray, lens: dict) -> np.ndarray:
    """Normalised coordinates, the longer side 1, and H of "Pixel coordinates", whose first centre is 0 and ours ½."""
    a = dict.fromkeys(("c_x", "c_y", "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"), 0.0) | lens
    x, y, z = p.T
    x, y, r = x / z, y / z, np.hypot(x, y) / z
    if "fisheye" in a["projection_type"]:
        x, y, r = x / r * np.arctan(r), y / r * np.arctan(r), np.arctan(r)
    d = 1 + sum(a[f"k{i}"] * r ** (2 * i) for i in range(1, 7))
    tx = 2 * a["p1"] * x * y + a["p2"] * (r**2 + 2 * x**2)
    ty = 2 * a["p2"] * x * y + a["p1"] * (r**2 + 2 * y**2)
    u = a.get("focal", a.get("focal_x")) * (d * x + tx) + a["c_x"]
    v = a.get("focal", a.get("focal_y")) * (d * y + ty) + a["c_y"]
    return np.stack([u, v], 1) * WIDTH + np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2]) + 0.5


def model(lens=BROWN, which=ALL, **extra) -> dict:
    shots = {}
    for i in which:
        rotation, t = camera_from_world(POSES[i])
        turn = Rotation.from_matrix(rotation).as_rotvec().tolist()
        shots[NAMES[i]] = {"rotation": turn, "translation": t.tolist(), "camera": "v2 toy", "orientation": 1}
    points = {str(j): {"color": [10.0, 20.0, 30.0], "coordinates": p.tolist()} for j, p in enumerate(POINTS)}
    cameras = {"v2 toy": {"width": WIDTH, "height": HEIGHT} | lens}
    return {"cameras": cameras, "shots": shots, "points": points} | extra


def write(root, *models, at="reconstruction.json"):
    (root / at).parent.mkdir(exist_ok=True)
    (root / at).write_text(json.dumps(models or [model()], indent=4))
    write_photos(root / "images")
    return root


@pytest.mark.parametrize("kind", LENSES)
def test_every_lens(tmp_path, kind):
    capture = read(write(tmp_path, model(LENSES[kind])))
    check_pixels(capture, {name: pixels(seen_from(pose), LENSES[kind]) for name, pose in zip(NAMES, POSES)})
    np.testing.assert_allclose(capture.points[0], POINTS)
    assert (capture.points[1] == [10, 20, 30]).all()
    assert capture.upright and not capture.metric and not capture.notes


def test_spherical(tmp_path):
    """Longitude and latitude as shares of the picture's width."""
    write(tmp_path, model({"projection_type": "spherical", "width": 80, "height": 40}))
    write_photos(tmp_path / "images", size=(80, 40))
    expected = {}
    for name, pose in zip(NAMES, POSES):
        x, y, z = seen_from(pose).T
        u, v = np.arctan2(x, z) / (2 * np.pi), -np.arctan2(-y, np.hypot(x, z)) / (2 * np.pi)
        expected[name] = np.stack([u, v], 1) * 80 + [40, 20]
    check_pixels(read(tmp_path), expected)


def test_a_decentred_fisheye_is_fitted(tmp_path):
    lens = LENSES["fisheye62"] | {"p1": 0.002, "p2": -0.001}
    capture = read(write(tmp_path, model(lens)))
    assert capture.notes[0].startswith("The lens has terms that COLMAP's models lack")
    told = float(capture.notes[0].split("up to ")[1].split(" px")[0])
    assert 0 < told < 0.05
    check_pixels(capture, {n: pixels(seen_from(p), lens) for n, p in zip(NAMES, POSES)}, atol=1.1 * told)


def test_opendronemap(tmp_path):
    """opensfm/ in a project whose photos lie in images/; GPS makes the frame metric."""
    place = {"latitude": 46.5, "longitude": 7.9, "altitude": 2000.0}
    write(tmp_path, model(reference_lla=place), at="opensfm/reconstruction.json")
    write_photos(tmp_path / "opensfm/undistorted/images")
    capture = read(tmp_path)
    check_pixels(capture, {name: pixels(seen_from(pose), BROWN) for name, pose in zip(NAMES, POSES)})
    assert capture.metric and capture.frames[0].image_path == tmp_path / "images/000.png"
    assert load_scene(tmp_path).reader == "opensfm"
    no_gps = {"latitude": 0.0, "longitude": 0.0, "altitude": 0}
    assert not read(write(tmp_path, model(reference_lla=no_gps), at="opensfm/reconstruction.json")).metric


def test_the_largest_of_several_reconstructions(tmp_path):
    capture = read(write(tmp_path, model(which=(0, 1)), model(which=(2, 3, 4, 5))))
    assert [frame.name for frame in capture.frames] == NAMES[2:]
    assert capture.notes == ["Of 2 reconstructions the largest was read; 2 photos are left out."]


@pytest.mark.parametrize(
    "lens, message",
    [
        ({"projection_type": "dual", "focal": 1}, r"camera 'v2 toy' is of type 'dual', which is not read"),
        ({"projection_type": "perspective", "focal": 0.0}, r"garbled \(camera 'v2 toy' has the focal length 0"),
        ({"projection_type": "perspective"}, r"lacks 'focal_x'"),
        ({"projection_type": "brown", "focal_x": float("nan"), "focal_y": 1}, r"focal_x of 'v2 toy' must be a finite"),
    ],
)
def test_what_cannot_be_read(tmp_path, lens, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, model(lens)))


def test_damage(tmp_path):
    check_damage(write(tmp_path) / "reconstruction.json")
