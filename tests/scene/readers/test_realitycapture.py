"""RealityCapture's camera parameters: Epic's "Camera geometry in RealityScan", spelt out, says where points must be."""

import numpy as np
import pytest
from captures import HEIGHT, WIDTH
from exporters import NAMES, POSES, check_damage, check_pixels, read, seen_from, write_photos
from PIL import Image
from scipy.spatial.transform import Rotation

from neural3d.errors import UserError
from neural3d.loading import load_scene

LENS = {"f": 45.2, "px": 0.012, "py": -0.02, "k1": 0.1, "k2": -0.05, "k3": 0.02, "k4": 0.0, "t1": 0.004, "t2": -0.003}
HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
# Section 5.1: of the aircraft's nose, right wing and belly the camera's x points to the right wing, its y (up in the
# picture) to the nose, its z (out of the scene) away from the belly; yaw, pitch, roll turn the aircraft from north,
# east, down, in the order z, y, x. Rows: the axes named second in those named first.
BODY_FROM_CAMERA = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
ENU_FROM_NED = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
OPENGL = np.diag([1.0, -1.0, -1.0])


def angles(pose: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll in degrees of a camera whose frame is OpenCV's."""
    ned_from_body = ENU_FROM_NED.T @ pose[:3, :3] @ OPENGL @ BODY_FROM_CAMERA.T
    return Rotation.from_matrix(ned_from_body).as_euler("ZYX", degrees=True)


def pixels(p: np.ndarray, lens: dict, size=(WIDTH, HEIGHT)) -> np.ndarray:
    """Section 4, with t1 and t2 in the order of its note on OpenCV; film 36 mm wide."""
    a, (width, height), longer = lens, size, max(size)
    x, y = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
    r2 = x**2 + y**2
    radial = 1 + a["k1"] * r2 + a["k2"] * r2**2 + a["k3"] * r2**3 + a["k4"] * r2**4
    x_ = x * radial + a["t2"] * 2 * x * y + a["t1"] * (r2 + 2 * x**2)
    y_ = y * radial + a["t1"] * 2 * x * y + a["t2"] * (r2 + 2 * y**2)
    f = longer * a["f"] / 36
    return np.stack([f * x_ + longer * a["px"] + width / 2, f * y_ + longer * a["py"] + height / 2], 1)


def write(root, lens=LENS, names=NAMES, poses=POSES, header=HEADER, size=(WIDTH, HEIGHT)):
    keys = header.lstrip("#").split(",")
    lines = [f"#cameras {len(poses)}", header]
    for name, pose in zip(names, poses):
        values = (
            dict(zip(("x", "y", "alt"), pose[:3, 3])) | dict(zip(("heading", "pitch", "roll"), angles(pose))) | lens
        )
        lines.append(",".join([name, *(repr(float(values[key])) for key in keys[1:])]))
    (root / "export.csv").write_text("\n".join(lines) + "\n")
    write_photos(root / "images", size=size)
    return root


def test_lens_and_pose(tmp_path):
    capture = read(write(tmp_path))
    check_pixels(capture, {name: pixels(seen_from(pose), LENS) for name, pose in zip(NAMES, POSES)})
    assert capture.upright and not capture.notes
    assert load_scene(tmp_path).reader == "realitycapture"
    assert len(load_scene(tmp_path / "export.csv").views) == len(POSES)


def test_headings_and_pitches_in_words(tmp_path):
    """Heading 90°, pitch 90°: level, to the east, head up. All 0: down, head to the north. Roll: right side down."""
    write(tmp_path, poses=POSES[:3], names=NAMES[:3])
    rows = [(90, 90, 0), (0, 0, 0), (0, 0, 30)]
    text = "".join(f"{n},0,0,0,{h},{p},{r},36,0,0,0,0,0,0,0,0\n" for n, (h, p, r) in zip(NAMES, rows))
    (tmp_path / "export.csv").write_text(f"{HEADER}\n{text}")
    east, down, rolled = (frame.camera.world_from_camera.numpy()[:3, :3] for frame in read(tmp_path).frames)
    np.testing.assert_allclose(east, np.stack([[0, -1, 0], [0, 0, -1], [1, 0, 0]], 1), atol=1e-12)
    np.testing.assert_allclose(down, np.stack([[1, 0, 0], [0, -1, 0], [0, 0, -1]], 1), atol=1e-12)
    np.testing.assert_allclose(rolled[:, 0], [np.cos(np.pi / 6), 0, -0.5], atol=1e-12)


def test_portraits_are_measured_by_their_longer_side(tmp_path):
    size = HEIGHT, WIDTH
    capture = read(write(tmp_path, size=size))
    check_pixels(capture, {name: pixels(seen_from(pose), LENS, size) for name, pose in zip(NAMES, POSES)})


def test_columns_that_the_user_left_out(tmp_path):
    capture = read(write(tmp_path, header="#name,x,y,alt,heading,pitch,roll,f"))
    plain = dict.fromkeys(LENS, 0.0) | {"f": LENS["f"]}
    check_pixels(capture, {name: pixels(seen_from(pose), plain) for name, pose in zip(NAMES, POSES)})
    assert {frame.camera.model for frame in capture.frames} == {"PINHOLE"}


def test_fourth_coefficient_is_fitted(tmp_path):
    lens = LENS | {"k4": -0.04}
    capture = read(write(tmp_path, lens))
    note = next(note for note in capture.notes if note.startswith("6 of 6 lenses have terms that COLMAP's models lack"))
    told = float(note.split("up to ")[1].split(" px")[0])
    assert 0 < told < 1e-3
    expected = {name: pixels(seen_from(pose), lens) for name, pose in zip(NAMES, POSES)}
    check_pixels(capture, expected, atol=1.1 * told)


def test_opencv_compliant_parameters(tmp_path):
    """[R | t] and pixels; the names are followed by an explanation that holds commas and names of its own."""
    header = (
        "#name,tx,ty,tz,R00,R01,R02,R10,R11,R12,R20,R21,R22,f_pix,px_pix,py_pix,k1,k2,t2,t1,k3,k4 (R=[Rij] and t=(tx, "
        "ty, tz) are the pose of the camera; focal length f, k1 and so on)"
    )
    focal = WIDTH * LENS["f"] / 36
    middle = WIDTH * LENS["px"] + WIDTH / 2, WIDTH * LENS["py"] + HEIGHT / 2
    lines = [header]
    for name, pose in zip(NAMES, POSES):
        rotation = pose[:3, :3].T
        numbers = [*(-rotation @ pose[:3, 3]), *rotation.ravel(), focal, *middle]
        numbers += [LENS[key] for key in ("k1", "k2", "t2", "t1", "k3", "k4")]
        lines.append(",".join([name, *(repr(float(number)) for number in numbers)]))
    write(tmp_path)
    (tmp_path / "export.csv").write_text("\n".join(lines))
    check_pixels(read(tmp_path), {name: pixels(seen_from(pose), LENS) for name, pose in zip(NAMES, POSES)})


def test_masks_beside_the_photos(tmp_path):
    write(tmp_path)
    mask = tmp_path / "masks" / "001.png"
    mask.parent.mkdir()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(mask)
    assert [frame.mask_path for frame in read(tmp_path).frames][:3] == [None, mask, None]


def test_what_cannot_be_read(tmp_path):
    write(tmp_path, LENS | {"f": -1.0})
    with pytest.raises(UserError, match=r"export\.csv is cut off or garbled \(focal length of '000\.png'"):
        read(tmp_path)
    write(tmp_path, LENS | {"k1": float("nan")})
    with pytest.raises(UserError, match=r"k1 of '000\.png' must be a finite number"):
        read(tmp_path)
    (tmp_path / "export.csv").write_text(f"{HEADER}\n")
    with pytest.raises(UserError, match=r"export\.csv places no photo"):
        read(tmp_path)


def test_damage(tmp_path):
    check_damage(write(tmp_path) / "export.csv")


def test_other_tables_are_left_alone(tmp_path):
    (tmp_path / "points.csv").write_text("name,x,y,z\na,1,2,3\n")
    with pytest.raises(UserError, match="holds neither a capture nor photos"):
        read(tmp_path)
