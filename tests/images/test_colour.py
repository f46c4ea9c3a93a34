"""Whatever a picture's channels, depth, palette or profile: the colours that were meant, and its transparency."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from profiles import display_p3, in_p3, inks

from neural3d.images import colour
from neural3d.images.reading import read_header, read_image, read_mask
from neural3d.scene.masks import write_mask
from neural3d.sfm.footage import find_footage, stage

QUARTERS = np.array([[(200, 60, 30), (20, 150, 70)], [(40, 70, 220), (128, 128, 128)]], np.uint8)
ALPHA = np.array([[255, 0], [64, 255]], np.uint8)
SIZE = 32


def large(quarters):
    return quarters.repeat(SIZE // 2, 0).repeat(SIZE // 2, 1)


def quarters(pixels):
    step = SIZE // 2
    return pixels[step // 2 :: step, step // 2 :: step].astype(int)


def grey(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))


def save(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def write_png(path, pixels, bits, kind, key=b""):
    """A PNG of any depth. pixels: (H, W, channels) of `bits` each; kind: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    height, width = pixels.shape[:2]
    if bits == 16:
        rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        ones = np.unpackbits(pixels.astype(np.uint8).reshape(height, -1, 1), axis=2)[..., 8 - bits :]
        rows = np.packbits(ones.reshape(height, -1), axis=1)

    def chunk(name, data):
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([bits, kind, 0, 0, 0])
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = chunk(b"IHDR", head) + (chunk(b"tRNS", key) if key else b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_8_and_16_bits(tmp_path, bits, coloured, alpha):
    rgb = QUARTERS if coloured else grey(QUARTERS)[..., None]
    pixels = np.dstack([rgb, ALPHA]) if alpha else rgb
    deep = large(pixels).astype(int) * (257 if bits == 16 else 1)
    path = write_png(tmp_path / "a.png", deep, bits, (2 if coloured else 0) + (4 if alpha else 0))
    assert read_header(path) == (SIZE, SIZE, alpha)
    found = quarters(read_image(path, SIZE, SIZE, alpha=True))
    assert (found[..., :3] == rgb).all() and (found[..., 3] == (ALPHA if alpha else 255)).all()
    assert (
        quarters(read_mask(path, SIZE, SIZE)) == (ALPHA if alpha else grey(QUARTERS) if coloured else rgb[..., 0])
    ).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("keyed", [False, True])
def test_grey_png_of_any_depth_with_a_transparent_value(tmp_path, bits, keyed):
    white = 2**bits - 1
    values = np.array([[0, white], [white, 0]]) if bits == 1 else np.array([[0, 1], [white // 2, white]])
    key = int(values[0, 1]).to_bytes(2) if keyed else b""
    path = write_png(tmp_path / "a.png", large(values)[..., None], bits, 0, key)
    assert read_header(path)[2] == keyed
    found = quarters(read_image(path, SIZE, SIZE, alpha=True))
    assert abs(found[..., 0] - values * 255 / white).max() <= 1
    assert (found[..., 3] == np.where(keyed & (values == values[0, 1]), 0, 255)).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_png_with_a_transparent_colour(tmp_path, bits):
    deep = large(QUARTERS).astype(int) * (257 if bits == 16 else 1)
    key = b"".join(int(v).to_bytes(2) for v in deep[0, -1])
    found = quarters(read_image(write_png(tmp_path / "a.png", deep, bits, 2, key), SIZE, SIZE, alpha=True))
    assert (found == np.dstack([QUARTERS, [[255, 0], [255, 255]]])).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette_with_transparency(tmp_path, suffix):
    """A palette with one clear entry, or with alpha in the palette."""
    picture = Image.fromarray(large(QUARTERS)).quantize(4)
    clear = picture.getpixel((SIZE - 1, 0))
    options = {} if suffix == ".tif" else {"transparency": clear}
    picture.save(tmp_path / f"a{suffix}", **options)
    found = quarters(read_image(tmp_path / f"a{suffix}", SIZE, SIZE, alpha=True))
    seen = np.array([[True, suffix == ".tif"], [True, True]])
    assert (found[..., 3] == 255 * seen).all() and abs(found[..., :3] - QUARTERS)[seen].max() <= 1
    if suffix == ".png":
        picture.save(tmp_path / "b.png", transparency=bytes(ALPHA.ravel()[[k]][0] for k in range(4)))
        entries = quarters(np.asarray(picture))
        found = read_image(tmp_path / "b.png", SIZE, SIZE, alpha=True)
        assert (quarters(found)[..., 3] == ALPHA.ravel()[entries]).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_inks(tmp_path, suffix):
    """JPEG of inks is stored inverted, as Adobe began; TIFF is not. With a profile, it says what they look like."""
    cyan_less = np.array([[(0, 200, 200, 0), (255, 0, 0, 0)], [(0, 0, 0, 255), (0, 0, 0, 0)]], np.uint8)
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    path = save(tmp_path / f"a{suffix}", large(cyan_less), "CMYK", **options)
    meant = np.array([[(255, 55, 55), (0, 255, 255)], [(0, 0, 0), (255, 255, 255)]])
    assert abs(quarters(read_image(path, SIZE, SIZE, alpha=False)) - meant).max() <= 3
    profile = inks([100, 10] + 6 * [20] + [53.6] + 7 * [0])  # 53.6: the L* of sRGB's 128
    save(path, large(cyan_less), "CMYK", icc_profile=profile, **options)
    found = quarters(read_image(path, SIZE, SIZE, alpha=False))
    assert abs(found[0, 1] - 128).max() <= 3 and abs(found[1, 1] - 255).max() <= 3 and abs(found[1, 0] - 27).max() <= 3


def test_lab(tmp_path):
    lab = ImageCms.profileToProfile(
        Image.fromarray(large(QUARTERS)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "a.tif")
    assert (
        abs(quarters(read_image(tmp_path / "a.tif", SIZE, SIZE, alpha=False)) - QUARTERS).max() <= 8
    )  # bytes of Lab are coarse


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_display_p3_becomes_srgb(tmp_path, suffix):
    options = {"quality": 100, "subsampling": 0, "lossless": True} if suffix != ".tif" else {}
    path = save(tmp_path / f"a{suffix}", large(in_p3(QUARTERS)), icc_profile=display_p3(), **options)
    assert abs(in_p3(QUARTERS).astype(int) - QUARTERS).max() > 15  # the test would tell
    assert abs(quarters(read_image(path, SIZE, SIZE, alpha=False)) - QUARTERS).max() <= 5
    staged, unreadable, _ = stage(find_footage(tmp_path), tmp_path / "out" / "images", 0, lambda *_: None)
    with Image.open(tmp_path / "out" / "images" / staged[0].names[0]) as written:
        assert not unreadable and not written.info.get("icc_profile")
        assert abs(quarters(np.asarray(written)) - QUARTERS).max() <= 5


def test_alpha_and_palette_go_with_a_profile(tmp_path):
    cut = np.dstack([in_p3(QUARTERS), ALPHA])
    path = save(tmp_path / "a.png", large(cut), icc_profile=display_p3())
    found = quarters(read_image(path, SIZE, SIZE, alpha=True))
    assert abs(found[..., :3] - QUARTERS).max() <= 3 and (found[..., 3] == ALPHA).all()
    Image.fromarray(large(in_p3(QUARTERS))).quantize(4).save(tmp_path / "b.png", icc_profile=display_p3())
    assert abs(quarters(read_image(tmp_path / "b.png", SIZE, SIZE, alpha=False)) - QUARTERS).max() <= 3


def test_srgb_by_its_profile_is_left_alone(tmp_path, monkeypatch):
    """Nothing is converted where it would change nothing, nor where the profile is damaged or of other channels."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert colour.in_srgb(Image.new("RGB", (1, 1)))
    for profile in (srgb, srgb[:200], b"no profile", inks(16 * [50])):
        path = save(tmp_path / "a.png", large(QUARTERS), icc_profile=profile)
        with Image.open(path) as picture:
            assert colour.in_srgb(picture)
            colour.srgb(picture)  # looks at the profile once
        with monkeypatch.context() as patched:
            patched.setattr(ImageCms, "applyTransform", None)
            assert (quarters(read_image(path, SIZE, SIZE, alpha=False)) == QUARTERS).all()


@pytest.mark.parametrize("kind", ["LA", "P", "16"])
def test_process_keeps_the_alpha_that_colmap_would_misread(tmp_path, kind):
    """Grey with alpha, palettes and 16 bits are written anew as plain PNG, with their transparency."""
    if kind == "LA":
        save(tmp_path / "a.png", large(np.dstack([grey(QUARTERS), ALPHA])))
    elif kind == "16":
        write_png(tmp_path / "a.png", large(np.dstack([grey(QUARTERS), ALPHA])).astype(int) * 257, 16, 4)
    else:
        picture = Image.fromarray(large(QUARTERS)).quantize(4)
        picture.save(tmp_path / "a.png", transparency=picture.getpixel((SIZE - 1, 0)))
    staged, _, _ = stage(find_footage(tmp_path), tmp_path / "out" / "images", 0, lambda *_: None)
    with Image.open(tmp_path / "out" / "images" / staged[0].names[0]) as written:
        assert (written.format, written.mode) == ("PNG", "RGBA")
        found = quarters(np.asarray(written))
    assert (found[..., 3] == (ALPHA if kind != "P" else [[255, 0], [255, 255]])).all()
    seen = found[..., 3] > 0
    assert abs(found[..., :3] - (QUARTERS if kind == "P" else grey(QUARTERS)[..., None]))[seen].max() <= 1


def test_a_palette_with_transparency_is_a_mask(tmp_path):
    picture = Image.fromarray(large(QUARTERS)).quantize(4)
    picture.save(tmp_path / "mask.png", transparency=picture.getpixel((SIZE - 1, 0)))
    write_mask(tmp_path / "mask.png", tmp_path / "a.jpg", tmp_path / "out.png", (SIZE, SIZE), 1)
    assert (quarters(np.asarray(Image.open(tmp_path / "out.png"))) == [[255, 0], [255, 255]]).all()


def test_heic_of_a_phone_in_a_capture(tmp_path):
    """A capture may name HEIC photos, too: Display P3 as phones write it."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, which reads HEIC, is not installed")
    heif.register_heif_opener()
    data = io.BytesIO()
    save(data, large(in_p3(QUARTERS)), format="HEIF", quality=100, icc_profile=display_p3())
    (tmp_path / "a.heic").write_bytes(data.getvalue())
    assert read_header(tmp_path / "a.heic") == (SIZE, SIZE, False)
    assert abs(quarters(read_image(tmp_path / "a.heic", SIZE, SIZE, alpha=False)) - QUARTERS).max() <= 5
