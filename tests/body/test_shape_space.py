"""Named values and the coefficients they stand for."""

import pytest
import torch

from neural3d.body.shape_space import Axis, ShapeSpace
from neural3d.errors import UserError

AGE = Axis("age", ("young", "grown", "old"), (0.0, 0.25, 1.0))
SPACE = ShapeSpace(
    axes=(Axis("sex", ("male", "female"), (0.0, 1.0)), AGE),
    mixtures=("north", "south"),
    uses=torch.tensor(  # male, female, young, grown, old, north, south
        [[1, 0, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1]],
        dtype=torch.float32,
    ),
)


def test_shares_lie_between_neighbouring_anchors():
    shares = AGE.shares(torch.tensor([-1.0, 0.0, 0.1, 0.25, 0.7, 2.0]))
    expected = [[1, 0, 0], [1, 0, 0], [0.6, 0.4, 0], [0, 1, 0], [0, 0.4, 0.6], [0, 0, 1]]
    torch.testing.assert_close(shares, torch.tensor(expected), atol=1e-6, rtol=0)


def test_coefficients_multiply_the_shares_of_their_kinds():
    found = SPACE(sex=torch.tensor([0.0, 0.5]), age=torch.tensor([0.1, 0.7]), north=3.0, south=1.0)
    expected = [[0.6, 0, 0, 0.25], [0, 0.5 * 0.4, 0.5 * 0.6 * 0.75, 0.25]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(SPACE(north=0.0, south=0.0)[0, 3], torch.tensor(0.5))  # of nothing, both alike


def test_gradients_reach_values_at_anchors_too():
    age = torch.tensor([0.25, 0.6], requires_grad=True)
    SPACE(sex=1.0, age=age)[:, 1].sum().backward()
    torch.testing.assert_close(age.grad, torch.tensor([4.0, -1 / 0.75]))


def test_coefficients_that_stand_for_themselves():
    space = ShapeSpace(("beta0", "beta1"))
    torch.testing.assert_close(space(beta1=torch.tensor([1.0, 2])), torch.tensor([[0.0, 1], [0, 2]]))


def test_names_and_ranges():
    with pytest.raises(UserError, match="unknown shape value 'aeg'; did you mean 'age'"):
        SPACE(aeg=1.0)
    for wrong, words in [({"age": 1.5}, "age=1.5: must be between 0 and 1"), ({"north": -1.0}, "between 0 and inf"),
                         ({"sex": float("nan")}, "must be between 0 and 1"), ({"aeg": 1.0}, "unknown")]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            SPACE.check(wrong)
    SPACE.check({"age": 1.0, "north": 7.0})


def test_neighbours_go_to_the_ends_one_at_a_time():
    near = SPACE.neighbours({"age": 0.3})
    assert near[0] == {"age": 0.3} and {"age": 1.0} in near and {"age": 0.3, "sex": 0.0} in near
    assert {"age": 0.3, "north": 1.0, "south": 0.0} in near and len(near) == 1 + 4 + 2
