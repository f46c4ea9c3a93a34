import math
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from instruction_sets import instruction_sets
from reference import ray_march as reference

from neural3d.ops.ray_march import Samples, compact, pack_bits, ray_aabb, ray_march, ray_points

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


@pytest.mark.parametrize("steps", [REGULAR, CONE], ids=["regular", "cone"])
@pytest.mark.parametrize("jitter", [0.0, 0.7])
def test_intervals_tile_the_ray_and_grow_as_the_equation_says(device, steps, jitter):
    full = torch.full((4, 16**3 // 8), 255, dtype=torch.uint8, device=device)
    origin, direction = torch.zeros(1, 3, device=device), torch.tensor([[0.6, 0.0, 0.8]], device=device)
    bounds = torch.tensor([0.0], device=device), torch.tensor([math.inf], device=device)
    s = ray_march(origin, direction, *bounds, full, jitter=torch.full((1,), jitter, device=device), **steps)
    t, dt = s.t.double(), s.dt.double()
    torch.testing.assert_close((t + dt / 2)[:-1], (t - dt / 2)[1:], rtol=1e-6, atol=1e-6)
    b = torch.from_numpy(reference.lattice(**{"cone_angle": 0.0} | steps, n=len(t) + 1)).to(device)
    torch.testing.assert_close(t - dt / 2, b[:-1] + jitter * b.diff(), rtol=2e-6, atol=1e-6)
    assert t[0] < 2 * steps["step_min"] and 10 - dt[-1] <= t[-1] < 10, "out to where 0.8 t = 8"
    torch.testing.assert_close(s.positions, s.t[:, None] * direction, rtol=1e-6, atol=1e-6)


def test_rays_from_everywhere_meet_the_cube(device):
    """Starts in front, inside, behind and beside; along axes, on a face, through an edge."""
    full = torch.full((1, 16**3 // 8), 255, dtype=torch.uint8, device=device)
    cases = [  # origin, direction, length inside the cube
        ([0, 0, -3], [0, 0, 1], 2),
        ([0.3, -0.2, 0], [0, 0, 1], 1),
        ([0, 0, 3], [0, 0, 1], 0),
        ([0, 1.5, 0], [0, 0, 1], 0),
        ([0, 1.5, 0], [0, 0, -1], 0),
        ([-5, 0, 0], [1, 0, 0], 2),
        ([0, 5, 0], [0, -1, 0], 2),
        ([1, 0, 0], [0, 0, 1], 1),  # in the face's plane
        ([-2, -2, 0], [math.sqrt(0.5), math.sqrt(0.5), 0], 2 * math.sqrt(2)),
        ([-2, 0, 0], [math.sqrt(0.5), math.sqrt(0.5), 0], 0),  # touches the edge (-1, 1)
    ]
    origins, directions = (torch.tensor([c[i] for c in cases], dtype=torch.float32, device=device) for i in (0, 1))
    t_min, t_max = torch.zeros(len(cases), device=device), torch.full((len(cases),), 1e9, device=device)
    s = ray_march(origins, directions, t_min, t_max, full, **REGULAR)
    found = torch.stack([s.dt[a:b].sum() for a, b in pairwise(s.offsets)]).cpu()
    torch.testing.assert_close(found, torch.tensor([float(c[2]) for c in cases]), atol=0.031, rtol=0)
    near, far = ray_aabb(origins, directions, torch.tensor([[-1.0] * 3, [1.0] * 3], device=device))
    torch.testing.assert_close((far - near).cpu(), torch.tensor([float(c[2]) for c in cases]), atol=1e-6, rtol=1e-6)
    assert s.positions.abs().max() <= 1 + 1e-6
    for i, (a, b) in enumerate(pairwise(s.offsets)):
        assert not b > a or (s.t[a] >= near[i] and s.t[b - 1] < far[i])


def test_what_is_not_finite_has_no_samples(device):
    full = torch.full((2, 16**3 // 8), 255, dtype=torch.uint8, device=device)
    good = [0.0, 0, -1, 0, 0, 1, 0, 9, 0.5]  # origin, direction, t_min, t_max, jitter
    rows = [good]
    for i in range(9):
        for bad in (math.nan, math.inf, -math.inf):
            rows.append([*good[:i], bad, *good[i + 1 :]])
    rows += [[*good[:6], 5, 1, 0], [1e30, 0, 0, -1, 0, 0, 0, 1e38, 0], [*good[:3], 0, 0, 0, 0, 9, 0]]
    x = torch.tensor(rows, device=device)
    s = ray_march(x[:, :3], x[:, 3:6], x[:, 6], x[:, 7], full, jitter=x[:, 8].contiguous(), **REGULAR)
    found = set(s.offsets.diff().nonzero()[:, 0].tolist())
    assert found == {0, 3 * 6 + 3, 3 * 7 + 2, len(rows) - 1}, "t_min = -inf, t_max = inf and direction 0 mean something"
    assert s.positions.isfinite().all() and s.t.isfinite().all() and s.dt.isfinite().all()
    near, far = ray_aabb(x[:, :3], x[:, 3:6], torch.tensor([[-1.0] * 3, [1.0] * 3], device=device))
    assert not (far - near)[1:19].any()


def test_steps_too_short_for_float32_end(device):
    """2²⁴ steps reach 0.17 here: what lies farther is out of reach, and nothing hangs."""
    full = torch.full((1, 16**3 // 8), 255, dtype=torch.uint8, device=device)
    o = torch.tensor([[0.0, 0, -0.9], [0.0, 0, -1.2]], device=device)
    d = torch.tensor([[0.0, 0, 1], [0.0, 0, 1]], device=device)
    t = torch.zeros(2, device=device)
    s = ray_march(o, d, t, t + 9, full, step_min=1e-8, step_max=1e-8, max_samples_per_ray=50)
    assert s.offsets.tolist() == [0, 50, 50]


def test_no_rays_and_no_samples(device):
    full = torch.full((1, 16**3 // 8), 255, dtype=torch.uint8, device=device)
    for n, bits, most in ((0, full, 9), (5, torch.zeros_like(full), 9), (5, full, 0)):
        *rays, jitter = random_rays(n, device)
        s = ray_march(*rays, bits, jitter=jitter, max_samples_per_ray=most, **REGULAR)
        assert len(s) == 0 and s.positions.shape == (0, 3) and s.offsets.tolist() == [0] * (n + 1)
        assert ray_points(rays[0], rays[1], s).shape == (0, 3)


def test_the_first_samples_are_kept_where_there_are_too_many(device):
    *rays, jitter = random_rays(200, device)
    bits = pack_bits(sparse_grid(1, 32).float().to(device), 0.5)
    whole = ray_march(*rays, bits, jitter=jitter, **REGULAR)
    cut = ray_march(*rays, bits, jitter=jitter, max_samples_per_ray=5, **REGULAR)
    counts = whole.offsets.diff()
    assert counts.max() > 10
    kept, indices = compact(whole, counts.clamp(max=5))
    for field in ("positions", "t", "dt", "ray", "offsets"):
        assert torch.equal(getattr(cut, field), getattr(kept, field))
    assert torch.equal(whole.t[indices], kept.t)


def test_the_largest_grid(device):
    """Sixteen cascades reach 2¹⁵; only the farthest corner cell of the last is occupied."""
    occupied = torch.zeros(16, 16, 16, 16, device=device)
    occupied[15, 15, 15, 15] = 1
    size = 2.0**15
    origin = torch.tensor([[size - 1.0, size - 1, -2 * size]], device=device)
    direction, t = torch.tensor([[0.0, 0, 1]], device=device), torch.zeros(1, device=device)
    s = ray_march(origin, direction, t, t + math.inf, pack_bits(occupied, 0), step_min=16.0, step_max=16.0)
    assert len(s) == 4096 / 16
    assert s.positions[0, 2] == size - 4096 + 8 and s.positions[-1, 2] == size - 8


def test_pack_bits_orders_cells_in_blocks(device):
    density = torch.rand(2, 32, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    density[0, 0, 0, 1] = math.nan
    out = torch.empty(2, 32**3 // 8, dtype=torch.uint8, device=device)
    assert pack_bits(density, torch.tensor(0.6, device=device), out=out) is out
    assert torch.equal(out, pack_bits(density, 0.6))
    blocks = density.view(2, 8, 4, 8, 4, 8, 4).permute(0, 1, 3, 5, 2, 4, 6).reshape(2, -1, 8) > 0.6
    assert torch.equal(out, (blocks << torch.arange(8, device=device)).sum(-1).to(torch.uint8))


def test_gradients_of_points():
    *rays, jitter = random_rays(40, "cpu")
    s = ray_march(*rays, pack_bits(sparse_grid(1, 16).float(), 0.5), jitter=jitter, **REGULAR)
    s64 = Samples(s.positions.double(), s.t.double(), s.dt.double(), s.ray, s.offsets)
    o, d = (x.double().requires_grad_() for x in rays[:2])
    assert 10 < len(s) < 100 and (s.offsets.diff() == 0).any()
    torch.testing.assert_close(ray_points(o, d, s64), s64.positions, rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(lambda o, d: ray_points(o, d, s64), (o, d))


def test_gradients_of_points_are_sums_by_ray(device):
    *rays, jitter = random_rays(500, device)
    s = ray_march(*rays, pack_bits(sparse_grid(1, 32).float().to(device), 0.5), jitter=jitter, **REGULAR)
    o, d = (x.clone().requires_grad_() for x in rays[:2])
    v = torch.randn(3, len(s), device=device).T  # not contiguous
    x = ray_points(o, d, s)
    torch.testing.assert_close(x, s.positions)
    got = torch.autograd.grad(x, (o, d), v)
    for gradient, weighted in zip(got, (v, v * s.t[:, None])):
        expected = torch.zeros_like(o).index_add(0, s.ray.long(), weighted)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-4)


def test_threads_change_nothing():
    *rays, jitter = random_rays(3000, "cpu")
    bits = pack_bits(sparse_grid(1, 32).float(), 0.5)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(ray_march(*rays, bits, jitter=jitter, **REGULAR))
    finally:
        torch.set_num_threads(threads)
    for field in ("positions", "t", "dt", "ray", "offsets"):
        assert all(torch.equal(getattr(results[0], field), getattr(r, field)) for r in results[1:])


DIGEST = """
import hashlib, math, torch
from neural3d.ops.ray_march import pack_bits, ray_march
g = torch.Generator().manual_seed(0)
bits = pack_bits(torch.rand(3, 32, 32, 32, generator=g), 0.8)
n = 2000
o, d = torch.rand(n, 3, generator=g) * 6 - 3, torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=-1)
rays = o, d, torch.zeros(n), torch.full((n,), math.inf)
digest = hashlib.sha256()
for steps in (dict(step_min=0.03, step_max=0.03), dict(step_min=0.01, step_max=0.5, cone_angle=1 / 32)):
    s = ray_march(*rays, bits, jitter=torch.rand(n, generator=g), **steps)
    assert len(s) > 10_000
    for x in (s.positions, s.t, s.dt, s.ray, s.offsets):
        digest.update(x.numpy().tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_finds_the_same_samples():
    """The baseline skips empty cells one by one, as CUDA does; the others test packs. Same bytes."""
    digests = set()
    for isa in instruction_sets():
        run = [sys.executable, "-c", DIGEST]
        digests.add(subprocess.run(run, env=os.environ | {"NEURAL3D_ISA": isa}, capture_output=True, check=True).stdout)
    assert len(digests) == 1


def test_bad_input_is_a_sentence():
    *rays, _ = random_rays(4, "cpu")
    bits = torch.zeros(1, 512, dtype=torch.uint8)
    for change, sentence in [
        (dict(step_min=0.0), "step_min <= step_max"),
        (dict(step_max=math.inf), "step_min <= step_max"),
        (dict(cone_angle=-1.0), "cone_angle"),
        (dict(bits=bits[:, :500]), "multiple of 16"),
        (dict(bits=bits.int()), "uint8"),
        (dict(jitter=torch.zeros(3)), "jitter must have shape"),
        (dict(origins=rays[0].double()), "directions must be torch.float64"),
        (dict(t_min=rays[2][:, None]), "t_min must have shape"),
    ]:
        arguments = dict(zip(("origins", "directions", "t_min", "t_max"), rays), bits=bits, **REGULAR) | change
        with pytest.raises(ValueError, match=sentence):
            ray_march(**arguments)
    with pytest.raises(ValueError, match="multiple of 16"):
        pack_bits(torch.zeros(1, 8, 8, 8), 0.0)
