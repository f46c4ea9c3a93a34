"""Pictures of what is missing of a surface: what they show, and where what they are filled with goes."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from neural3d.geometry.mesh import extract
from neural3d.geometry.unwrap import texels_of, unwrapped
from neural3d.render.bake import nearest_texels
from neural3d.render.retouch import retouched
from neural3d.synthetic.analytic import Sphere

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
SIZE, RADIUS = 256, 0.6


def paint(x):
    return 0.5 + 0.3 * x / RADIUS


@pytest.fixture(scope="module")
def ball():
    mesh = extract(Sphere(RADIUS).sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 24)
    mesh = unwrapped(replace(mesh, normals=mesh.vertex_normals()), SIZE)
    texels = texels_of(mesh, SIZE)
    return mesh, texels, nearest_texels(texels)


def hole(texels):
    """A cap on the side, across charts."""
    return texels.points @ [0.8, 0.6, 0] > 0.75 * RADIUS


def test_what_is_filled_in_goes_to_its_texels_and_no_others(ball):
    """The guess is wrong by a step that filling takes back: then the ball has its own colours everywhere."""
    mesh, texels, nearest = ball
    hidden = hole(texels)
    truth = paint(texels.points)
    guess = truth + 0.2 * hidden[:, None]
    pictures = []

    def fill(picture, known, wanted):
        pictures.append((picture, known, wanted))
        assert not (known & wanted).any()
        return picture - 0.2 * wanted[:, None]

    made = retouched(mesh, texels, guess, ~hidden, nearest, 0.006, fill)
    assert np.array_equal(made[~hidden], guess[~hidden])
    wrong = np.abs(made - truth).max(1)[hidden]
    assert np.quantile(wrong, 0.9) < 0.02 and (wrong > 0.1).mean() < 0.06  # but for the rim, where the guess stays
    assert sum(len(p) for p, _, _ in pictures) < 30


def test_pictures_are_upright_and_not_mirrored(ball):
    """Down the rows z falls; to the right of who looks at the ball from +x + y, y − x grows."""
    mesh, texels, nearest = ball
    hidden = hole(texels)
    seen = []

    def fill(picture, known, wanted):
        seen.append((picture[0], known[0]))
        return picture

    retouched(mesh, texels, paint(texels.points), ~hidden, nearest, 0.006, fill)
    x, y, z = (seen[0][0] - 0.5) / 0.3 * RADIUS
    inner = torch.from_numpy(ndimage.binary_erosion((x**2 + y**2 + z**2 > 0).numpy(), iterations=8))
    i, j = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    assert float(torch.corrcoef(torch.stack([i[inner], z[inner]]))[0, 1]) < -0.95
    assert float(torch.corrcoef(torch.stack([j[inner], (y - x)[inner]]))[0, 1]) > 0.9
    assert 0.006 * 0.7 < float(-(z[inner] * (i[inner] - i[inner].mean())).mean() / i[inner].var()) < 0.006 * 1.3


def test_nothing_known_nothing_filled(ball):
    mesh, texels, nearest = ball
    colors = paint(texels.points)
    made = retouched(mesh, texels, colors, np.zeros(len(colors), bool), nearest, 0.006, lambda *_: 1 / 0)
    assert np.array_equal(made, colors)
