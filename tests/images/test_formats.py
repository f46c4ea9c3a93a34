"""HEIC and camera raw become pictures like any other: upright, in sRGB, with what EXIF says of camera and place."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from dng import write_dng
from PIL import Image, ImageCms

from neural3d.errors import UserError
from neural3d.images import formats
from neural3d.images.exif import read_shot
from neural3d.images.reading import read_header, read_image
from neural3d.sfm.footage import find_footage, require_footage, stage
from neural3d.sfm.footage_doctor import describe_footage

SIZE = (128, 96)
CORNERS = np.array(
    [[(200, 60, 30), (20, 150, 70)], [(40, 70, 220), (128, 128, 128)]], np.uint8
)  # of a flat quarter each
UPRIGHT = CORNERS.repeat(48, 0).repeat(64, 1)


def corners(picture):
    """The colours in the middle of the four quarters."""
    w, h = picture.size
    return np.array([[picture.getpixel((w * x // 4, h * y // 4)) for x in (1, 3)] for y in (1, 3)])


def phone(orientation=1):
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Phone", orientation
    exif.get_ifd(0x8769).update({0x920A: 4.2, 0xA405: 26})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0), 5: b"\0", 6: 400.0})
    return exif.tobytes()


def write_heic(path, pixels, **options):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, which reads HEIC, is not installed")
    heif.register_heif_opener()
    Image.fromarray(pixels).save(path, format="HEIF", quality=95, **options)
    return path


def staged(folder, out):
    """The one photo of a folder as a capture holds it, and its camera."""
    cameras, unreadable, _ = stage(find_footage(folder), out, 0, lambda *_: None)
    assert not unreadable
    return Image.open(out / cameras[0].names[0]), cameras[0]


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic(tmp_path, orientation):
    stored = UPRIGHT if orientation == 1 else np.rot90(UPRIGHT)
    write_heic(tmp_path / "IMG_1.HEIC", stored, exif=phone(orientation))
    picture, camera = staged(tmp_path, tmp_path / "out" / "images")
    assert (picture.size, picture.format, camera.names) == (SIZE, "JPEG", ["IMG_1.jpg"])
    assert abs(corners(picture) - CORNERS.astype(int)).max() <= 3
    shot = read_shot(picture.getexif(), picture.size)
    assert (shot.camera, shot.focal_35mm, shot.place) == ("Phone", 26, pytest.approx((47.5, 8, 400)))
    assert camera.focal == pytest.approx(26 * 160 / 43.27, rel=1e-3)
    assert camera.places == {"IMG_1.jpg": pytest.approx((47.5, 8, 400))}


@pytest.mark.parametrize("orientation", [1, 6])
def test_raw(tmp_path, orientation):
    pytest.importorskip("rawpy", reason="rawpy, which reads camera raw, is not installed")
    stored = UPRIGHT if orientation == 1 else np.rot90(UPRIGHT)
    write_dng(tmp_path / "P1.DNG", np.ascontiguousarray(stored), orientation)
    picture, camera = staged(tmp_path, tmp_path / "out" / "images")
    assert (picture.size, camera.size, picture.format) == (SIZE, SIZE, "JPEG")
    assert abs(corners(picture) - CORNERS.astype(int)).max() <= 2
    shot = read_shot(picture.getexif(), picture.size)
    assert (shot.camera, shot.focal, shot.focal_35mm) == ("Test Raw", 24, 36)
    assert shot.ev == pytest.approx(np.log2(16 * 50 / 2), abs=1e-3)
    assert camera.focal == pytest.approx(36 * 160 / 43.27, rel=1e-3)


def test_raw_keeps_what_is_darker_darker(tmp_path):
    """No photo is brightened by its own histogram: half the light has half the value in linear light."""
    pytest.importorskip("rawpy", reason="rawpy, which reads camera raw, is not installed")
    for value in (60, 120):
        write_dng(tmp_path / f"{value}.dng", np.full((96, 128, 3), value, np.uint8))
        with formats.open_photo(tmp_path / f"{value}.dng") as picture:
            assert abs(np.asarray(picture).mean() - value) < 2


def test_another_colour_space_becomes_srgb(tmp_path):
    """Of a profile like sRGB's with red and green exchanged: the picture is written anew, with them exchanged."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    names = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    other = re.sub(rb"[rg]XYZ", lambda match: names[match[0]], srgb).replace(
        "sRGB".encode("utf-16-be"), b"\0G\0R\0B\0?"
    )
    picture = Image.fromarray(UPRIGHT[..., [1, 0, 2]])
    picture.save(tmp_path / "a.jpg", quality=95, subsampling=0, icc_profile=other)
    written, _ = staged(tmp_path, tmp_path / "out" / "images")
    assert abs(corners(written) - CORNERS.astype(int)).max() <= 3 and not written.info.get("icc_profile")
    (tmp_path / "a.jpg").unlink()
    picture.save(tmp_path / "b.png", icc_profile=srgb)
    written, _ = staged(tmp_path, tmp_path / "again" / "images")
    assert (corners(written) == CORNERS[..., [1, 0, 2]]).all()


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    for name in ("IMG_1.HEIC", "IMG_2.heic", "DSC_1.NEF"):
        (tmp_path / name).write_bytes(b"as cameras write them")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"IMG_1\.HEIC and 1 more are HEIC, .* pip install 'neural3d\[heic\]'"):
        require_footage(tmp_path)
    _, advice = describe_footage(find_footage(tmp_path))
    assert "DSC_1.NEF is camera raw, which takes an extra: pip install 'neural3d[raw]'" in " ".join(advice)


