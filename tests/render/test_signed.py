"""Light along rays through a ball of known distances."""

import math

import pytest
import torch

from neural3d.ops.composite import composite
from neural3d.ops.ray_march import pack_bits
from neural3d.render.signed import BAND, in_band, softplus, surface_samples, thickness_along

RADIUS, SHARPNESS = 0.5, 40.0
BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
ORIGINS = torch.tensor([[-2.0, 0, 0], [-2, 0.3, 0], [-2, 0.9, 0]])  # through the middle, through the ball, beside it
DIRECTIONS = torch.tensor([[1.0, 0, 0]]).repeat(3, 1)


def ball(x):
    return x.norm(dim=-1) - RADIUS


def samples(step=1 / 512, box=BOX):
    return surface_samples(
        ball, SHARPNESS, ORIGINS, DIRECTIONS, box=box, bits=pack_bits(torch.ones(1, 16, 16, 16), 0.5), step=step
    )


def thickness(found):
    slope = torch.nn.functional.normalize(found.positions, dim=-1)
    return thickness_along(found, DIRECTIONS, ball(found.positions), slope, torch.tensor(SHARPNESS))


def light(found):
    ones = torch.ones(len(found))
    return composite(thickness(found), ones[:, None].expand(-1, 3), found.t, ones, found.offsets, early_stop=0.0)


def test_samples_are_in_the_band_and_end_where_light_does():
    found, marched, leave = samples()
    assert (ball(found.positions) < BAND / SHARPNESS).all()
    assert found.offsets.diff().tolist()[2] == 0 and 0 < len(found) < marched / 3
    assert found.positions[:, 0].max() < 0.1, "nothing of the back"
    assert leave.tolist() == [math.inf, math.inf, 3.0]


def test_light_is_lost_at_the_surface_by_the_sigmoid_of_the_distance():
    """Of light that comes from f = ∞, Φ(f) is left at f, however the samples lie."""
    found = samples()[0]
    out = light(found)
    assert out.opacity[:2].tolist() == pytest.approx([1, 1], abs=2e-3) and out.opacity[2] == 0
    front = 2 - RADIUS, 2 - math.sqrt(RADIUS**2 - 0.09)
    assert (out.depth / out.opacity)[:2].tolist() == pytest.approx(front, abs=0.01)
    first = slice(0, int(found.offsets[1]))
    left = torch.exp(-thickness(found)[first].cumsum(0))
    behind = found.positions[first] + 0.5 * found.dt[first, None] * DIRECTIONS[0]  # where the intervals end
    torch.testing.assert_close(left, torch.sigmoid(SHARPNESS * ball(behind)), atol=2e-3, rtol=0)


def test_a_solid_is_seen_where_the_box_cuts_it():
    found, _, leave = samples(box=torch.tensor([[-0.2, -1, -1], [1, 1, 1]]))
    out = light(found)
    assert out.opacity[0] > 0.99 and (out.depth / out.opacity)[0].item() == pytest.approx(1.8, abs=0.01)
    assert leave[0] == math.inf


def test_the_band_holds_the_surface_and_the_cut():
    x = torch.tensor([[0.5, 0, 0], [0.9, 0, 0], [0.0, 0, 0], [-0.19, 0, 0]])
    box = torch.tensor([[-0.2, -1, -1], [1, 1, 1]])
    assert in_band(x, ball(x), SHARPNESS, box, 2 / 96).tolist() == [1, 0, 0, 1]
    assert in_band(x, ball(x), SHARPNESS, BOX, 2 / 96).tolist() == [1, 0, 0, 0]


def test_softplus_is_the_same_on_any_number_of_threads():
    x = torch.randn(100_003)
    threads = torch.get_num_threads()
    try:
        made = []
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(softplus(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*made)
    torch.testing.assert_close(made[0], torch.nn.functional.softplus(x))
