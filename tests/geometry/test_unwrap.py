import importlib.util

import numpy as np
import pytest
import torch
import trimesh

from neural3d.geometry import unwrap
from neural3d.geometry.clean import simplified
from neural3d.geometry.mesh import Mesh, extract
from neural3d.geometry.unwrap import texels_of, unwrapped
from neural3d.synthetic.analytic import Torus

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("open3d", "xatlas")
]
TORUS = Torus(0.55, 0.25, (0.1, -0.07, 0.15))
SIZE = 256


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return extract(TORUS.sdf, torch.tensor([[-1.0, -1, -1], [1, 1, 1]]), 64)


@pytest.fixture(scope="module")
def small(torus) -> Mesh:
    return simplified(torus, 2000)


@pytest.fixture(scope="module")
def flat(small) -> Mesh:
    return unwrapped(small, SIZE)


def test_unwrapping_keeps_the_surface(small, flat):
    np.testing.assert_array_equal(flat.vertices[flat.faces], small.vertices[small.faces])
    np.testing.assert_array_equal(flat.normals[flat.faces], small.normals[small.faces])
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
    assert (covered > 1).sum() < 1e-4 * covered.sum()  # rounding may fold a face of the smoothed copy
    texels = texels_of(flat, SIZE)
    assert len(np.unique(texels.index)) == len(texels)
    found = np.zeros(SIZE * SIZE, bool)
    found[texels.index] = True
    assert np.count_nonzero(found.reshape(SIZE, SIZE) != (covered >= 1)) < 1e-3 * covered.sum()  # centres on edges
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


def test_charts_of_a_noisy_ball_are_bounded(monkeypatch):
    """Noise of a whole edge's length: each face would be a chart. They are cut in blocks, then of fewer faces."""
    ball = trimesh.creation.icosphere(5)
    noise = np.random.default_rng(0).normal(0, 0.03, ball.vertices.shape)
    rough = Mesh((ball.vertices + noise).astype(np.float32), ball.faces.astype(np.int32))
    steps = []
    whole = unwrapped(rough, SIZE, lambda *step: steps.append(step))
    np.testing.assert_array_equal(whole.vertices[whole.faces], rough.vertices[rough.faces])
    done = [done for stage, done, _ in steps if stage == "unwrapping"]
    assert len(done) == 1 + 8 and done == sorted(done) and done[-1] == len(rough.faces)
    monkeypatch.setattr(unwrap, "MOST_CHARTS", 600)
    few = unwrapped(rough, SIZE)
    assert len(few.faces) <= len(rough.faces) // 2
    assert few.uv.min() >= 0 and few.uv.max() <= 1
