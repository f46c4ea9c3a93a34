"""Files of the SMPL family: what is read of them, from .npz and .pkl, and how damaged and hostile ones are refused."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from bodies import smpl_arrays
from scipy.sparse import csc_matrix

from neural3d.body import load_model
from neural3d.errors import UserError


def write(path, **changes):
    """The toy as .npz; None leaves an array out."""
    arrays = {name: value for name, value in {**smpl_arrays(), **changes}.items() if value is not None}
    np.savez(path, **arrays)
    return path


def test_the_family_by_its_joints(tmp_path):
    joints = {24: "left_hand", 52: "right_thumb3", 55: "right_thumb3", 7: "joint6"}
    for count, last in joints.items():
        np.savez(tmp_path / f"{count}.npz", **smpl_arrays(joints=count))
        model = load_model(tmp_path / f"{count}.npz")
        assert model.joints == count and model.joint_names[-1].replace("right_hand", "left_hand") == last
        assert len(set(model.joint_names)) == count and model.bones.shape == (60, 4)
        assert model.space.names[0] == "beta0" and len(model.correctives) == 9 * (count - 1)


def test_smpl_x_tells_shape_from_expression(tmp_path):
    np.savez(tmp_path / "x.npz", **smpl_arrays(joints=55, shapes=20))
    model = load_model(tmp_path / "x.npz")
    assert model.space.names == (*(f"beta{i}" for i in range(10)), *(f"expression{i}" for i in range(10)))
    torch.testing.assert_close(model.coefficients(expression1=2.0)[0, 11], torch.tensor(2.0))


def test_hands_by_their_components(tmp_path):
    rng = np.random.default_rng(0)
    hands = {f"hands_components{s}": rng.normal(size=(45, 45)) for s in "lr"}
    hands |= {f"hands_mean{s}": rng.normal(size=45) for s in "lr"}
    np.savez(tmp_path / "h.npz", **smpl_arrays(joints=52, **hands))
    model = load_model(tmp_path / "h.npz")
    left, right = torch.randn(2, 6), torch.randn(2, 6)
    found = model.hands(left, right)
    expected = hands["hands_meanr"] + right[1].numpy() @ hands["hands_componentsr"][:6]
    assert model.hands.first == 22 and found.shape == (2, 30, 3)
    np.testing.assert_allclose(found[1, 15:].reshape(-1), expected, atol=1e-5)


@pytest.fixture
def chumpy(monkeypatch):
    """A module of that name, as old files were written with: its variables pickle their value as x."""
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x):
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return module


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_original_pickles(tmp_path, chumpy, protocol):
    """Arrays, chumpy variables and sparse regressors, read without either library's code."""
    arrays = smpl_arrays()
    old = {**arrays, "J_regressor": csc_matrix(arrays["J_regressor"]), "shapedirs": chumpy.Ch(arrays["shapedirs"])}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({**old, "bs_type": "lrotmin"}, protocol=protocol))
    one, other = load_model(tmp_path / "m.pkl"), load_model(write(tmp_path / "m.npz"))
    for name in ("template", "shapes", "correctives", "rest", "rest_shapes", "weights", "faces"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-6, rtol=0)


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (exec, "open('{}', 'w')")])
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path, call):
    mark = tmp_path / "mark"
    hostile = Hostile(call[0], call[1].format(mark))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({**smpl_arrays(), "v_template": hostile}))
    with pytest.raises(UserError, match=r"m\.pkl.*(system|eval|exec), which may be a program") as error:
        load_model(tmp_path / "m.pkl")
    assert not mark.exists() and error.value.exit_code == 2


BENT = np.array([[2**32 - 1, 2, *range(22)], range(24)])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"posedirs": np.zeros((60, 3, 5))}, "posedirs is 60 × 3 × 5, not 60 × 3 × 207"),
        ({"shapedirs": None}, "has no shapedirs"),
        ({"weights": np.full((60, 24), np.nan)}, "weights holds numbers that are not finite"),
        ({"J_regressor": np.zeros((24, 59))}, "J_regressor is 24 × 59"),
        ({"f": np.array([[0, 1, 60]])}, "vertices that do not exist"),
        ({"kintree_table": BENT}, "parents before children"),
    ],
)
def test_arrays_that_make_no_body(tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as error:
        load_model(write(tmp_path / "m.npz", **changes))
    assert "m.npz" in str(error.value)


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"v_template": 1})[:-9])
    (tmp_path / "d.obj").write_text("v 0 0 0")
    for name in ("a.npz", "b.pkl", "c.pkl", "d.obj", "gone.npz"):
        with pytest.raises(UserError, match=name):
            load_model(tmp_path / name)
