"""When geometry counts as far away, and what stands beside its file."""

import numpy as np
import pytest

from neural3d.errors import UserError
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.offset import offset_file, offset_of, read_offset, write_offset

UTM = np.array([448_262.3, 5_411_932.7, 431.2])
POINTS = np.random.default_rng(0).uniform(-2, 2, (1000, 3))


def test_offset_is_round_and_in_the_middle_and_only_where_float32_fails():
    offset = offset_of(POINTS + UTM)
    assert (offset == np.round(offset)).all() and abs(offset - UTM).max() <= 1
    near = (POINTS + UTM - offset).astype(np.float32)
    assert abs(near + offset - (POINTS + UTM)).max() < 1e-6
    assert (offset_of(POINTS) == 0).all() and (offset_of(POINTS + 100) == 0).all()
    assert (offset_of(POINTS * 1e6 + UTM) == 0).all(), "large is not far"
    assert abs(offset_of(POINTS * 1e-5 + 0.5) - 0.5).max() < 1e-5, "small and near may be far, too"
    strays = np.concatenate([POINTS + UTM, [[0, 0, 0]] * 5, [[9e9, 0, 0]]])
    assert abs(offset_of(strays) - UTM).max() <= 1
    assert (offset_of(np.empty((0, 3))) == 0).all() and (offset_of(UTM[None]) == np.round(UTM)).all()


def test_beside_a_file(tmp_path):
    path = tmp_path / "a.splat"
    assert (read_offset(path) == 0).all()
    write_offset(path, np.array([448_262.25, -5.5, 1e-3]))
    assert offset_file(path).name == "a.splat.offset" and read_offset(path).tolist() == [448_262.25, -5.5, 1e-3]
    write_offset(path, np.zeros(3))
    assert not offset_file(path).exists(), "an old one would move the new file"
    for wrong in ("1 2", "1 2 x", "nan 0 0"):
        offset_file(path).write_text(wrong)
        with pytest.raises(UserError, match=r"a\.splat\.offset must hold three numbers"):
            read_offset(path)


def test_meshes_go_far_without_loss():
    matrix = np.eye(4)
    matrix[:3, 3] = UTM
    mesh = Mesh(POINTS.astype(np.float32), np.array([[0, 1, 2]]))
    assert mesh.transformed(np.eye(4)).vertices.dtype == np.float32
    far = mesh.transformed(matrix)
    back = far.transformed(np.linalg.inv(matrix))
    assert back.vertices.dtype == np.float32 and abs(back.vertices - mesh.vertices).max() < 1e-7 * 30
