"""The kernels against the loop over levels and corners, and against facts of tiny-cuda-nn's layout."""

import pytest
import torch
from reference.hash_grid import hash_grid as reference

from neural3d.ops.hash_grid import HashGridSpec, hash_grid, hash_grid_position_gradient

SMALL = dict(levels=5, log2_table=10, base_resolution=3, max_resolution=50)  # two dense levels, three hashed


def make(spec, n, *, dtype=torch.float64, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    table = torch.randn(spec.entries, spec.features, generator=generator, dtype=torch.float64)
    v = torch.randn(n, spec.width, generator=generator, dtype=torch.float64)
    return [t.to(device, dtype) for t in (x, table, v)]


def away_from_borders(x, spec, margin=1e-3):
    """Moves points whose cell's border on some level is near: there the encoding has a kink."""
    for _ in range(100):
        p = x[:, None] * torch.tensor(spec.scales, dtype=x.dtype, device=x.device)[None, :, None] + 0.5
        near = ((p - p.round()).abs() < margin).any(1)
        if not near.any():
            return x
        x = torch.where(near, torch.rand_like(x), x)
    raise AssertionError("no points away from the borders")


def derivatives(encode, x, table, v, along):
    """Everything a training step or an eikonal loss can ask for."""
    x, table, v = (t.clone().requires_grad_() for t in (x, table, v))
    y = encode(x, table)
    v_x, v_table = torch.autograd.grad((y * v).sum(), (x, table), create_graph=True)
    second = torch.autograd.grad((v_x * along).sum(), (x, table, v))
    return [y, v_x, v_table, *second]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_matches_the_loop(device, dtype, features, n):
    spec = HashGridSpec(**SMALL, features=features, level_weights=(1.0, 0.5, 2.0, 0.0, 1.0))
    x, table, v = make(spec, n, dtype=dtype, device=device)
    x = away_from_borders(x, spec)
    along = torch.randn_like(x)
    ours = derivatives(lambda x, t: hash_grid(x, t, spec), x, table, v, along)
    wanted = derivatives(lambda x, t: reference(x, t, spec), x, table, v, along)
    rtol = 1e-4 if dtype == torch.float32 else 1e-11
    for have, want in zip(ours, wanted):
        torch.testing.assert_close(have, want, rtol=rtol, atol=rtol * max(1.0, want.abs().max().item()))


@pytest.mark.parametrize("features", [1, 2])
def test_gradcheck(device, features):
    spec = HashGridSpec(levels=3, features=features, log2_table=5, base_resolution=2, max_resolution=7)
    x, table, v = make(spec, 4, device=device)
    x = away_from_borders(x, spec, 1e-2)
    x, table, v = (t.requires_grad_() for t in (x, table, v))
    torch.autograd.gradcheck(lambda x, t: hash_grid(x, t, spec), (x, table))
    torch.autograd.gradgradcheck(lambda x, t: hash_grid(x, t, spec), (x, table))
    torch.autograd.gradcheck(lambda x, t, v: hash_grid_position_gradient(x, t, v, spec), (x, table, v))
