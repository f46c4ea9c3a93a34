"""The kernels against the loop over levels and corners, and against facts of tiny-cuda-nn's layout."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from instruction_sets import instruction_sets
from reference.hash_grid import entry_index
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


def test_layout_is_tiny_cuda_nns():
    """Facts read off instant-ngp: the parameter counts it logs for 16 levels up to 2048 and 8192 (b = 1.51572)."""
    assert HashGridSpec().entries * 2 == 12_196_240
    spec = HashGridSpec(max_resolution=None, per_level_scale=1.51572)
    assert spec.entries * 2 == 13_074_912
    assert HashGridSpec().resolutions[:6] == (16, 23, 31, 43, 59, 81)  # ⌈16 · 1.3819^l − 1⌉ + 1
    assert HashGridSpec().sizes[:6] == (4096, 12168, 29792, 79512, 205384, 524288)  # multiples of 8, then 2¹⁹
    assert HashGridSpec().scales[0] == 15.0


def touched(spec, point):
    """{entry: weight} of a point, from the gradient of a sum of all features."""
    table = torch.zeros(spec.entries, spec.features, dtype=torch.float64, requires_grad=True)
    hash_grid(torch.tensor([point], dtype=torch.float64), table, spec).sum().backward()
    return {int(i): table.grad[i, 0].item() for i in table.grad[:, 0].nonzero()}


def test_entries_computed_by_hand():
    # Level 0: scale 3, 4³ = 64 entries, dense. Level 1: scale 7, 8³ = 512 > 2⁷ entries: hashed.
    spec = HashGridSpec(levels=2, features=1, log2_table=7, base_resolution=4, max_resolution=None, per_level_scale=2.0)
    assert spec.scales == (3.0, 7.0) and spec.resolutions == (4, 8) and spec.offsets == (0, 64, 192)
    # x = (¼, ½, ¾): 3x + ½ = (1.25, 2, 2.75), cell (1, 2, 2), entries x + 4y + 16z; y has no upper part.
    # 7x + ½ = (2.25, 4, 5.75), cell (2, 4, 5). Modulo 2⁷ the primes are 49 and 21:
    # 4 · 49 = 68, 5 · 21 = 105, 6 · 21 = 126; 68 ⊕ 105 = 45, 68 ⊕ 126 = 58; then ⊕ 2 and ⊕ 3.
    assert touched(spec, (0.25, 0.5, 0.75)) == {
        1 + 8 + 32: 0.75 * 0.25, 2 + 8 + 32: 0.25 * 0.25, 1 + 8 + 48: 0.75 * 0.75, 2 + 8 + 48: 0.25 * 0.75,
        64 + 47: 0.75 * 0.25, 64 + 46: 0.25 * 0.25, 64 + 56: 0.75 * 0.75, 64 + 57: 0.25 * 0.75,
    }  # fmt: skip
    # At x = 1 on level 0, p = 3.5: corners 3 and 4, and 4 is past the end of the row: the index runs on, and wraps.
    corner = {e: w for e, w in touched(spec, (1.0, 1.0, 1.0)).items() if e < 64}
    assert corner == {(x + 4 * y + 16 * z) % 64: 0.125 for x in (3, 4) for y in (3, 4) for z in (3, 4)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_input_stays_inside_the_table(device, dtype):
    spec = HashGridSpec(**SMALL)
    _, table, _ = make(spec, 1, dtype=dtype, device=device)
    inf, nan = float("inf"), float("nan")
    values = [0.0, 1.0, -0.0, -1e-7, 1 + 1e-7, -5.0, 1e30, -inf, inf, nan, 0.3]
    x = torch.tensor([(a, b, 0.4) for a in values for b in values], dtype=dtype, device=device).requires_grad_()
    table.requires_grad_()
    y = hash_grid(x, table, spec)
    finite = x.isfinite().all(-1) | x.isinf().any(-1) & ~x.isnan().any(-1)
    assert y[~finite].isnan().all() and y[finite].isfinite().all()
    torch.testing.assert_close(y[finite], reference(x[finite], table, spec), rtol=1e-5, atol=1e-6)
    x = x.detach()[finite].requires_grad_()
    hash_grid(x, table, spec).sum().backward()
    assert table.grad.isfinite().all()
    outside = (x < 0) | (x > 1)
    assert not x.grad[outside].any(), "clamped: constant outside"
    assert x.grad[~outside].any()


def test_no_points(device):
    spec = HashGridSpec(**SMALL)
    table = torch.zeros(spec.entries, 2, device=device, requires_grad=True)
    x = torch.zeros(0, 3, device=device, requires_grad=True)
    y = hash_grid(x, table, spec)
    assert y.shape == (0, spec.width)
    y.sum().backward()
    assert x.grad.shape == (0, 3) and not table.grad.any()


def test_non_contiguous_and_broken_up(device):
    """Strided inputs and gradients, and every remainder of the vector width."""
    spec = HashGridSpec(**SMALL)
    x, table, v = make(spec, 33, dtype=torch.float32, device=device)
    x3, table3 = x.repeat(1, 2)[:, 3:], table.T.contiguous().T
    v3 = v.T.contiguous().T
    wanted = hash_grid(x, table, spec)
    for n in range(33):
        torch.testing.assert_close(hash_grid(x3[:n], table3, spec), wanted[:n], rtol=0, atol=0)
    grads = []
    for a, b, c in ((x, table, v), (x3, table3, v3)):
        a, b = a.clone(memory_format=torch.preserve_format).requires_grad_(), b.detach().requires_grad_()
        grads.append(torch.autograd.grad((hash_grid(a, b, spec) * c).sum(), (a, b)))
    for have, want in zip(*grads):
        torch.testing.assert_close(have, want)


@pytest.mark.parametrize("base_resolution", [406, 2000])  # dense and hashed
def test_largest_index(device, base_resolution):
    """Entries past 2³¹ bytes. numpy's zeros are never written as a whole, so most of their pages never exist."""
    spec = HashGridSpec(levels=1, features=8, log2_table=26, base_resolution=base_resolution, max_resolution=4000)
    x = 1 - torch.rand(20, 3, device=device) * 0.01
    corners = (x * spec.scales[0] + 0.5).long()[:, None] + torch.cartesian_prod(*[torch.arange(2, device=device)] * 3)
    entries = entry_index(corners, spec.resolutions[0], spec.sizes[0]).flatten().unique()
    assert entries.max() * 8 * 4 > 2**31 - 2**27
    table, buffer = (torch.from_numpy(np.zeros((spec.entries, 8), np.float32)).to(device) for _ in range(2))
    table[entries] = torch.randn(len(entries), 8, device=device)
    torch.testing.assert_close(hash_grid(x, table, spec), reference(x, table, spec), rtol=1e-3, atol=1e-3)
    hash_grid(x, table.requires_grad_(), spec, table_grad=buffer).sum().backward()
    torch.testing.assert_close(buffer[entries].sum(0), torch.full((8,), 20.0, device=device))  # weights sum to one