def test_damage_is_told_photo_by_photo(tmp_path):
    pytest.importorskip("pillow_heif", reason="pillow-heif, which reads HEIC, is not installed")
    pytest.importorskip("rawpy", reason="rawpy, which reads camera raw, is not installed")
    whole = io.BytesIO()
    write_heic(whole, UPRIGHT)
    (tmp_path / "cut.heic").write_bytes(whole.getvalue()[:300])
    (tmp_path / "no.nef").write_bytes(b"no raw" * 100)
    _, unreadable, _ = stage(find_footage(tmp_path), tmp_path / "out" / "images", 0, lambda *_: None)
    assert sorted(unreadable) == ["cut.heic", "no.nef"]
    assert all(why.startswith("cannot be read (") for why in unreadable.values())


def test_damaged_heic_of_every_kind(tmp_path):
    """Its decoder raises errors of five types, one of which is no kind of OSError and one no kind of ValueError."""
    whole = io.BytesIO()
    write_heic(whole, UPRIGHT)
    rng, path, refused = np.random.default_rng(0), tmp_path / "a.heic", 0
    for _ in range(600):
        data = np.frombuffer(whole.getvalue(), np.uint8).copy()
        data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            read_image(path, UPRIGHT.shape[1], UPRIGHT.shape[0], False)
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "deep.tif"])
def test_sizes_that_the_file_cannot_hold(tmp_path, name):
    """A few damaged bytes in a header ask for gigabytes."""
    path, vast = tmp_path / name, 65000
    if name == "deep.tif":
        tifffile.imwrite(path, np.zeros((40, 50), np.uint16))
    else:
        Image.new("L", (50, 40)).save(path)
    data = path.read_bytes()
    for was, becomes in [
        (struct.pack(">II", 50, 40), struct.pack(">II", vast, vast)),  # PNG
        (struct.pack(">HH", 40, 50), struct.pack(">HH", vast, vast)),  # JPEG
        *((struct.pack("<HHII", tag, kind, 1, side), struct.pack("<HHII", tag, kind, 1, vast))
          for tag, side in ((256, 50), (257, 40)) for kind in (3, 4)),
    ]:  # fmt: skip
        data = data.replace(was, becomes)
    if name == "a.png":  # its header is summed
        data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    path.write_bytes(data)
    for read in (read_header, lambda path: read_image(path, 50, 40, False)):
        with pytest.raises(UserError, match=f"{name}.*{vast} × {vast} pixels, but it has {len(data)} bytes"):
            read(path)


def test_large_even_pictures_are_read(tmp_path):
    """As masks are."""
    Image.new("1", (12000, 9000), 1).save(tmp_path / "mask.png")
    assert read_header(tmp_path / "mask.png")[:2] == (12000, 9000)


def test_a_png_whose_part_says_gigabytes(tmp_path):
    """Pillow would make room for them."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"IDAT")
    data[place - 4 : place] = (2**32 - 9).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(data)
    assert formats.open_photo(tmp_path / "a.png").size == (50, 40)
    with pytest.raises(formats.UNREADABLE, match="a part of it says 4,294,967,287 bytes"):
        formats.open_photo(tmp_path / "b.png")
