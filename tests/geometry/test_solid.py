"""Exact distances and insides of meshes, against closed forms and trimesh."""

import sys

import numpy as np
import pytest
import trimesh

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, load_open3d, open_edges


def box(low, high) -> Mesh:
    made = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32))


def union(a: Mesh, b: Mesh) -> Mesh:
    return Mesh(np.concatenate([a.vertices, b.vertices]), np.concatenate([a.faces, b.faces + len(a.vertices)]))


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-1, 1, (2000, 3))


def test_signed_distance_of_a_box_is_the_closed_form(points):
    half = np.array([0.5, 0.4, 0.6])
    q = np.abs(points) - half
    truth = np.linalg.norm(q.clip(0), axis=1) + np.minimum(q.max(1), 0)
    np.testing.assert_allclose(Solid(box(-half, half)).signed_distance(points), truth, atol=2e-6)


def test_overlapping_parts_are_inside_and_not_cancelled(points):
    """Where parity of crossings says outside: two crossings of two walls."""
    solid = Solid(union(box([-0.6] * 3, [0.2] * 3), box([-0.2] * 3, [0.6] * 3)))
    inside = [(points > low).all(1) & (points < high).all(1) for low, high in ((-0.6, 0.2), (-0.2, 0.6))]
    np.testing.assert_array_equal(solid.winding(points), inside[0].astype(int) + inside[1])
    assert (solid.winding(points) == 2).any()


def test_open_edges():
    closed = box([0, 0, 0], [1, 1, 1])
    assert open_edges(closed) == 0
    assert open_edges(union(closed, closed)) == 0  # edges of four faces, twice each way
    assert open_edges(Mesh(closed.vertices, closed.faces[1:])) == 3
    turned = closed.faces.copy()
    turned[0] = turned[0, ::-1]
    assert open_edges(Mesh(closed.vertices, turned)) == 3  # closed, but a face looks inward


def test_rays_meet_the_first_face():
    """t counts lengths of the direction; one origin serves all rays; what is not hit is said to be at infinity."""
    made = trimesh.creation.box((2, 2, 2))
    solid = Solid(Mesh(np.asarray(made.vertices), np.asarray(made.faces)))
    ways = np.array([[-2.0, 0.1, 0.2], [1, 0, 0], [-2, 9, 0]])
    t, face = solid.first_hit(np.array([5.0, 0.1, 0.2]), ways)
    np.testing.assert_allclose(t, [2, np.inf, np.inf], rtol=1e-6)
    assert face.tolist()[1:] == [-1, -1] and solid.normals[face[0]].tolist() == [1, 0, 0]
    assert solid.blocked(np.array([[5.0, 0.1, 0.2]]), ways, far=2.1).tolist() == [True, False, False]
    assert not solid.blocked(np.array([5.0, 0.1, 0.2]), ways, far=1.9).any()
    np.testing.assert_array_equal(solid.box, [[-1, -1, -1], [1, 1, 1]])


def test_libraries_that_the_system_lacks_are_named(monkeypatch):
    """pip cannot install them."""

    class Lacking:
        def find_spec(self, name, path=None, target=None):
            if name == "open3d":
                raise ImportError("libusb-1.0.so.0: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    with pytest.raises(UserError, match=r"libusb-1\.0\.so\.0.*apt-get install"):
        load_open3d()
