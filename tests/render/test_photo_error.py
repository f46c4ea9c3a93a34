import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.render.photo_error import bilinear, photo_psnr
from neural3d.scene import View

pytest.importorskip("open3d")


def test_bilinear_is_exact_at_texels_and_between():
    picture = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [0, 0, 255]]], np.uint8)
    uv = np.array([[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(bilinear(picture, uv), [[0, 0, 0], [1, 0, 0], [0.25, 0.25, 0.25], [0, 1, 0]], atol=1e-9)


def test_psnr_is_over_covered_pixels_only(tmp_path):
    """A grey square before a camera whose photo is 0.1 brighter there and white all around: 20 dB."""
    corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]], np.float32)
    grey = np.full((4, 4, 3), 102, np.uint8)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv=uv, texture=grey)
    image = np.full((40, 40, 3), 255, np.uint8)
    image[10:30, 10:30] = 102 + 25.5  # 127
    Image.fromarray(image).save(tmp_path / "photo.png")
    camera = Camera("PINHOLE", 40, 40, torch.tensor([20.0, 20, 20, 20]), torch.eye(4, dtype=torch.float64))
    view = View("photo", camera, tmp_path / "photo.png")
    assert photo_psnr(mesh, [view]) == pytest.approx(-20 * np.log10(25 / 255), abs=0.01)
    behind = Mesh(corners * [1, 1, -1], mesh.faces, uv=uv, texture=grey)
    assert np.isnan(photo_psnr(behind, [view]))
