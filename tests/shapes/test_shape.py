"""Meshes and point clouds as data: frames, formats, and files that are no good."""

import numpy as np
import pytest
import torch
import trimesh

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.loading import load_data
from neural3d.run import configure
from neural3d.shapes.samples import FAR, SolidSource, sample_surface
from neural3d.shapes.shape import HALF_SIDE, Shape, is_inside_out, load_shape


def written(path, vertices, faces=None, normals=None):
    """A mesh or cloud file by trimesh, or by hand for clouds with normals."""
    if faces is not None:
        trimesh.Trimesh(vertices, faces, process=False).export(path)
    elif normals is None:
        trimesh.PointCloud(vertices).export(path)
    else:
        np.savetxt(path, np.concatenate([vertices, normals], 1))  # .xyzn
    return path


@pytest.fixture
def torus():
    made = trimesh.creation.torus(1.0, 0.3)
    return np.asarray(made.vertices) * 7 + [100, -20, 3], np.asarray(made.faces)


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_formats_agree_on_the_surface(torus, tmp_path, ending):
    shape = load_shape(written(tmp_path / f"torus.{ending}", *torus))
    assert len(shape.vertices) == len(torus[0]) and len(shape.faces) == len(torus[1])  # of STL after joining
    back = shape.mesh.transformed(torch.linalg.inv(shape.scene_from_capture))
    np.testing.assert_allclose(np.sort(back.vertices, 0), np.sort(torus[0], 0), atol=2e-4)
    size = shape.vertices.max(0) - shape.vertices.min(0)
    assert abs(size.max() - 2 * HALF_SIDE) < 1e-5 and abs(shape.mesh.volume) > 0
    up = 2 if ending in ("ply", "stl") else 1  # in the file: of the others, +y is up
    assert np.isclose(size[2] / size.max(), np.ptp(torus[0][:, up]) / np.ptp(torus[0], axis=0).max(), atol=1e-5)


def test_clouds_keep_their_unit_normals(tmp_path):
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((50, 3))
    points = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    shape = load_shape(written(tmp_path / "ball.xyzn", points, normals=normals))
    assert shape.faces is None
    np.testing.assert_allclose(shape.normals, points, atol=1e-5)
    assert load_shape(written(tmp_path / "ball.ply", points)).normals is None


@pytest.mark.parametrize(
    "points, said",
    [
        (np.zeros((0, 3)), "no points"),
        (np.full((1, 3), 2.0), "one place"),
        (np.full((3, 3), np.nan), "no points but NaN"),
    ],
)
def test_clouds_that_are_none(tmp_path, points, said):
    header = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n" + "".join(f"property float {a}\n" for a in "xyz")
    path = tmp_path / "cloud.ply"
    path.write_text(header + "end_header\n" + "".join("{} {} {}\n".format(*p) for p in points))
    with pytest.raises(UserError, match=said) as error:
        load_shape(path)
    assert "cloud.ply" in str(error.value)


def test_a_damaged_file_names_itself(torus, tmp_path):
    path = written(tmp_path / "torus.ply", *torus)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"torus\.ply"):
        load_shape(path)


def test_methods_refuse_what_is_not_theirs(torus, tmp_path):
    path = written(tmp_path / "torus.obj", *torus)
    with pytest.raises(UserError, match=r"mesh or point cloud.*--method.*sdf"):
        configure(path, "ngp")
    with pytest.raises(UserError, match="downscale"):
        load_data(path, downscale=2)


@pytest.mark.parametrize("damage, said", [("open", "igr"), ("cloud", "igr")])
def test_an_inside_needs_a_closed_surface(torus, tmp_path, damage, said):
    vertices, faces = torus
    faces = {"open": faces[1:], "cloud": None}[damage]
    shape = load_shape(written(tmp_path / "torus.ply", vertices, faces))
    with pytest.raises(UserError, match=said):
        SolidSource(shape, torch.device("cpu"), 0.1)


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
def test_an_inside_out_mesh_is_turned_and_told(torus, tmp_path, ending, capsys):
    """By whatever reads it: its distances are those of the whole one, `info` says so beside a volume above 0."""
    vertices, faces = torus
    path = written(tmp_path / f"torus.{ending}", vertices, faces[:, ::-1])
    shape = load_shape(path)
    assert shape.notes == [f"torus.{ending} is inside out (its faces wind clockwise) and was turned."]
    right = load_shape(written(tmp_path / f"right.{ending}", vertices, faces))
    assert not right.notes and shape.mesh.volume == pytest.approx(right.mesh.volume) and shape.mesh.volume > 0
    SolidSource(shape, torch.device("cpu"), 0.1)
    main(["info", str(path)])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    volume = trimesh.Trimesh(vertices, faces).volume
    assert f"volume {volume:.4g}" in said and "is inside out" in said
    hole = Mesh(vertices, faces[1:, ::-1])
    assert not is_inside_out(hole), "an open surface has no inside"


def test_crossing_faces_are_told(torus, tmp_path):
    vertices, faces = torus
    two = np.concatenate([vertices, vertices + np.array([1.0, 0, 0])]), np.concatenate([faces, faces + len(vertices)])
    shape = load_shape(written(tmp_path / "two.ply", *two))
    SolidSource(shape, torch.device("cpu"), 0.1)
    assert "Faces cross" in shape.notes[-1] and "watertight" in shape.notes[-1]


def test_samples_carry_the_true_distance(torus, tmp_path):
    """Of a torus, known in closed form; beyond `reach` only that they are that far."""
    shape: Shape = load_shape(written(tmp_path / "torus.stl", *torus))
    source = SolidSource(shape, torch.device("cpu"), 0.1)
    batch = source.draw(4000, torch.Generator().manual_seed(0))
    unit = HALF_SIDE / 1.3
    x, y, z = batch.points.T
    truth = torch.hypot(torch.hypot(x, y) - unit, z) - 0.3 * unit
    near, far = truth[: -int(FAR * 4000)], truth[-int(FAR * 4000) :]
    assert (batch.distance[: len(near)] - near).abs().max() < 0.01  # trimesh's torus has 32 × 32 faces
    assert (far.abs() > 0.09).all() and (far.sign() * 0.1 == batch.distance[len(near) :]).all()
    assert (far < 0).any() == bool((source.far_distance < 0).any())


def test_surface_samples_are_spread_by_area():
    made = trimesh.creation.box(extents=[1, 1, 10])
    mesh = Mesh(np.asarray(made.vertices, np.float32), np.asarray(made.faces, np.int32))
    points, normals = sample_surface(mesh, 20000, np.random.default_rng(0))
    assert abs((np.abs(normals[:, 2]) > 0.5).mean() - 2 / 42) < 0.01
    assert abs(points[np.abs(normals[:, 2]) < 0.5, 2].std() - 10 / np.sqrt(12)) < 0.1
