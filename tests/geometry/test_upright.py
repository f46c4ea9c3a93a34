"""Which way is up: found from cameras however the frame lies, and the axes in which files are written."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import cloud, look_at, ring, write_colmap, write_transforms

from neural3d.cli.written import units_of
from neural3d.errors import UserError
from neural3d.geometry.bounds import level_axis, up_direction
from neural3d.geometry.cameras import Camera
from neural3d.geometry.upright import RDF_FROM_RUB, axis_of, file_from_own
from neural3d.loading import load_scene


def turned(seed: int) -> torch.Tensor:
    """A rotation by chance, as (4, 4)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(q * np.linalg.det(q))
    return matrix


def around(elevation: float, roll: float = 0.0, count: int = 12, spread: float = 2 * math.pi) -> list[Camera]:
    """Cameras that look at the origin from an elevation in degrees, z up, rolled about their axes by degrees."""
    cameras = []
    for i in range(count):
        azimuth, rise = spread * i / count, math.radians(elevation)
        toward = [math.cos(rise) * math.cos(azimuth), math.cos(rise) * math.sin(azimuth), math.sin(rise)]
        pose = torch.from_numpy(look_at(3 * np.array(toward), (0, 0, 0), (0, 0, 1)))
        c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
        pose[:3, :3] = pose[:3, :3] @ torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]).double()
        cameras.append(Camera("PINHOLE", 48, 36, torch.tensor([60.0, 60, 24, 18]).double(), pose))
    return cameras


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "cameras",
    [
        around(0),
        around(35),
        around(89.9),  # straight down, from all headings: −y points nowhere in the mean
        around(-30),  # a statue on its column
        around(25, roll=90),  # a telephone held upright, whose photos are stored sideways
        around(25, roll=-90),
        around(20, spread=1.5),  # from one side
        [*around(10, count=6), *around(60, count=6)],
    ],
    ids=["level", "above", "straight down", "below", "sideways", "other side", "one side", "two rings"],
)
def test_up_is_found_in_any_frame(cameras, seed):
    turn = turned(seed)
    up = up_direction([camera.moved(turn) for camera in cameras])
    assert torch.rad2deg(torch.acos((up @ turn[:3, 2]).clamp(-1, 1))) < 1


def test_one_heading_is_as_the_pictures_show_it():
    cameras = around(20, count=3, spread=1e-3)
    assert level_axis(cameras) is None
    up = up_direction(cameras)
    torch.testing.assert_close(up, -cameras[0].world_from_camera[:3, 1], rtol=0, atol=2e-3)


def test_a_hand_that_shakes_costs_a_few_degrees():
    rng = np.random.default_rng(0)
    cameras = [around(25, roll=float(angle), count=40)[i] for i, angle in enumerate(rng.normal(0, 6, 40))]
    axis, doubt = level_axis(cameras)
    assert math.degrees(math.acos(axis[2].clamp(max=1))) < 3 < math.degrees(doubt) < 12


@pytest.mark.parametrize("seed", range(3))
def test_a_format_is_not_believed_where_cameras_plainly_know_better(tmp_path, seed):
    """transforms.json has +z up by its readers' custom; not where a program wrote the poses in another frame."""
    turn = turned(seed)
    cameras = [camera.moved(turn) for camera in ring(centre=(0.0, 0.0, 0.0))]
    scene = load_scene(write_transforms(tmp_path / "turned", cameras))
    up = scene.scene_from_capture[:3, :3] @ turn[:3, 2]
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0, 1]).double(), rtol=0, atol=1e-6)
    assert any("level about" in note for note in scene.notes)
    insisted = load_scene(tmp_path / "turned", up="z")
    assert not any("level about" in note for note in insisted.notes)
    up = insisted.scene_from_capture[:3, 2]
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0, 1]).double())


def test_gps_knows_better_than_cameras(tmp_path):
    """Held askew all along: level about a leaning axis."""
    leaning = ring(centre=(0.0, 0.0, 0.0), up=(0.5, 0, 1))
    folder = write_colmap(tmp_path, leaning, cloud((0, 0, 0)), binary=True)
    guessed = load_scene(folder)
    (folder / "process.json").write_text('{"metric": true}')
    measured = load_scene(folder)
    for scene, up in ((guessed, (0.5, 0, 1)), (measured, (0, 0, 1))):
        found = scene.scene_from_capture[2, :3]
        expected = torch.tensor(up).double()
        torch.testing.assert_close(found / found.norm(), expected / expected.norm(), rtol=0, atol=1e-6)
    assert units_of(measured) == "in metres, by the photos' GPS" and "do not tell the scale" in units_of(guessed)


def test_a_format_is_believed_where_cameras_nearly_agree(tmp_path):
    tilt = ring(centre=(0.0, 0.0, 0.0), up=(0.1, 0, 1))  # 6°
    scene = load_scene(write_transforms(tmp_path, tilt))
    up = scene.scene_from_capture[:3, 2]
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0, 1]).double())


@pytest.mark.parametrize(
    ("name", "axis"),
    [("glb", "y"), ("GLB", "y"), ("usdz", "y"), ("obj", "y"), ("spz", "y"), ("ply", "capture"), ("stl", "capture")],
)
def test_each_format_has_its_axes(name, axis):
    name = f"a.{name}"
    assert axis_of(Path(name), None) == axis
    assert axis_of(Path(name), "z") == "z" and axis_of(Path(name), "capture") == "capture"
    with pytest.raises(UserError, match="up axis 'x'"):
        axis_of(Path(name), "x")


@pytest.mark.parametrize("seed", range(3))
def test_what_is_up_becomes_the_axis(seed):
    own = 2.5 * turned(seed)[:3, 1]
    for up, axis in ((None, [0.0, 1, 0]), ("y", [0.0, 1, 0]), ("z", [0.0, 0, 1])):
        for name, file_axes in (("a.glb", torch.eye(4).double()), ("a.spz", RDF_FROM_RUB)):
            turn = file_from_own(Path(name), up, own)
            torch.testing.assert_close(turn @ turn.T, torch.eye(4).double())
            assert torch.linalg.det(turn) > 0.99
            found = (file_axes @ turn)[:3, :3] @ (own / 2.5)
            torch.testing.assert_close(found, torch.tensor(axis).double(), rtol=0, atol=1e-9)
    assert torch.equal(file_from_own(Path("a.ply"), None, own), torch.eye(4).double())
    assert torch.equal(file_from_own(Path("a.glb"), "capture", own), torch.eye(4).double())


def test_what_is_upright_stays_as_it_is():
    torch.testing.assert_close(file_from_own(Path("a.glb"), None, (0, 1, 0)), torch.eye(4).double())
    torch.testing.assert_close(file_from_own(Path("a.spz"), None, (0, -1, 0)), torch.eye(4).double())
