"""Pixels: area averages, premultiplied under alpha, whatever the file is."""

import numpy as np
import pytest
from PIL import Image

from neural3d.images.reading import area_average, read_header, read_image, read_mask


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_area_average(tmp_path):
    pixels = noise(12, 18, 3)
    shrunk = read_image(save(tmp_path / "a.png", pixels), 6, 4, alpha=False)
    truth = pixels.reshape(4, 3, 6, 3, 3).mean((1, 3))
    assert shrunk.dtype == np.uint8 and abs(shrunk - truth).max() < 0.6  # one rounding, Pillow's a little off


@pytest.mark.parametrize("size", [(5, 7), (18, 5), (7, 12)])
def test_area_average_of_fractions(size):
    """New pixels that cut old ones: against the same picture blown up to a common multiple, where they do not."""
    pixels = noise(12, 18, 2).astype(np.float32)
    fine = pixels.repeat(size[1], 0).repeat(size[0], 1)
    truth = fine.reshape(size[1], 12, size[0], 18, 2).mean((1, 3))
    np.testing.assert_allclose(area_average(pixels, *size), truth, rtol=1e-5)


def test_alpha_is_averaged_premultiplied(tmp_path):
    """Bright green hidden under alpha 0 beside opaque red: the average is red at half the alpha, no green."""
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[:, 0], pixels[:, 1] = (200, 0, 0, 255), (0, 255, 0, 0)
    assert read_image(save(tmp_path / "a.png", pixels), 1, 1, alpha=True).tolist() == [[[200, 0, 0, 128]]]


def test_alpha_against_the_obvious(tmp_path):
    pixels = noise(12, 12, 4)
    blocks = pixels.astype(float).reshape(4, 3, 4, 3, 4).transpose(0, 2, 1, 3, 4).reshape(4, 4, 9, 4)
    weight = blocks[..., 3:]
    truth = np.concatenate([(blocks[..., :3] * weight).sum(2) / weight.sum(2), weight.mean(2)], -1)
    assert abs(read_image(save(tmp_path / "a.png", pixels), 4, 4, alpha=True) - truth).max() <= 0.51


def test_channels_are_as_asked(tmp_path):
    opaque, cut = save(tmp_path / "a.png", noise(4, 4, 3)), save(tmp_path / "b.png", noise(4, 4, 4))
    assert (read_image(opaque, 4, 4, alpha=True)[..., 3] == 255).all()
    assert read_image(cut, 4, 4, alpha=False).shape == (4, 4, 3)
    assert read_header(opaque) == (4, 4, False) and read_header(cut) == (4, 4, True)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(noise(6, 6, 3)).convert(mode).save(path)
    assert read_image(path, 3, 3, alpha=False).shape == (3, 3, 3)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    path = save(tmp_path / "a.png", np.full((4, 4), 0x8080, np.uint16))
    assert (read_image(path, 4, 4, alpha=False) == 0x80).all()


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_jpeg_is_shrunk_while_decoding(tmp_path, factor):
    """The decoder's own reduction stays within JPEG's errors of the area average, and shifts nothing."""
    y, x = np.mgrid[:96, :144] / 20
    pixels = (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", pixels, quality=98, subsampling=0)
    shrunk = read_image(path, 144 // factor, 96 // factor, alpha=False).astype(float)
    truth = pixels.reshape(96 // factor, factor, 144 // factor, factor, 3).mean((1, 3))
    assert abs(shrunk - truth).max() < 4


def test_mask_is_alpha_or_brightness(tmp_path):
    alpha = noise(4, 4, 4)
    assert (read_mask(save(tmp_path / "a.png", alpha), 4, 4) == alpha[..., 3]).all()
    grey = noise(4, 4)
    assert (read_mask(save(tmp_path / "b.png", grey), 4, 4) == grey).all()
