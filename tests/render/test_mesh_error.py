import numpy as np
import pytest
import trimesh

from neural3d.geometry.mesh import Mesh
from neural3d.render import mesh_error
from neural3d.render.mesh_error import colour_of, error_picture

WIDTH = 60
PAPER = np.array([252, 252, 250])


def sphere(radius: float = 1.0, centre=(0, 0, 0)) -> Mesh:
    made = trimesh.creation.icosphere(3, radius)
    return Mesh((np.asarray(made.vertices) + centre).astype(np.float32), np.asarray(made.faces))


def panels(sheet: np.ndarray) -> np.ndarray:
    """(row, column, pixels, 3): what is not paper of each of the four panels, as shares of the brightest channel."""
    height = round((sheet.shape[0] - 24 - 92) / 2 - 34)
    found = []
    for row in range(2):
        y = 24 + row * (height + 34) + 26
        for column in range(2):
            x = 24 + column * WIDTH
            found.append(sheet[y : y + height, x : x + WIDTH].reshape(-1, 3).astype(float))
    return np.stack(found)


def shown(panel: np.ndarray) -> np.ndarray:
    return panel[np.abs(panel - PAPER).max(1) > 12]


def colourful(panel: np.ndarray) -> float:
    """Share of a panel's drawn pixels that are far from grey."""
    inside = shown(panel)
    return float((np.ptp(inside, axis=1) > 0.25 * inside.max(1)).mean())


def test_each_surface_is_coloured_by_its_distance_to_the_other():
    """The result lacks what the truth has at the top: the truth is hot there, the result nowhere."""
    truth = sphere()
    result = truth.kept(truth.vertices[truth.faces].mean(1)[:, 2] < 0.4)
    own, own_back, true, true_back = panels(error_picture(result, truth, scale=5.0, width=WIDTH))
    assert colourful(own) < 0.02 and colourful(own_back) < 0.02
    assert colourful(true) > 0.2, "seen from above"
    assert colourful(true_back) < colourful(true) / 2, "seen from below"


def test_up_is_up():
    truth = sphere()
    result = truth.kept(truth.vertices[truth.faces].mean(1)[:, 1] < 0.4)
    sheet = panels(error_picture(result, truth, scale=5.0, width=WIDTH, up=(0, 1, 0)))
    upper, lower = np.split(sheet[2], 2)
    assert colourful(upper) > 0.4 and colourful(lower) < 0.02


def test_what_does_not_count_is_grey():
    truth = sphere()
    sheet = panels(error_picture(sphere(1.2), truth, scale=1.0, width=WIDTH, visible=lambda x: np.zeros(len(x), bool)))
    assert colourful(sheet[0]) > 0.9
    bluish = shown(sheet[2])
    assert colourful(sheet[2]) < 0.25 and (bluish[:, 2] >= bluish[:, 0]).mean() > 0.9


def test_stray_pieces_do_not_make_all_else_small():
    truth = sphere()
    stray = sphere(0.1, (40, 0, 0))
    result = Mesh(
        np.concatenate([truth.vertices, stray.vertices]),
        np.concatenate([truth.faces, stray.faces + len(truth.vertices)]),
    )
    assert len(shown(panels(error_picture(result, truth, width=WIDTH))[0])) > 0.6 * WIDTH * WIDTH


def test_equal_meshes_and_no_hit():
    """Nothing to scale by; and a result that no ray meets."""
    assert colourful(panels(error_picture(sphere(), sphere(), width=WIDTH))[0]) == 0
    far = error_picture(sphere(0.01, (30, 0, 0)), sphere(), width=WIDTH)
    assert len(shown(panels(far)[0])) == 0 and len(shown(panels(far)[2])) > 0


def test_colours_and_scales():
    ends = colour_of(np.array([0.0, 1.0, 7.0]))
    np.testing.assert_array_equal(ends[1], ends[2])
    assert ends[0].min() > 0.9 and ends[1].max() < 0.4
    assert [mesh_error._round_up(x) for x in (1e-6, 0.0011, 0.2, 0.21, 0.6, 9)] == pytest.approx(
        [1e-6, 0.002, 0.2, 0.5, 1, 10]
    )
