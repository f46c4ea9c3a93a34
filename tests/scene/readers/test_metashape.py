"""Metashape's cameras.xml: the formulas of its manual, spelt out, say where points must be."""

import numpy as np
import pytest
from captures import HEIGHT, WIDTH
from exporters import NAMES, POINTS, POSES, check_damage, check_pixels, read, seen_from, write_photos
from scipy.spatial.transform import Rotation

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.scene.gps import enu

LENS = {"f": 61.0, "cx": 1.3, "cy": -0.7, "b1": -1.1, "k1": 0.1, "k2": -0.05, "k3": 0.02, "p1": 0.004, "p2": -0.003}
TURN = Rotation.from_euler("xyz", [0.3, -0.8, 1.9]).as_matrix()
SCALE, SHIFT = 2.5, np.array([3.0, -4.0, 7.0])


def pixels(p: np.ndarray, lens: dict, kind: str = "frame") -> np.ndarray:
    """Agisoft Metashape's manual, appendix "Camera models"; x right, y down, z forward."""
    a = dict.fromkeys(("f", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2"), 0.0) | lens
    x, y = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
    if kind != "frame":
        r0 = np.hypot(x, y)
        theta = np.arctan(r0)
        r = theta if kind == "equidistant_fisheye" else 2 * np.sin(theta / 2)
        x, y = x * r / r0, y * r / r0
    r = np.hypot(x, y)
    radial = 1 + a["k1"] * r**2 + a["k2"] * r**4 + a["k3"] * r**6 + a["k4"] * r**8
    x_ = x * radial + a["p1"] * (r**2 + 2 * x**2) + 2 * a["p2"] * x * y
    y_ = y * radial + a["p2"] * (r**2 + 2 * y**2) + 2 * a["p1"] * x * y
    u = WIDTH / 2 + a["cx"] + x_ * a["f"] + x_ * a["b1"] + y_ * a["b2"]
    return np.stack([u, HEIGHT / 2 + a["cy"] + y_ * a["f"]], 1)


def text(values) -> str:
    return " ".join(repr(float(v)) for v in np.ravel(values))


def calibration(lens: dict, kind: str, of_class: str) -> str:
    numbers = "".join(f"<{key}>{value!r}</{key}>" for key, value in lens.items())
    size = f'<resolution width="{WIDTH}" height="{HEIGHT}"/>'
    return f'<calibration type="{kind}" class="{of_class}">{size}{numbers}</calibration>'


def camera(i: int, pose=None, label=None, attributes="", sensor=0) -> str:
    pose = POSES[i] if pose is None else pose
    where = f"<transform>{text(pose)}</transform>" if isinstance(pose, np.ndarray) else ""
    head = f'<camera id="{i}" sensor_id="{sensor}" component_id="0" label="{label or NAMES[i][:-4]}" {attributes}>'
    return f"{head}{where}<orientation>1</orientation></camera>"


def write(root, lens=LENS, kind="frame", cameras=None, component="", calibrations=None, more=""):
    sensor = (
        f'<sensor id="0" label="unknown" type="{kind}"><resolution width="{WIDTH}" height="{HEIGHT}"/>'
        f"{calibration(lens, kind, 'adjusted') if calibrations is None else calibrations}</sensor>{more}"
    )
    listed = "".join(map(camera, range(len(POSES)))) if cameras is None else cameras
    (root / "cameras.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0"><chunk label="Chunk 1" enabled="true">'
        f'<sensors next_id="1">{sensor}</sensors><components next_id="1" active_id="0"><component id="0" '
        f'label="Component 1">{component}</component></components><cameras next_id="9" next_group_id="1">{listed}'
        "</cameras></chunk></document>\n"
    )
    write_photos(root / "images")
    return root


def similarity(scale, turn, shift) -> str:
    parts = {"rotation": turn, "translation": shift, "scale": scale}
    return f"<transform>{''.join(f'<{tag}>{text(value)}</{tag}>' for tag, value in parts.items())}</transform>"


def in_chunk(pose: np.ndarray) -> np.ndarray:
    """The pose in a chunk whose component's transform maps p to SCALE TURN p + SHIFT."""
    inside = pose.copy()
    inside[:3, :3] = TURN.T @ pose[:3, :3]
    inside[:3, 3] = TURN.T @ (pose[:3, 3] - SHIFT) / SCALE
    return inside


def test_lens_and_pose(tmp_path):
    capture = read(write(tmp_path))
    check_pixels(capture, {name: pixels(seen_from(pose), LENS) for name, pose in zip(NAMES, POSES)})
    assert not capture.upright and not capture.notes
    scene = load_scene(tmp_path)
    assert scene.reader == "metashape" and len(scene.views) == len(POSES)
    assert len(load_scene(tmp_path / "cameras.xml").views) == len(POSES)


def test_component_transform(tmp_path):
    """Turned, scaled and moved to the user's coordinates; of an older file by the chunk's own transform."""
    cameras = "".join(camera(i, in_chunk(pose)) for i, pose in enumerate(POSES))
    write(tmp_path, cameras=cameras, component=similarity(SCALE, TURN, SHIFT))
    expected = {name: pixels(seen_from(pose), LENS) for name, pose in zip(NAMES, POSES)}
    capture = read(tmp_path)
    check_pixels(capture, expected)
    assert capture.upright and not capture.metric
    file = tmp_path / "cameras.xml"
    whole = file.read_text()
    start, end = whole.index("<components"), whole.index("<cameras")
    file.write_text(whole[:start] + similarity(SCALE, TURN, SHIFT) + whole[end:].replace(' component_id="0"', ""))
    check_pixels(read(tmp_path), expected)


def test_earth_centred_coordinates_become_local_ones(tmp_path):
    """A place in the Alps: metres east, north and up of the cameras' middle, which gps.enu knows from angles."""
    place = (46.5, 7.9, 2100.0)
    north, east, above = ((46.5 + 1e-4, 7.9, 2100.0), (46.5, 7.9 + 1e-4, 2100.0), (46.5, 7.9, 2150.0))
    moved = enu([place, place, north, east, above])  # metres of the median, which is `place`
    a, e2 = 6378137.0, 0.00669437999014
    latitude, longitude = np.radians(place[:2])
    n = a / np.sqrt(1 - e2 * np.sin(latitude) ** 2)
    centre = np.array([
        (n + place[2]) * np.cos(latitude) * np.cos(longitude), (n + place[2]) * np.cos(latitude) * np.sin(longitude),
        (n * (1 - e2) + place[2]) * np.sin(latitude),
    ])  # fmt: skip
    up = np.array([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    to_east = np.array([-np.sin(longitude), np.cos(longitude), 0])
    turn = np.stack([to_east, np.cross(up, to_east), up], 1)  # earth from local
    poses = [np.eye(4) for _ in range(6)]
    for pose, offset in zip(poses, [*moved, np.zeros(3)]):
        pose[:3, 3] = offset
    cameras = "".join(camera(i, pose) for i, pose in enumerate(poses))
    capture = read(write(tmp_path, cameras=cameras, component=similarity(1.0, turn, centre)))
    assert capture.upright and capture.metric
    assert any("latitude 46.500000°, longitude 7.900000°, 2100.0 m" in note for note in capture.notes)
    for frame, pose in zip(capture.frames, poses):
        np.testing.assert_allclose(frame.camera.world_from_camera.numpy(), pose, atol=1e-5)


OFFSET = np.eye(4)  # of a rig's second camera in the frame of its first
OFFSET[:3, :3], OFFSET[:3, 3] = Rotation.from_euler("xyz", [0.02, -0.1, 0.05]).as_matrix(), [0.12, -0.03, 0.05]


@pytest.mark.parametrize("offset", [OFFSET, np.eye(4)])
def test_a_rigs_cameras_follow_their_master(tmp_path, offset):
    """Every second photo is a slave's; it may be listed before its master. Identity and zero are left out."""
    second = {"f": 55.0, "cx": -0.9, "cy": 0.4}
    given = f"<rotation>{text(offset[:3, :3])}</rotation><location>{text(offset[:3, 3])}</location>"
    default = '<rotation fixed="true"/><location fixed="true"/>'
    more = (
        f'<sensor id="1" label="second" master_id="0" type="frame">{calibration(second, "frame", "adjusted")}'
        f"{default if (offset == np.eye(4)).all() else given}</sensor>"
    )
    masters = [camera(i, in_chunk(POSES[i])) for i in (0, 2, 4)]
    slaves = [camera(i, "", attributes=f'master_id="{i - 1}"', sensor=1) for i in (1, 3, 5)]
    cameras = slaves[0] + "".join(masters + slaves[1:])
    write(tmp_path, cameras=cameras, component=similarity(SCALE, TURN, SHIFT), more=more)
    truth = {}
    for i in (0, 2, 4):
        inside = in_chunk(POSES[i]) @ offset
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = TURN @ inside[:3, :3], SCALE * TURN @ inside[:3, 3] + SHIFT
        truth[NAMES[i]] = pixels(seen_from(POSES[i]), LENS)
        truth[NAMES[i + 1]] = pixels(seen_from(pose), second)
    capture = read(tmp_path)
    check_pixels(capture, truth)
    assert not capture.notes


def write_cloud(path, points, colors) -> None:
    header = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz")
    header += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    rows = "\n".join(f"{text(p)} {c[0]} {c[1]} {c[2]}" for p, c in zip(points, colors))
    path.write_text(f"{header}end_header\n{rows}\n")


def test_points_beside_the_cameras_are_taken(tmp_path):
    """Where the photos show them, and no mesh."""
    write(tmp_path)
    (tmp_path / "a.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nelement face 0\nend_header\n")
    write_cloud(tmp_path / "b.ply", POINTS + 1000, np.zeros((len(POINTS), 3), int))
    (tmp_path / "b2.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 9\n")
    colors = np.arange(3 * len(POINTS)).reshape(-1, 3) % 256
    write_cloud(tmp_path / "c.ply", POINTS, colors)
    capture = read(tmp_path)
    np.testing.assert_allclose(capture.points[0], POINTS, atol=1e-12)
    np.testing.assert_array_equal(capture.points[1], colors)
    assert "Points in b.ply are not used: photos show 0%" in capture.notes[0]
    assert "not used: " in capture.notes[1] and "b2.ply" in capture.notes[1]
    assert f"{len(POINTS)} points are those of c.ply" in capture.notes[2]


@pytest.mark.parametrize("kind", ["equidistant_fisheye", "fisheye"])
def test_equidistant_fisheye_is_exact(tmp_path, kind):
    capture = read(write(tmp_path, LENS | {"b1": 0.0}, kind))
    truth = {n: pixels(seen_from(p), LENS | {"b1": 0.0}, "equidistant_fisheye") for n, p in zip(NAMES, POSES)}
    check_pixels(capture, truth)
    assert not capture.notes


@pytest.mark.parametrize(
    "lens, kind, worst",
    [
        (LENS | {"k4": 0.03}, "frame", 1e-3),
        ({"f": 61.0, "b2": 0.8}, "frame", 0.5),  # a skew has no counterpart: about b2 h / 2 / f pixels are lost
        ({"f": 25.0, "k1": 0.05, "p1": 0.002}, "equisolid_fisheye", 5e-3),
    ],
)
def test_other_lenses_are_fitted_and_the_error_told(tmp_path, lens, kind, worst):
    capture = read(write(tmp_path, lens, kind))
    note = next(note for note in capture.notes if "nearest model is off by" in note)
    told = float(note.split("up to ")[1].split(" px")[0])
    assert 0 < told < worst
    expected = {name: pixels(seen_from(pose), lens, kind) for name, pose in zip(NAMES, POSES)}
    check_pixels(capture, expected, atol=1.1 * told)


def test_spherical_cameras(tmp_path):
    """u = w / 2 + f atan2(x, z), v = h / 2 + f asin(y / |p|), f = w / 2π; the file holds no calibration of them."""
    write(tmp_path, kind="spherical", calibrations="")
    file = tmp_path / "cameras.xml"
    file.write_text(file.read_text().replace('width="48" height="36"', 'width="80" height="40"'))
    write_photos(tmp_path / "images", size=(80, 40))
    expected = {}
    for name, pose in zip(NAMES, POSES):
        x, y, z = seen_from(pose).T
        angles = np.stack([np.arctan2(x, z), np.arcsin(y / np.sqrt(x**2 + y**2 + z**2))], 1)
        expected[name] = np.array([40, 20]) + 80 / (2 * np.pi) * angles
    check_pixels(read(tmp_path), expected)


def test_the_adjusted_calibration_is_taken(tmp_path):
    both = calibration({"f": 99.0}, "frame", "initial") + calibration(LENS, "frame", "adjusted")
    expected = {name: pixels(seen_from(pose), LENS) for name, pose in zip(NAMES, POSES)}
    check_pixels(read(write(tmp_path, calibrations=both)), expected)
    write(tmp_path, calibrations=calibration({"f": 99.0}, "frame", "initial"))
    expected = {name: pixels(seen_from(pose), {"f": 99.0}) for name, pose in zip(NAMES, POSES)}
    check_pixels(read(tmp_path), expected)


def test_groups_unplaced_and_disabled_cameras(tmp_path):
    """Photos of one name in the folders of two groups; one camera without a pose, one disabled."""
    grouped = "".join(
        f'<group id="{g}" label="flight {g}">{camera(2 * g, label="a")}{camera(2 * g + 1, label="b")}</group>'
        for g in (0, 1)
    )
    write(tmp_path, cameras=grouped + camera(4, pose="none") + camera(5, attributes='enabled="false"'))
    for g in (0, 1):
        write_photos(tmp_path / f"Flight {g}", ("a.PNG", "b.PNG"))
    capture = read(tmp_path)
    names = [f"Flight {g}/{letter}.PNG" for g in (0, 1) for letter in "ab"]
    check_pixels(capture, {name: pixels(seen_from(pose), LENS) for name, pose in zip(names, POSES)})
    assert "1 of 5 photos have no pose in the file and are left out." in capture.notes
    assert any(note.startswith("1 cameras that are disabled") for note in capture.notes)


def test_components_that_are_not_aligned(tmp_path):
    others = camera(4).replace('component_id="0"', 'component_id="1"')
    capture = read(write(tmp_path, cameras="".join(map(camera, range(4))) + others))
    assert len(capture.frames) == 4 and any("1 photos are left out" in note for note in capture.notes)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "cylindrical"}, r"sensor 'unknown' is of type 'cylindrical', which is not read"),
        ({"calibrations": ""}, r"sensor 'unknown' has no calibration with a focal length f"),
        ({"cameras": ""}, r"cameras\.xml places no photo"),
        ({"cameras": camera(0, label="lost")}, r"photo 'lost' is not below .*; put the photos there, or name"),
        ({"cameras": camera(0, np.zeros((4, 4)))}, r"camera '000': the pose is left-handed"),
        ({"cameras": camera(0) + camera(1, label="000")}, r"two cameras are called '000'"),
    ],
)
def test_what_cannot_be_read(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, **change))


def test_damage(tmp_path):
    check_damage(write(tmp_path) / "cameras.xml")


def test_other_xml_is_left_alone(tmp_path):
    (tmp_path / "annotations.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(UserError, match="holds neither a capture nor photos"):
        read(tmp_path)
