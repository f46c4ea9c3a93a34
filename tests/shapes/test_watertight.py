"""Open, torn and hidden surfaces become closed solids of about the same shape."""

import numpy as np
import pytest
import trimesh

from neural3d.errors import UserError
from neural3d.files.mesh_ply import write_ply
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.solid import Solid, open_edges
from neural3d.shapes.shape import read_shape
from neural3d.shapes.watertight import convert_folder, on_the_floor, watertight
from neural3d.synthetic.furniture import box, joined

CELL = 2 / 48


def test_a_torn_box_is_closed_and_grows_by_a_cell():
    """Its triangles share no vertices, one winds the wrong way, and another box inside it is invisible."""
    outer, inner = box((100, 0, 0), (102, 1, 0.5)), box((100.4, 0.3, 0.2), (101, 0.6, 0.4))
    faces = np.concatenate([outer.faces, inner.faces + 8])
    torn = Mesh(np.concatenate([outer.vertices, inner.vertices])[faces].reshape(-1, 3), np.arange(72).reshape(-1, 3))
    torn.faces[0] = torn.faces[0, ::-1]
    closed = watertight(torn, 48)
    assert open_edges(closed) == 0
    assert np.allclose(closed.vertices.min(0), [100 - CELL, -CELL, -CELL], atol=CELL / 20)
    grown = (2 + 2 * CELL) * (1 + 2 * CELL) * (0.5 + 2 * CELL)
    assert 0.97 * grown < closed.volume < grown  # its edges are rounded; the inner box left no hole
    moved = Mesh(closed.vertices - [100, 0, 0], closed.faces)
    away = Solid(Mesh(outer.vertices - [100, 0, 0], outer.faces)).distance(moved.vertices)
    assert np.abs(away - CELL).max() < CELL / 4


def test_a_sheet_becomes_a_plate():
    sheet = Mesh(np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    plate = watertight(sheet, 48)
    assert open_edges(plate) == 0
    assert np.allclose(np.ptp(plate.vertices[:, 2]), 2 * CELL, rtol=0.05)


def test_folders_keep_their_order_and_stand_up(tmp_path):
    piece = joined([box((-1, 0, -1), (1, 4, 1))])  # +y is up in .obj
    (tmp_path / "in" / "a").mkdir(parents=True)
    trimesh.Trimesh(piece.vertices, piece.faces[:-1], process=False).export(tmp_path / "in" / "a" / "tower.obj")
    (file,) = convert_folder(tmp_path / "in", tmp_path / "out", resolution=32, unit=True)
    assert file == tmp_path / "out" / "a" / "tower.ply"
    low, high = trimesh.load(file).bounds
    assert np.allclose(low[2], 0) and np.allclose(high[2], 1) and np.allclose(low[:2], -high[:2], atol=1e-6)


def test_large_coordinates_keep_their_shape(tmp_path):
    """In UTM, float32 would move corners by half a metre."""
    away = np.array([448_262.0, 5_411_932.0, 431.0])
    box_ = box((0, 0, 0), (2, 1, 0.5))
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in" / "a.ply", "wb") as file:
        write_ply(Mesh(box_.vertices + away, box_.faces), file)
    (written,) = convert_folder(tmp_path / "in", tmp_path / "out", resolution=48)
    closed = read_shape(written).mesh
    assert np.allclose(closed.vertices.min(0) - away, -CELL, atol=CELL / 20)
    assert np.allclose(closed.vertices.max(0) - away, [2 + CELL, 1 + CELL, 0.5 + CELL], atol=CELL / 20)


def test_nothing_to_convert(tmp_path):
    with pytest.raises(UserError, match="holds no meshes"):
        convert_folder(tmp_path, tmp_path / "out")


def test_on_the_floor_keeps_the_shape():
    mesh = on_the_floor(box((5, 5, 5), (6, 7, 9)))
    assert np.allclose(mesh.vertices.min(0), [-0.125, -0.25, 0]) and np.allclose(mesh.vertices.max(0), [0.125, 0.25, 1])
