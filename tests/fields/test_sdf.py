"""Signed distances on a hash grid: gradients by the chain rule, levels from coarse to fine."""

import pytest
import torch

from neural3d.fields.sdf import HashSDF
from neural3d.ops.hash_grid import HashGridSpec

SPEC = HashGridSpec(levels=4, log2_table=10, base_resolution=4, max_resolution=32)


def field(smooth=False):
    torch.manual_seed(0)
    made = HashSDF(SPEC, width=16, features=3, smooth=smooth).double()
    made.table.data.uniform_(-0.3, 0.3)
    return made


@pytest.mark.parametrize("smooth", [False, True])
def test_the_gradient_is_that_of_the_value(smooth):
    made = field(smooth)
    x = torch.rand(200, 3, dtype=torch.float64) * 1.8 - 0.9
    by_hand = made.with_gradient(x)
    made.net.twice_differentiable = True  # autograd all the way
    x.requires_grad_()
    value, features = made(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(by_hand, (value, features, gradient))


def test_an_eikonal_loss_trains_a_relu_field_as_autograd_would():
    grads = []
    x = torch.rand(300, 3, dtype=torch.float64) * 1.8 - 0.9
    for by_autograd in (False, True):
        made = field()
        made.net.twice_differentiable = by_autograd
        value, features, gradient = made.with_gradient(x)
        ((gradient.norm(dim=-1) - 1).square().mean() + value.square().mean() + features.mean()).backward()
        grads.append([p.grad for p in made.parameters()])
    torch.testing.assert_close(*grads)
    assert grads[0][0].abs().max() > 0


def test_levels_are_shown_from_coarse_to_fine():
    made = field()
    made.show_levels(1.5)
    assert made.spec.level_weights == (1.0, 0.5, 0.0, 0.0)
    assert made.finest_resolution == SPEC.scales[1]
    made.show_levels(4)
    assert made.finest_resolution == SPEC.scales[-1]
