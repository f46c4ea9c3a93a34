"""Colours beside a signed distance: what they depend on, and what they must not move."""

import pytest
import torch

from neural3d.fields.colored_sdf import ColoredSDF
from neural3d.ops.hash_grid import HashGridSpec


@pytest.fixture
def field():
    torch.manual_seed(0)
    spec = HashGridSpec(levels=4, log2_table=10, base_resolution=16, max_resolution=64)
    made = ColoredSDF(spec, color_log2_table=11, width=16, radius=0.5, sharpness=30.0, precision="float32")
    with torch.no_grad():
        made.table.uniform_(-0.1, 0.1)
        made.color_table.uniform_(-0.1, 0.1)
    return made


def test_colours_see_the_normal_and_do_not_turn_it(field):
    x, normal = torch.rand(50, 3), torch.randn(50, 3, requires_grad=True)
    rgb = field.radiance(x, normal, torch.zeros(50, 16))
    assert not torch.equal(rgb, field.radiance(x, -normal, torch.zeros(50, 16)))
    rgb.sum().backward()
    assert normal.grad is None and field.color_table.grad is not None


def test_colours_depend_on_the_direction_as_much_as_is_asked_for(field):
    x, one, two = torch.rand(50, 3), *torch.nn.functional.normalize(torch.randn(2, 50, 3), dim=-1)
    assert torch.equal(field.color(x, one, 0.0), field.color(x, two, 0.0))
    near, far = ((field.color(x, one, v) - field.color(x, two, v)).abs().mean() for v in (0.5, 1.0))
    assert 0 < near < far


def test_hidden_levels_of_distances_are_shown_in_colours(field):
    x, one = torch.rand(50, 3), torch.tensor([[0.0, 0, 1]]).expand(50, 3)
    before, colours = field.signed_distance(x), field.radiance(x, one, torch.zeros(50, 16))
    field.show_levels(1)
    assert not torch.equal(field.signed_distance(x), before)
    assert torch.equal(field.radiance(x, one, torch.zeros(50, 16)), colours)
    assert field.sharpness.item() == pytest.approx(30)
