import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from reference import ray_march as reference

from neural3d.ops.ray_march import Samples, pack_bits, ray_march

REGULAR = dict(step_min=0.03, step_max=0.03)
CONE = dict(step_min=0.01, step_max=1.0, cone_angle=1 / 48)


def random_rays(n, device, reach=1.0, seed=0):
    """Origins in and around the cube of that half-size, some directions with components of exactly zero."""
    g = torch.Generator().manual_seed(seed)
    origins = (torch.rand(n, 3, generator=g) * 4 - 2) * reach
    directions = torch.rand(n, 3, generator=g) * 2 - 1
    directions[::5, 0] = 0
    directions[::7, 2] = 0
    directions[3::11, :2] = 0
    directions = torch.nn.functional.normalize(directions, dim=-1)
    t_min, t_max = torch.rand(n, generator=g) * 0.3, torch.full((n,), math.inf)
    t_max[::3] = 2.0 * reach
    return [x.to(device) for x in (origins, directions, t_min, t_max, torch.rand(n, generator=g))]


def sparse_grid(levels, resolution, seed=0):
    """Occupied blobs: whole empty blocks, single cells, and everything in between."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(levels, *[resolution // 4] * 3, generator=g) < 0.3
    fine = torch.rand(levels, *[resolution] * 3, generator=g) < 0.3
    return fine & coarse.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)


def rays_of(samples: Samples):
    o = samples.offsets.tolist()
    return [tuple(x[a:b].cpu().numpy() for x in (samples.positions, samples.t, samples.dt)) for a, b in pairwise(o)]


@pytest.mark.parametrize("levels, resolution", [(1, 16), (1, 48), (3, 32), (5, 16)])
@pytest.mark.parametrize("steps", [REGULAR, CONE], ids=["regular", "cone"])
def test_samples_are_those_of_the_definition_to_the_last_bit(device, levels, resolution, steps):
    occupied = sparse_grid(levels, resolution)
    *rays, jitter = random_rays(300, device, reach=2.0 ** (levels - 1))
    samples = ray_march(*rays, pack_bits(occupied.float().to(device), 0.5), jitter=jitter, **steps)
    n = 0
    for i, ours in enumerate(rays_of(samples)):
        o, d, t_min, t_max, j = (x[i].cpu().numpy() for x in (*rays, jitter))
        expected = reference.march(o, d, t_min, t_max, occupied.numpy(), jitter=j, **steps)
        for got, want in zip(ours, expected):
            np.testing.assert_array_equal(got, want)
        n += len(expected[1])
    assert n > 200, "the scene is not empty"
    assert torch.equal(
        samples.ray.cpu().long(), torch.repeat_interleave(torch.arange(300), samples.offsets.diff().cpu())
    )


@pytest.mark.parametrize("steps", [REGULAR, CONE], ids=["regular", "cone"])
def test_skipping_moves_no_sample(device, steps):
    levels, resolution = 4, 32
    *rays, jitter = random_rays(3000, device, reach=8.0, seed=1)
    everything = ray_march(
        *rays,
        torch.full((levels, resolution**3 // 8), 255, dtype=torch.uint8, device=device),
        jitter=jitter,
        max_samples_per_ray=1 << 20,
        **steps,
    )
    occupied = sparse_grid(levels, resolution, seed=2)
    some = ray_march(*rays, pack_bits(occupied.float().to(device), 0.5), jitter=jitter, **steps)
    assert 1000 < len(some) < 0.3 * len(everything)
    key, keys = (s.ray.long() << 32 | s.t.view(torch.int32) for s in (some, everything))
    where = torch.searchsorted(keys, key)
    for field in ("ray", "t", "dt", "positions"):
        assert torch.equal(getattr(everything, field)[where], getattr(some, field))
