"""TIFF of all depths and layouts has the colours it means, and its transparency."""

import struct
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from neural3d.errors import UserError
from neural3d.images.reading import lies_on_its_side, read_header, read_image
from neural3d.sfm.survey import measured

QUARTERS = np.array([[(200, 60, 30), (20, 150, 70)], [(40, 70, 220), (128, 128, 128)]], np.uint8)
ALPHA = np.array([[255, 128], [64, 255]], np.uint8)
DEPTHS = {
    "8": lambda v: v, "16": lambda v: v.astype(np.uint16) * 257, "32": lambda v: v.astype(np.uint32) * 16843009,
    "half": lambda v: (v / 255).astype(np.float16), "float": lambda v: (v / 255).astype(np.float32),
    "double": lambda v: v / 255,
}  # fmt: skip


def large(quarters):
    return quarters.repeat(8, 0).repeat(10, 1)


def read(path):
    width, height, alpha = read_header(path)
    assert (width, height) == (20, 16)
    pixels = read_image(path, width, height, alpha=True)
    return pixels[4::8, 5::10].astype(int), alpha


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [None, "unassalpha", "assocalpha"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colours(tmp_path, depth, layout, alpha, order):
    rgb = QUARTERS * (ALPHA[..., None] / 255) if alpha == "assocalpha" else QUARTERS
    pixels = large(np.round(np.dstack([rgb, ALPHA]) if alpha else rgb).astype(np.uint8))
    pixels = DEPTHS[depth](pixels if layout == "contig" else np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=layout, byteorder=order, compression="zlib",
        extrasamples=[alpha] if alpha else None,
    )  # fmt: skip
    found, has_alpha = read(tmp_path / "a.tif")
    assert has_alpha == bool(alpha) and (found[..., 3] == (ALPHA if alpha else 255)).all()
    assert abs(found[..., :3] - QUARTERS).max() <= (3 if alpha == "assocalpha" else 1)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite", "alpha"])
def test_grey(tmp_path, depth, kind):
    grey = QUARTERS[..., 1]
    given = np.dstack([grey, ALPHA]) if kind == "alpha" else 255 - grey if kind == "miniswhite" else grey
    options = {"extrasamples": ["unassalpha"], "planarconfig": "contig"} if kind == "alpha" else {}
    photometric = "miniswhite" if kind == "miniswhite" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", DEPTHS[depth](large(given)), photometric=photometric, **options)
    found, has_alpha = read(tmp_path / "a.tif")
    assert has_alpha == (kind == "alpha") and (found[..., 3] == (ALPHA if has_alpha else 255)).all()
    assert abs(found[..., :3] - grey[..., None]).max() <= 1


def test_inks_of_16_bits(tmp_path):
    inks = np.array([[(0, 200, 200, 0), (255, 0, 0, 0)], [(0, 0, 0, 255), (0, 0, 0, 0)]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", DEPTHS["16"](large(inks)), photometric="separated", planarconfig="contig")
    meant = np.array([[(255, 55, 55), (0, 255, 255)], [(0, 0, 0), (255, 255, 255)]])
    assert abs(read(tmp_path / "a.tif")[0][..., :3] - meant).max() <= 1


@pytest.mark.parametrize("depth", ["8", "16"])
def test_the_largest_page_is_taken(tmp_path, depth):
    """A preview before, another picture of the same size behind."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels in (np.zeros((4, 5, 3), np.uint8), large(QUARTERS), 255 - large(QUARTERS)):
            file.write(DEPTHS[depth](pixels), photometric="rgb", metadata=None)
    assert abs(read(tmp_path / "a.tif")[0][..., :3] - QUARTERS).max() <= 1


def test_floating_point_beyond_white_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", large(QUARTERS).astype(np.float32), photometric="rgb")
    with pytest.raises(UserError, match=r"a\.tif .*its numbers reach 220, but of floating point 1 is white"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_turned_as_exif_says(tmp_path, mode, orientation):
    """Of both ways of reading: the pixels come upright, and so is the size that the survey tells."""
    upright = large(QUARTERS) if mode == "RGB" else DEPTHS["16"](large(QUARTERS[..., 1]))
    stored = upright if orientation == 1 else np.ascontiguousarray(np.rot90(upright))
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Scanner", orientation
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif)
    assert not lies_on_its_side(tmp_path / "a.tif")
    found, _ = read(tmp_path / "a.tif")
    assert abs(found[..., :3] - (QUARTERS if mode == "RGB" else QUARTERS[..., 1:2])).max() <= 1
    one = measured(tmp_path / "a.tif")
    assert (one.size, one.orientation, one.shot.camera) == ((20, 16), orientation, "Scanner")


def test_compressed_beyond_what_is_installed(tmp_path, monkeypatch):
    """LZW of 16 bits is left to Pillow; of what it cannot read either the extra is named."""
    monkeypatch.setattr(
        tifffile.TiffPage, "decode", property(lambda _: (_ for _ in ()).throw(ValueError("imagecodecs")))
    )
    Image.fromarray(DEPTHS["16"](large(QUARTERS[..., 1]))).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert abs(read(tmp_path / "a.tif")[0][..., 1] - QUARTERS[..., 1]).max() <= 1
    Image.fromarray(large(QUARTERS[..., 1]) / np.float32(255)).save(tmp_path / "b.tif", compression="tiff_lzw")
    with pytest.raises(UserError, match=r"pip install 'neural3d\[tiff\]'"):
        read(tmp_path / "b.tif")


def test_a_picture_without_pixels_is_a_sentence(tmp_path):
    """Its width, damaged, is 0."""
    tifffile.imwrite(tmp_path / "a.tif", large(QUARTERS).astype(np.uint16) * 257, photometric="rgb", byteorder="<")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags["ImageWidth"].valueoffset
    data[place : place + 2] = bytes(2)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif", 20, 16, alpha=False)


def test_a_width_that_is_a_list(tmp_path):
    """One damaged byte says that a tag holds two numbers."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((40, 50), 40_000, np.uint16))
    entry = struct.pack("<HHII", 256, 4, 1, 50)
    data = path.read_bytes()
    assert entry in data
    path.write_bytes(data.replace(entry, struct.pack("<HHIHH", 256, 3, 2, 50, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of metadata
        assert read_image(path, 50, 40, False).shape == (40, 50, 3)
