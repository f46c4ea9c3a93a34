"""The procedural category: every part closed and convex, every piece in its frame, splits and seeds apart."""

import numpy as np
import pytest

from neural3d.geometry.mesh import merge_vertices
from neural3d.geometry.solid import open_edges
from neural3d.synthetic.furniture import KINDS, joined, make_parts, write_furniture


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_closed_convex_and_thick(kind):
    counts = set()
    for seed in range(40):
        parts = make_parts(kind, seed)
        counts.add(len(parts))
        for part in parts:
            assert open_edges(merge_vertices(part)) == 0
            vectors = part.face_vectors()
            normals = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            heights = part.vertices @ normals.T - (part.vertices[part.faces[:, 0]] * normals).sum(1)
            assert heights.max() < 1e-9  # no vertex before any face: convex, and faces look outward
            assert -heights.min(0).max() > 0.03  # the thinnest side
        piece = joined(parts)
        low, high = piece.vertices.min(0), piece.vertices.max(0)
        assert low[2] == 0 and high[2] <= 1 and np.abs(piece.vertices[:, :2]).max() <= 0.55
    assert min(counts) >= 2 and max(counts) <= 8 and len(counts) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_touches_another(kind):
    """By its box: what would float in the air does not."""
    for seed in range(40):
        boxes = np.array([[p.vertices.min(0), p.vertices.max(0)] for p in make_parts(kind, seed)])
        meet = (boxes[:, None, 0] <= boxes[None, :, 1]).all(-1)
        meet &= meet.T
        assert (np.linalg.matrix_power(meet.astype(int), len(boxes)) > 0).all()


def test_equal_seeds_give_equal_bytes_and_splits_have_nothing_in_common(tmp_path):
    a, b, c = (write_furniture(tmp_path / n, train=10, test=10, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    files = sorted(p.relative_to(a) for p in a.rglob("*.ply"))
    assert len(files) == 20
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)
    pieces = [(folder / f).read_bytes() for folder in (a, c) for f in files]
    assert len(set(pieces)) == 40
