"""Pictures from packed rays: no seams between tiles, depth along the axis, batches that follow their cost."""

import math

import pytest
import torch

from neural3d.geometry.cameras import Camera
from neural3d.ops.composite import composite
from neural3d.ops.ray_march import Samples
from neural3d.render.packed import RayBudget, Shaded, first_of_rays, kept, mean_distance, render_packed


def camera(width=7, height=5):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.0, 0, -4])
    params = torch.tensor([6.0, width / 2, height / 2]).double()
    return Camera("SIMPLE_PINHOLE", width, height, params, pose)


def plane(origins, directions):
    """The plane z = 0, coloured by where it is met."""
    distance = -origins[:, 2] / directions[:, 2]
    at = origins + distance[:, None] * directions
    return Shaded(at.abs(), torch.ones_like(distance), distance, torch.tensor([0.0, 0, -1]).expand_as(at))


@pytest.mark.parametrize("tile", [1, 4, 35, 1000])
def test_tiles_leave_no_seams(tile):
    sizes = []

    def shade(origins, directions):
        sizes.append(len(origins))
        return plane(origins, directions)

    out = render_packed(camera(), shade, torch.device("cpu"), tile)
    assert max(sizes) == min(tile, 35) and sum(sizes) == 35
    torch.testing.assert_close(out.depth, torch.full((5, 7, 1), 4.0))  # of a plane across the axis: everywhere the same
    x = (torch.arange(7) + 0.5 - 3.5) * 4 / 6
    torch.testing.assert_close(out.rgb[..., 0], x.abs().expand(5, 7))
    assert out.alpha.shape == (5, 7, 1) and out.normal.shape == (5, 7, 3)


def test_rays_follow_what_samples_cost():
    budget = RayBudget(samples=10_000, most=1 << 12)
    for _ in range(60):
        budget.spent(20 * budget.rays, budget.rays)
    assert budget.rays == pytest.approx(500, abs=5), "20 samples a ray: 10,000 of them take 500 rays"
    budget.spent(0, budget.rays)
    assert budget.rays == 1 << 12, "rays that meet nothing cost nothing, but there is a most"
    for _ in range(60):
        budget.spent(1e6 * budget.rays, budget.rays)
    assert budget.rays == 128


def samples(counts):
    n = sum(counts)
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).int()
    t = torch.arange(n).float()
    return Samples(t[:, None].expand(n, 3), t, torch.ones(n), ray, torch.tensor([0, *counts]).cumsum(0))


def test_first_and_kept_samples():
    some = samples([2, 0, 3, 1])
    assert first_of_rays(some).tolist() == [0, 2, 5]
    left = kept(some, torch.tensor([False, True, True, False, True, False]))
    assert left.t.tolist() == [1, 2, 4] and left.ray.tolist() == [0, 2, 2] and left.offsets.tolist() == [0, 1, 1, 3, 3]


def test_mean_distance_of_half_a_light():
    """A ray that loses half its light at 2 and all at 4 ends at 3; one that loses none, nowhere."""
    some = samples([2, 1])
    sigma = torch.tensor([math.log(2), 1e3, 0.0])
    out = composite(sigma, torch.ones(3, 1), torch.tensor([2.0, 4, 9]), torch.ones(3), some.offsets)
    torch.testing.assert_close(mean_distance(out), torch.tensor([3.0, 0]))
