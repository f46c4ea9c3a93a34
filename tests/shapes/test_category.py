"""Folders of shapes: how they are split, one frame for all, what is wrong with which file, and true distances."""

import numpy as np
import pytest
import torch
import trimesh

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid
from neural3d.loading import load_data
from neural3d.shapes.category import (
    CategorySource,
    ShapeSet,
    distance_samples,
    load_shape_set,
    outer_surface,
    union_distance,
)
from neural3d.synthetic.furniture import box, joined, write_furniture


def save(mesh: Mesh, path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path)


def bar(size: float) -> Mesh:
    return box((10, 10, 10), (10 + size, 11, 11))


@pytest.fixture
def bars(tmp_path):
    """Two kinds, of 9 and 1 members, none at the origin."""
    for i in range(9):
        save(bar(1 + i / 4), tmp_path / "bars" / f"b{i}.ply")
    save(bar(0.5), tmp_path / "cube" / "only.ply")
    return tmp_path


def test_every_eighth_of_each_folder_is_held_out(bars):
    shapes = load_data(bars)
    assert isinstance(shapes, ShapeSet)
    assert shapes.members["test"] == ["bars/b0.ply", "bars/b8.ply"]
    assert len(shapes.members["train"]) == 8 and "cube/only.ply" in shapes.members["train"]


def test_folders_called_train_and_test_are_the_split(tmp_path):
    shapes = load_data(write_furniture(tmp_path, train=6, test=2))
    assert shapes.members["test"] == ["test/chair_0000.ply", "test/table_0001.ply"]
    assert len(shapes.meshes["train"]) == 6


def test_one_similarity_moves_all(bars):
    shapes = load_shape_set(bars)
    matrix = shapes.scene_from_capture.numpy()
    everything = [mesh for meshes in shapes.meshes.values() for mesh in meshes]
    boxes = np.array([[m.vertices.min(0), m.vertices.max(0)] for m in everything])
    assert np.allclose(boxes[:, 1].max(0)[0] - boxes[:, 0].min(0)[0], 1.8)  # the longest bar, 3 units
    assert np.allclose(matrix[0, 0], 1.8 / 3)
    i = shapes.members["train"].index("bars/b4.ply")
    assert np.allclose(np.ptp(shapes.meshes["train"][i].vertices, axis=0), np.array([2, 1, 1]) * 0.6, atol=1e-6)
    assert (boxes[:, 0] >= shapes.aabb[0].numpy()).all() and (boxes[:, 1] <= shapes.aabb[1].numpy()).all()


def test_errors_name_the_file(bars):
    whole = bar(1)
    cases = {
        "open.ply": (Mesh(whole.vertices, whole.faces[1:]), "watertight"),
        "cloud.ply": (None, "point clouds"),
        "up.obj": (whole, "what is up"),
    }
    for name, (mesh, words) in cases.items():
        if mesh is None:
            trimesh.PointCloud(whole.vertices).export(bars / name)
        else:
            save(mesh, bars / name)
        with pytest.raises(UserError, match=words) as error:
            load_shape_set(bars)
        assert name in str(error.value)
        (bars / name).unlink()


def test_an_inside_out_member_is_turned_and_told(bars):
    whole = bar(1)
    save(Mesh(whole.vertices, whole.faces[:, ::-1]), bars / "inside_out.ply")
    shapes = load_shape_set(bars)
    assert "inside_out.ply is inside out (its faces wind clockwise) and was turned." in shapes.notes
    assert all(mesh.volume > 0 for meshes in shapes.meshes.values() for mesh in meshes)


def test_too_few_shapes(tmp_path):
    save(bar(1), tmp_path / "one.ply")
    with pytest.raises(UserError, match="holds 1 mesh"):
        load_data(tmp_path)


def test_photos_make_a_folder_a_scene(bars):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(bars / "photo.png")
    with pytest.raises(UserError):  # no shapes: a capture without cameras
        load_data(bars)


@pytest.fixture(scope="module")
def cross():
    """Two bars through each other: faces of each lie within the other."""
    return joined([box((-0.8, -0.1, -0.1), (0.8, 0.1, 0.1)), box((-0.1, -0.8, -0.1), (0.1, 0.8, 0.1))])


def exact_cross(x):
    """The distance to the cross: an extruded plus sign; inside, the least over its outer faces, edges included."""
    plane, h = np.sort(np.abs(x[:, :2]), axis=1)[:, ::-1], np.abs(x[:, 2]) - 0.1  # plane: the arm along its first axis
    q = plane - [0.8, 0.1]
    flat = np.where((q > 0).any(1), np.linalg.norm(np.maximum(q, 0), axis=1), 0)
    corner = np.linalg.norm(plane - 0.1, axis=1)  # the inner corner
    arm = np.minimum(0.8 - plane[:, 0], 0.1 - plane[:, 1])
    flat = np.where((q <= 0).all(1), -np.where(plane[:, 0] > 0.1, arm, corner), flat)
    return np.where((flat > 0) & (h > 0), np.hypot(flat, h), np.where(flat > 0, flat, np.maximum(flat, h)))


def test_distances_know_nothing_of_faces_within_other_parts(cross):
    rng = np.random.default_rng(0)
    solid = Solid(cross)
    surface = outer_surface(cross, solid, 4096, rng)
    assert np.abs(exact_cross(surface)).max() < 1e-4
    points = rng.uniform(-0.9, 0.9, (4000, 3)) * [1, 1, 0.2]
    wrong = np.abs(union_distance(solid, surface, points) - exact_cross(points))
    assert wrong.max() < 0.045 and np.quantile(wrong, 0.98) < 1e-5  # exact but where the nearest face is hidden
    assert np.abs(solid.signed_distance(points) - exact_cross(points)).max() > 0.055  # what the faces alone would say


def test_batches_hold_what_they_say(tmp_path):
    shapes = load_data(write_furniture(tmp_path, train=5, test=0))
    source = CategorySource(shapes, torch.device("cpu"), points=64, cloud=100, noise=0.005)
    batch = source.draw(3 * 64, torch.Generator().manual_seed(0))
    assert len(set(batch.shape.tolist())) == 3 and batch.points.shape == (3, 64, 3) and len(batch) == 192
    for i, mesh in enumerate(shapes.meshes["train"][k] for k in batch.shape):
        solid = Solid(mesh)
        assert ((solid.winding(batch.points[i].numpy()) > 0) == (batch.distance[i].numpy() < 0)).all()
        low, high = solid.box
        off = solid.distance(batch.cloud[i].numpy()) / np.linalg.norm(high - low)
        assert 0.003 < np.sqrt(np.mean(off**2)) < 0.0055  # of N(0, 0.5 %) the part along the normal
    again = CategorySource(shapes, torch.device("cpu"), points=64, cloud=100, noise=0.005)
    assert torch.equal(again.draw(192, torch.Generator().manual_seed(0)).cloud, batch.cloud)


def test_what_is_inside_is_told_from_the_surface(cross):
    surface, points, distance = distance_samples(cross, np.array([[-1.0, -1, -1], [1, 1, 1]]), 0)
    assert np.abs(exact_cross(surface)).max() < 1e-4
    agree = (np.sign(distance) == np.sign(exact_cross(points)))[np.abs(distance) > 1e-4]
    assert agree.mean() > 0.999  # the bars are flush, see Solid.winding
