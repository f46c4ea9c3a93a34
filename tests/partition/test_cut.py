"""The ground in cells: equal work, borders in common, nothing twice and nothing left out."""

import math

import torch

from neural3d.methods.seeds import within
from neural3d.partition.cut import ENDLESS, EVERYWHERE, OVERLAP, cut, quantile


def drawn(n=4000, wide=3.0):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, generator=g) * torch.tensor([wide, 1.0]), torch.rand(n, generator=g)


def test_quantiles_are_of_the_weight():
    x, weight = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([8.0, 1.0, 1.0])
    assert [quantile(x, weight, share) for share in (0.05, 0.15, 0.5, 1.0)] == [1.0, 2.0, 3.0, 3.0]


def test_each_splat_is_in_one_cell_and_each_cell_has_its_share_of_the_work():
    xy, work = drawn()
    for count in (2, 3, 4, 7):
        cells = cut(xy, work, count)
        assert len(cells) == count
        members = torch.stack([within(xy.double(), ground) for ground, _ in cells])
        assert (members.sum(0) == 1).all()
        shares = torch.stack([work[m].sum() for m in members]) / work.sum()
        assert (shares - 1 / count).abs().max() < 0.01
        far = torch.tensor([[1e8, -1e8], [-1e8, 1e8], [0.0, 1e8]], dtype=torch.float64)
        assert (sum(within(far, ground).int() for ground, _ in cells) == 1).all()


def test_what_is_long_is_cut_across_and_what_is_square_both_ways():
    xy, work = drawn(wide=20.0)
    assert all((ground[:, 1].abs() == ENDLESS).all() for ground, _ in cut(xy, work, 4))
    xy, work = drawn(wide=1.1)
    assert all((ground.abs() < ENDLESS).sum() == 2 for ground, _ in cut(xy, work, 4))


def test_margins_are_a_share_of_the_narrower_side_and_open_ends_stay_open():
    xy = torch.stack([torch.linspace(-1, 1, 2001), torch.zeros(2001)], 1)
    xy[:100, 0] *= 1e6  # a background far out on the left
    work = torch.ones(2001)
    (left, wider_left), (right, wider_right) = cut(xy, work, 2)
    margin = float(wider_left[1, 0] - left[1, 0])
    assert 0 < margin < OVERLAP and math.isclose(margin, float(right[0, 0] - wider_right[0, 0]))
    assert wider_left[0, 0] == -ENDLESS and wider_right[1, 0] == ENDLESS
    assert cut(xy, work, 1)[0][1].equal(EVERYWHERE)