def test_gradient_into_a_buffer(device):
    spec = HashGridSpec(**SMALL)
    x, table, v = make(spec, 100, dtype=torch.float32, device=device)
    parameter = torch.nn.Parameter(table)
    (hash_grid(x, parameter, spec) * v).sum().backward()
    wanted = parameter.grad.clone()
    for _ in range(2):
        (hash_grid(x, parameter, spec, table_grad=parameter.grad) * v).sum().backward()
    torch.testing.assert_close(parameter.grad, 3 * wanted)

    # Asking for the positions' gradient alone must leave the buffer as it is, with and without create_graph.
    before = parameter.grad.clone()
    x = x.requires_grad_()
    y = hash_grid(x, parameter, spec, table_grad=parameter.grad)
    (v_x,) = torch.autograd.grad((y * v).sum(), x, create_graph=True)
    assert torch.equal(parameter.grad, before)
    # An eikonal loss: its gradient through v_x goes into the buffer too.
    ((v_x.norm(dim=-1) - 1) ** 2).sum().backward()
    (v_x,) = torch.autograd.grad((hash_grid(x, parameter, spec) * v).sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad(((v_x.norm(dim=-1) - 1) ** 2).sum(), parameter)
    torch.testing.assert_close(parameter.grad, before + wanted, rtol=1e-4, atol=1e-3)

    # Under create_graph the gradient stays differentiable, so it cannot go into the buffer.
    before = parameter.grad.clone()
    y = hash_grid(x, parameter, spec, table_grad=torch.zeros_like(parameter))
    (v_table,) = torch.autograd.grad((y * v).sum(), parameter, create_graph=True)
    assert v_table.requires_grad is False or torch.autograd.grad(v_table.sum(), x)[0].isfinite().all()
    torch.testing.assert_close(3 * v_table, before - wanted, rtol=1e-3, atol=1e-2)


def everything(n=5000, dtype=torch.float32, device="cpu", features=2):
    """All kernels' results on a fixed problem, as one list."""
    spec = HashGridSpec(levels=6, features=features, log2_table=12, base_resolution=4, max_resolution=200)
    x, table, v = make(spec, n)
    x[: n // 2] = (x[:1] + torch.linspace(0, 1e-2, n // 2)[:, None]).clamp(0, 1)  # neighbours on a ray
    torch.manual_seed(0)
    x, table, v = (t.to(device, dtype) for t in (away_from_borders(x, spec, 1e-4), table, v))
    return derivatives(lambda x, t: hash_grid(x, t, spec), x, table, v, v[:, :3].contiguous())


@pytest.mark.parametrize("features", [1, 2, 4])
def test_same_bytes_for_any_number_of_threads(features):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 13):  # 13: more tasks than levels, so that levels are split into ranges
            torch.set_num_threads(threads)
            results.append(everything(features=features))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for have, want in zip(other, results[0]):
            assert torch.equal(have, want)


def test_same_bytes_however_the_points_are_cut(monkeypatch):
    wanted = everything()
    # Not by dotted name: in the package `hash_grid` is the function, which hides its module.
    monkeypatch.setattr(sys.modules["neural3d.ops.hash_grid"], "_CHUNK", 640)
    for have, want in zip(everything(), wanted):
        assert torch.equal(have, want)


def test_every_instruction_set():
    """Narrower variants than this processor's run in processes of their own; they agree to rounding."""
    wanted = everything(dtype=torch.float64)
    *narrower, here = instruction_sets()
    results = {here: everything()}
    script = "import sys, torch; from ops.test_hash_grid import everything; torch.save(everything(), sys.argv[1])"
    for variant in narrower:
        with tempfile.NamedTemporaryFile(suffix=".pt") as file:
            path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
            env = {**os.environ, "NEURAL3D_ISA": variant, "PYTHONPATH": path}
            subprocess.run([sys.executable, "-c", script, file.name], check=True, env=env)
            results[variant] = torch.load(file.name)
    for variant, tensors in results.items():
        for have, want in zip(tensors, wanted):
            error = (have.double() - want).abs().max() / want.abs().max()
            assert error < 2e-4, f"{variant}: {error:.1e}"


@pytest.fixture(scope="module")
def of_the_cpu():
    return {features: everything(features=features) for features in (1, 2, 4, 8)}


def test_devices_agree(of_the_cpu, device):
    for features, wanted in of_the_cpu.items():
        for have, want in zip(everything(device=device, features=features), wanted):
            torch.testing.assert_close(have.cpu(), want, rtol=1e-3, atol=1e-3 * want.abs().max().item())


def test_deterministic_sums(device):
    """Also with terms of very different size, which a fixed point must not lose."""
    spec = HashGridSpec(**SMALL)
    x, table, v = make(spec, 20_000, dtype=torch.float32, device=device)
    v *= torch.logspace(-3, 3, len(v), device=device)[:, None]
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            t = table.clone().requires_grad_()
            (hash_grid(x, t, spec) * v).sum().backward()
            results.append(t.grad)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    t = table.double().requires_grad_()
    (reference(x.double(), t, spec) * v).sum().backward()
    torch.testing.assert_close(results[0].double(), t.grad, rtol=1e-3, atol=1e-3 * t.grad.abs().max().item())


def test_bad_input_is_a_sentence():
    spec = HashGridSpec(**SMALL)
    x, table, v = make(spec, 10)
    with pytest.raises(ValueError, match=r"table must have shape"):
        hash_grid(x, table[:-1], spec)
    with pytest.raises(ValueError, match=r"positions must have shape \(any, 3\)"):
        hash_grid(x[:, :2], table, spec)
    with pytest.raises(ValueError, match=r"positions must be torch.float64"):
        hash_grid(x.float(), table, spec)
    with pytest.raises(ValueError, match=r"float32 or float64"):
        hash_grid(x.half(), table.half(), spec)
    with pytest.raises(ValueError, match=r"v_features must have shape"):
        hash_grid_position_gradient(x, table, v[:, 1:], spec)
    with pytest.raises(ValueError, match=r"contiguous"):
        hash_grid(x, table, spec, table_grad=torch.zeros(2, len(table), dtype=torch.float64).T)
    for bad in (
        dict(levels=0),
        dict(features=3),
        dict(log2_table=40),
        dict(max_resolution=None),
        dict(max_resolution=8),
    ):
        with pytest.raises(ValueError):
            HashGridSpec(**bad)
    with pytest.raises(ValueError, match="level_weights needs 16"):
        HashGridSpec(level_weights=(1.0,))
