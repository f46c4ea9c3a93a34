"""EXIF into numbers: focal lengths that hold for shrunk, turned and cropped photos, exposure and place."""

import math

import pytest
from PIL import Image

from neural3d.images.exif import read_shot

TAKEN = {0xA002: 4272, 0xA003: 2848}
CANON = {0x920A: 50.0, 0xA20E: 4272000 / 876, 0xA20F: 2848000 / 583, 0xA210: 2, **TAKEN}  # 22.25 mm wide: 192 px a mm
PHONE = {0x920A: 4.25, 0xA405: 26, 0xA002: 4032, 0xA003: 3024}
FULL = 50 * 4272000 / 876 / 25.4  # 9,600 px


def shot(size, details=(), main=(), gps=()):
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(0x8769).update(details)
    exif.get_ifd(0x8825).update(gps)
    again = Image.Exif()
    again.load(exif.tobytes())  # as a file holds it
    return read_shot(again, size)


@pytest.mark.parametrize(
    "size, details, focal",
    [
        ((4272, 2848), CANON, FULL),
        ((1068, 712), CANON, FULL / 4),  # shrunk, EXIF kept
        ((712, 1068), CANON, FULL / 4),  # and turned
        ((1068, 712), {**CANON, 0xA20E: 4272000 / 876 / 2.54, 0xA210: 3}, FULL / 4),  # per centimetre
        ((1068, 712), {**CANON, 0xA405: 80}, FULL / 4),  # the sensor's is more exact than the rounded equivalent
        ((4272, 2848), {**CANON, 0xA405: 40}, 40 * math.hypot(4272, 2848) / math.hypot(36, 24)),  # they disagree
        ((4032, 3024), PHONE, 26 * 5040 / math.hypot(36, 24)),
        ((756, 1008), PHONE, 26 * 1260 / math.hypot(36, 24)),
        ((1008, 756), {0xA405: 26}, 26 * 1260 / math.hypot(36, 24)),  # what was taken is not said
        ((3024, 3024), PHONE, None),  # a crop
        ((1068, 600), CANON, None),
        ((4272, 2848), {**CANON, 0xA20E: 0.0}, None),
        ((4272, 2848), {**CANON, 0xA20E: 7e6}, None),  # no lens is that long
        ((4272, 2848), {0x920A: 50.0, 0xA20E: 4272000 / 876, 0xA210: 2}, None),  # shrunk by how much?
        ((4032, 3024), {0x920A: 4.25}, None),
        ((4032, 3024), {**PHONE, 0xA405: 0}, None),
        ((640, 480), {}, None),
    ],
)
def test_focal_length_in_pixels(size, details, focal):
    assert shot(size, details).focal_pixels == (None if focal is None else pytest.approx(focal, rel=1e-4))


def test_focal_length_of_a_real_photo(data_dir):
    """sceaux_castle: photos shrunk by half that keep their EXIF; K.txt is their true calibration."""
    k = float((data_dir / "sceaux_castle" / "K.txt").read_text().split()[0])
    for path in sorted((data_dir / "sceaux_castle" / "images").iterdir())[:3]:
        with Image.open(path) as photo:
            found = read_shot(photo.getexif(), photo.size)
        assert found.focal_pixels == pytest.approx(k, rel=0.05)
        assert found.camera == "EASTMAN KODAK COMPANY KODAK Z612 ZOOM DIGITAL CAMERA"
        assert (found.focal, found.focal_35mm) == (pytest.approx(5.85), 35)
        assert 10 < found.ev < 16  # daylight


def test_camera_lens_and_exposure():
    found = shot(
        (40, 30), {0x829A: 1 / 50, 0x829D: 4.0, 0x8827: 200, 0xA434: "EF50mm"}, {0x10F: "Canon", 0x110: "Canon X"}
    )
    assert (found.camera, found.lens) == ("Canon X", "EF50mm")
    assert found.ev == pytest.approx(math.log2(16 * 50 / 2), abs=1e-3)
    assert shot((40, 30), {}, {0x10F: "Apple\0", 0x110: "iPhone 12"}).camera == "Apple iPhone 12"
    nothing = shot((40, 30))
    assert (nothing.camera, nothing.lens, nothing.ev, nothing.place) == (None, None, None, None)


def test_place():
    gps = {1: "S", 2: (33.0, 51.0, 24.5), 3: "E", 4: (151.0, 12.0, 40.0), 5: b"\0", 6: 58.5}
    assert shot((40, 30), gps=gps).place == pytest.approx((-33.8568056, 151.2111111, 58.5), abs=1e-6)
    assert shot((40, 30), gps={**gps, 1: "N", 3: "W", 5: b"\1"}).place == pytest.approx(
        (33.8568056, -151.2111111, -58.5)
    )
    for missing in ({6: None}, {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, {4: (1.0,)}):
        kept = {k: v for k, v in {**gps, **missing}.items() if v is not None}
        assert shot((40, 30), gps=kept).place is None
