import importlib.util

import numpy as np
import pytest
import torch

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.unwrap import Paint, barycentric, simplified, texels_of, unwrapped
from neural3d.scene.analytic import Torus

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
TORUS = Torus(0.55, 0.25, (0.1, -0.07, 0.15))
SIZE = 256


@pytest.fixture(scope="module")
def torus() -> Mesh:
    mesh = extract(TORUS.sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 64)
    return mesh.colored(lambda x, n: (x * torch.tensor([0.5, 0.4, 0.9]) + 0.5).clamp(0, 1))


@pytest.fixture(scope="module")
def small(torus) -> Mesh:
    return simplified(torus, 2000)


@pytest.fixture(scope="module")
def flat(small) -> Mesh:
    return unwrapped(small, SIZE)


def test_the_budget_holds_and_the_shape_stays(torus, small):
    assert 1900 < len(small.faces) <= 2000 < len(torus.faces)
    assert TORUS.sdf(torch.from_numpy(small.vertices)).abs().max() < 0.01
    assert small.volume == pytest.approx(torus.volume, rel=0.01)
    wanted = np.clip(small.vertices * [0.5, 0.4, 0.9] + 0.5, 0, 1)
    assert np.abs(small.colors - wanted).max() < 0.01
    outward = TORUS.gradient(torch.from_numpy(small.vertices)).numpy()
    assert (small.normals * outward).sum(1).min() > 0.9
    assert simplified(torus, len(torus.faces)) is torus
    with pytest.raises(UserError, match="at least 4 faces"):
        simplified(torus, 3)


def test_colours_of_points_between_vertices():
    triangle = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.eye(3, dtype=np.float32))
    place = np.array([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3], [2, -1, 0]])
    share = barycentric(place + 0.1, np.repeat(np.eye(3)[None], 3, 0))  # moved along the normal
    np.testing.assert_allclose(share[:2], place[:2], atol=1e-9)
    assert (share >= 0).all() and share.sum(1) == pytest.approx(1)  # the third lies outside
    found = Paint(triangle)(torch.from_numpy(place[:2]), torch.empty(0))
    np.testing.assert_allclose(found, place[:2], atol=1e-6)


def test_unwrapping_keeps_the_surface(small, flat):
    np.testing.assert_array_equal(flat.vertices[flat.faces], small.vertices[small.faces])
    np.testing.assert_array_equal(flat.colors[flat.faces], small.colors[small.faces])
    assert flat.uv.min() >= 0 and flat.uv.max() <= 1
    assert len(flat.uv) == len(flat.vertices) == len(flat.normals)


def test_charts_do_not_overlap_and_keep_their_distance(flat):
    """The slow way: which faces hold the centre of each texel, face by face; and which charts touch which texels."""
    corners = flat.uv[flat.faces].astype(np.float64) * SIZE
    covered = np.zeros((SIZE, SIZE), int)
    for a, b, c in corners:
        low = np.floor(np.minimum(np.minimum(a, b), c)).astype(int)
        high = np.ceil(np.maximum(np.maximum(a, b), c)).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
        inside = np.all([s > 1e-6 for s in sides], axis=0) | np.all([s < -1e-6 for s in sides], axis=0)
        covered[low[1] : high[1], low[0] : high[0]] += inside
    assert covered.max() == 1
    texels = texels_of(flat, SIZE)
    assert len(np.unique(texels.index)) == len(texels)
    found = np.zeros(SIZE * SIZE, bool)
    found[texels.index] = True
    assert np.count_nonzero(found.reshape(SIZE, SIZE) != (covered == 1)) < 1e-3 * covered.sum()  # centres on edges
    assert covered.mean() > 0.3


def test_texels_lie_on_the_surface_at_their_uv(flat):
    texels = texels_of(flat, SIZE)
    assert TORUS.sdf(torch.from_numpy(texels.points)).abs().max() < 0.02
    uv = np.einsum("nk,nkc->nc", texels.share, flat.uv[flat.faces[texels.face]])
    row, column = np.divmod(texels.index, SIZE)
    np.testing.assert_allclose(uv * SIZE, np.stack([column, row], 1) + 0.5, atol=1e-3)
    outward = TORUS.gradient(torch.from_numpy(texels.points)).numpy()
    assert (texels.normals * outward).sum(1).min() > 0.9
    np.testing.assert_allclose(np.linalg.norm(texels.normals, axis=1), 1, atol=1e-5)
