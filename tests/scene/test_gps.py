"""Scale and up from GPS: against positions whose metres are known, and only where they say enough."""

import dataclasses
import importlib.util
import json
import math
import resource

import captures
import numpy as np
import pytest
import textured
import torch
from PIL import Image

from neural3d.errors import DiskFull
from neural3d.loading import load_scene
from neural3d.scene.gps import align, enu, significant, spread
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers import open_capture
from neural3d.sfm.solve import SfmOptions, process, read_report

needs_colmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap, which aligns models, is not installed"
)
HOME = (47.3769, 8.5417, 408.0)
TILT = captures.look_at((0, 0, 0), (1, 2, -0.5), (0.3, -0.2, 1))[:3, :3]  # the world a model happens to be in
SCALE = 7.0  # metres in one of the model's units


def places_of(positions):
    """Latitude, longitude, altitude of metres east, north and up of HOME, by the length of a degree there.

    The usual series for WGS 84: 111,132.95 − 559.85 cos 2φ + 1.17 cos 4φ and 111,412.88 cos φ − 93.50 cos 3φ metres.
    """
    phi = math.radians(HOME[0])
    north = 111132.95 - 559.85 * math.cos(2 * phi) + 1.17 * math.cos(4 * phi)
    east = 111412.88 * math.cos(phi) - 93.5 * math.cos(3 * phi) + 0.12 * math.cos(5 * phi)
    return [(HOME[0] + n / north, HOME[1] + e / east, HOME[2] + u) for e, n, u in positions]


def test_enu_is_metres_east_north_and_up():
    truth = np.array([[0, 0, 0], [120, 0, 0], [0, 80, 0], [-120, -80, 5], [0, 0, -5.0]])
    assert abs(enu(places_of(truth)) - truth).max() < 0.02
    assert spread(truth) == pytest.approx(2 * 80)


def test_significant():
    rng = np.random.default_rng(0)
    ring = np.stack([20 * np.cos(np.arange(24)), 20 * np.sin(np.arange(24)), np.zeros(24)], -1)
    errors = np.linalg.norm(rng.normal(0, 1, (24, 3)), axis=1)
    assert significant(ring, errors) == pytest.approx(math.sqrt(3), rel=0.2)
    assert significant(ring, 10 * errors) is None  # as far off as the ring is wide
    assert significant(ring * [1, 0.05, 1], errors) is None  # in one line: up may be anything around it
    assert significant(ring[:2], errors[:2]) is None


@pytest.fixture
def model(tmp_path):
    """A ring of cameras around z as COLMAP would give it, in a frame of its own; cameras and points in metres."""
    cameras = captures.ring(count=16, centre=(0, 0, 0))
    metres = np.array([c.centre.tolist() for c in cameras]) * SCALE
    away = torch.eye(4, dtype=torch.float64)
    away[:3, :3], away[:3, 3] = torch.from_numpy(TILT), torch.tensor([1.0, 2.0, 3.0])
    points = captures.cloud(centre=(0, 0, 0))
    moved = points @ TILT.T + [1.0, 2.0, 3.0]
    captures.write_colmap(tmp_path, [c.moved(away) for c in cameras], moved, binary=True)
    return tmp_path, metres, points * SCALE


def centres_of(root):
    return np.array([f.camera.centre.tolist() for f in open_capture(root, SceneOptions()).frames])


@needs_colmap
def test_a_model_becomes_metres_and_upright(model):
    """With a metre of noise, and one photo whose receiver was lost: scale within 2 %, up within 2 degrees."""
    root, metres, points = model
    rng = np.random.default_rng(1)
    noisy = metres + rng.normal(0, 1, metres.shape)
    noisy[5] += [200, 50, 30]
    places = dict(zip(captures.names(range(16)), places_of(noisy)))
    said = align(root / "sparse/0", places)
    assert said and said.startswith("scale and up from the GPS of 15 photos, residual ")
    assert 1 < float(said.split()[-2]) < 3
    found = centres_of(root)
    sizes = [np.linalg.norm(p - p.mean(0), axis=1).mean() for p in (found, metres)]
    assert sizes[0] / sizes[1] == pytest.approx(1, abs=0.02)
    plane = np.linalg.svd(found - found.mean(0))[2][2]
    truth = np.linalg.svd(metres - metres.mean(0))[2][2]
    assert math.degrees(math.acos(min(1, abs(plane @ truth)))) < 2
    north = np.linalg.norm((found - found.mean(0)) - (metres - metres.mean(0)), axis=1)
    assert north.max() < 1.5  # no mirror, no turn around z either
    cloud = open_capture(root, SceneOptions()).points[0]
    assert abs((cloud - cloud.mean(0)) - (points - points.mean(0))).max() < 0.5


@needs_colmap
def test_a_full_disk_leaves_the_model_as_it_was(model):
    root, metres, _ = model
    folder = root / "sparse/0"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(map(len, before.values())) // 2, limits[1]))
    try:
        with pytest.raises(DiskFull, match="cannot be written"):
            align(folder, dict(zip(captures.names(range(16)), places_of(metres))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["0"]


@needs_colmap
@pytest.mark.parametrize("what", ["few", "near", "in line", "noise", "others"])
def test_what_says_too_little_changes_nothing(model, what):
    root, metres, _ = model
    before = [p.read_bytes() for p in sorted((root / "sparse/0").iterdir())]
    names = captures.names(range(16))
    if what == "few":
        names, metres = names[:2], metres[:2]
    elif what == "near":
        metres = metres / 20
    elif what == "in line":
        metres = metres * [1, 0, 0]
    elif what == "noise":
        metres = np.random.default_rng(0).normal(0, 15, metres.shape)
    else:
        names = [f"other {name}" for name in names]
    assert align(root / "sparse/0", dict(zip(names, places_of(metres)))) is None
    assert [p.read_bytes() for p in sorted((root / "sparse/0").iterdir())] == before


@needs_colmap
def test_photos_with_gps_become_a_capture_in_metres(tmp_path):
    """The whole way, from EXIF: a still life ten metres to the unit; +z is up in the capture and in the scene."""
    poses = textured.orbit(8)
    folder = textured.write_photos(tmp_path / "photos", poses, (320, 240))
    for path, place in zip(sorted(folder.iterdir()), places_of([10 * p[:3, 3] for p in poses])):
        exif = Image.Exif()
        degrees = [[abs(v) // 1, abs(v) * 60 % 60 // 1, abs(v) * 3600 % 60] for v in place[:2]]
        exif.get_ifd(0x8825).update({1: "N", 2: tuple(degrees[0]), 3: "E", 4: tuple(degrees[1]), 5: b"\0", 6: place[2]})
        Image.open(path).save(path, exif=exif, quality=95)
    report = process(folder, tmp_path / "out", dataclasses.replace(SfmOptions(), camera_model="SIMPLE_RADIAL", seed=3))
    assert report.metric and read_report(tmp_path / "out").metric
    assert report.notes[-1].startswith("scale and up from the GPS of 8 photos, residual 0.")
    assert json.loads((tmp_path / "out/process.json").read_text())["metric"]
    found = centres_of(tmp_path / "out")
    truth = np.array([10 * p[:3, 3] for p in poses])
    assert abs((found - found.mean(0)) - (truth - truth.mean(0))).max() < 0.2
    scene = load_scene(tmp_path / "out")
    turn = scene.scene_from_capture[:3, :3]
    assert (turn / turn.norm() * math.sqrt(3) - torch.eye(3)).abs().max() < 1e-6  # not turned by a guess
