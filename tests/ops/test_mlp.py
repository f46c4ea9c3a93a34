import functools
import itertools
import os
import subprocess
import sys

import pytest
import torch
from instruction_sets import instruction_sets
from reference.mlp import mlp as reference

from neural3d.ops.mlp import PRECISIONS, mlp, mlp_with_gradient
from neural3d.ops.native import native, served_by_cpu


def network(widths, *, bias=True, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    pairs = list(itertools.pairwise(widths))
    weights = [torch.randn(o, i, generator=generator, dtype=dtype) * (2 / i) ** 0.5 for i, o in pairs]
    biases = [0.3 * torch.randn(o, generator=generator, dtype=dtype) for _, o in pairs] if bias else []
    return [w.to(device) for w in weights], [b.to(device) for b in biases]


def run(function, x, weights, biases, v_y, **options):
    """Output and gradients of x, weights and biases; v_y may be a function of what the network returns."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, *weights, *biases)]
    y = function(leaves[0], leaves[1 : len(weights) + 1], leaves[len(weights) + 1 :] or None, **options)
    y, extra = y if isinstance(y, tuple) else (y, None)
    v_y = v_y(y, extra) if callable(v_y) else v_y
    return y.detach(), v_y, torch.autograd.grad(y, leaves, v_y.to(y.dtype))


def assert_matches_reference(x, weights, biases, **options):
    def away_from_kinks(y, nearest):  # a row whose ReLU float32 may switch the other way has no say in the gradient
        v_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype).to(y.device)
        return v_y * (nearest > 1e-5)[:, None]

    double = [t.double() for t in (x, *weights, *biases)]
    y, v_y, grads = run(
        reference, double[0], double[1 : len(weights) + 1], double[len(weights) + 1 :], away_from_kinks, **options
    )
    ours, _, our_grads = run(mlp, x, weights, biases, v_y, **options)
    for have, want in zip((ours, *our_grads), (y, *grads)):
        scale = 1 + (want.abs().max().item() if want.numel() else 0)  # 1: sums of about ±1 may cancel
        torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=3e-5 * scale)


@pytest.mark.parametrize("width", [16, 32, 48, 64, 128])
@pytest.mark.parametrize("inputs", [3, 16, 31, 32, 63])
@pytest.mark.parametrize("outputs", [1, 3, 16, 17])
def test_matches_the_reference_at_every_shape(device, inputs, width, outputs):
    torch.manual_seed(0)
    for hidden_layers, n in (1, 0), (1, 1000), (2, 1), (2, 17), (3, 16), (4, 15), (4, 1000):
        weights, biases = network([inputs, *[width] * hidden_layers, outputs], bias=n % 2 == 0, device=device)
        assert_matches_reference(torch.randn(n, inputs, device=device), weights, biases)


@pytest.mark.parametrize(
    "widths", [[5, 7], [20, 200], [1, 1, 1], [256, 128, 256], [20, 8, 24, 40, 100, 2], [4, *[16] * 8, 5]]
)
@pytest.mark.parametrize("output", ["none", "relu", "sigmoid", "exp"])
@pytest.mark.parametrize("hidden", ["none", "relu"])
def test_matches_the_reference_for_odd_networks(device, widths, hidden, output):
    weights, biases = network(widths, device=device)
    if hidden == "none":  # as large as the input, layer after layer: exp would make of 60 what float32 knows to 1e-4
        weights = [w / 2**0.5 for w in weights]
    torch.manual_seed(0)
    x = torch.randn(2500, widths[0], device=device) / 2  # more than one chunk of partial sums
    assert_matches_reference(x, weights, biases, hidden_activation=hidden, output_activation=output)


@pytest.mark.parametrize("output", ["none", "relu", "sigmoid", "exp"])
def test_gradients_in_double(device, output):
    weights, biases = network([5, 16, 20, 3], dtype=torch.float64, device=device, seed=3)
    x = torch.randn(50, 5, dtype=torch.float64, device=device)
    keep = reference(x, weights, biases)[1] > 1e-3
    leaves = [t.requires_grad_() for t in (x[keep][:8].clone(), *weights, *biases)]
    assert len(leaves[0]) == 8
    torch.autograd.gradcheck(lambda x, *p: mlp(x, p[:3], p[3:], output_activation=output), leaves)


def few_bits(*shape, step, most, generator):
    """Random multiples of `step`, a power of two, up to ±most: the sums of their products are exact in any order."""
    return step * torch.randint(-round(most / step), round(most / step) + 1, shape, generator=generator).float()


def assert_exactly_the_reference(n, widths, *, steps, device, **options):
    """In bfloat16. steps: of the input and the output's gradient, of weights, of biases."""
    generator = torch.Generator().manual_seed(n)
    x, v_y = (few_bits(n, w, step=steps[0], most=1, generator=generator) for w in (widths[0], widths[-1]))
    weights = [few_bits(o, i, step=steps[1], most=1, generator=generator) for i, o in itertools.pairwise(widths)]
    biases = [few_bits(o, step=steps[2], most=1, generator=generator) for o in widths[1:]] if steps[2] else []
    double = [t.double() for t in (x, *weights, *biases)]
    split = len(weights) + 1
    want = run(reference, double[0], double[1:split], double[split:], v_y, precision="bfloat16", **options)
    rough = run(reference, double[0], double[1:split], double[split:], v_y, **options)
    (x, v_y), weights, biases = ([t.to(device) for t in group] for group in ((x, v_y), weights, biases))
    have = run(mlp, x, weights, biases, v_y, precision="bfloat16", **options)
    for ours, exact in zip((have[0], *have[2]), (want[0], *want[2])):
        assert torch.equal(exact.float().double(), exact)  # the sums do fit float32
        assert torch.equal(ours.double().cpu(), exact)
    assert n != 300 or not torch.equal(rough[0], want[0])  # among so many something was rounded


@pytest.mark.parametrize("n", [1, 17, 300])
@pytest.mark.parametrize("widths", [[5, 7], [40, 3], [20, 200]])
def test_bfloat16_rounds_inputs_weights_and_gradients(device, widths, n):
    """By one product, whose operands have ten bits."""
    assert_exactly_the_reference(n, widths, steps=(2**-9, 2**-9, 2**-12), device=device)


@pytest.mark.parametrize("n", [1, 17, 300])
@pytest.mark.parametrize(
    "widths", [[32, 64, 16], [32, 64, 64, 16], [32, 64, 64, 3], [35, 64, 64, 3], [63, 128, 128, 4], [3, 20, 48, 17]]
)
@pytest.mark.parametrize("hidden", ["relu", "none"])
def test_bfloat16_rounds_hidden_layers_and_their_gradients(device, widths, n, hidden):
    biased = 2**-6 if n == 17 else 0
    assert_exactly_the_reference(n, widths, steps=(1 / 4, 1 / 16, biased), device=device, hidden_activation=hidden)


@pytest.mark.parametrize("widths", [[63, 128, 128, 128, 4], [256, 16, 256]])
def test_bfloat16_makes_do_with_little_shared_memory(device, widths, monkeypatch):
    """Fewer warps a block, weights read layer by layer, sums in global memory, as 99 KiB ask for."""
    if not served_by_cpu(device) and not native(device).mlp_tensor_cores():
        pytest.skip("below sm_80 bfloat16 takes float32's kernels, which need more")
    weights, biases = network(widths, device=device)
    x, v_y = (torch.randn(200, w, device=device) / 4 for w in (widths[0], widths[-1]))
    much = run(mlp, x, weights, biases, v_y, precision="bfloat16")
    monkeypatch.setenv("NEURAL3D_EMULATED_SHARED", "99")
    little = run(mlp, x, weights, biases, v_y, precision="bfloat16")
    assert torch.equal(little[0], much[0]) and torch.equal(little[2][0], much[2][0])
    assert max(relative_errors(little, much)) < 1e-6


def test_bfloat16_sums_over_many_chunks(device):
    assert_exactly_the_reference(66_000, [3, 2], steps=(1 / 4, 1 / 16, 2**-6), device=device)


def relative_errors(have, want):
    """|have − want| / |want|, of the output and of every gradient."""
    pairs = zip((have[0], *have[2]), (want[0], *want[2]))
    return [((a.double().cpu() - b.double().cpu()).norm() / b.double().norm().cpu()).item() for a, b in pairs]


@pytest.mark.parametrize(
    "widths", [[32, 64, 64, 16], [24, 100, 40, 3], [256, 128, 256], [4, *[16] * 8, 5], [256, *[128] * 8, 256]]
)
@pytest.mark.parametrize("hidden, output", [("relu", "none"), ("relu", "sigmoid"), ("relu", "exp"), ("none", "none")])
def test_bfloat16_is_near_its_reference_and_near_float32(device, widths, hidden, output):
    """Near the first: sums in another order round to a neighbour now and then. Near the second: by bfloat16's 2⁻⁹, but
    where a ReLU switches the other way."""
    weights, biases = network(widths, device=device)
    options = dict(hidden_activation=hidden, output_activation=output)
    torch.manual_seed(0)
    x, v_y = (torch.randn(40 if len(widths) > 9 else 150, w, device=device) for w in (widths[0], widths[-1]))
    double = [t.double() for t in (x / 8, *weights, *biases)]
    split = len(weights) + 1
    ours = run(mlp, x / 8, weights, biases, v_y, precision="bfloat16", **options)
    rounded = run(reference, double[0], double[1:split], double[split:], v_y, precision="bfloat16", **options)
    assert max(relative_errors(ours, rounded)) < 1e-2
    exact = run(reference, double[0], double[1:split], double[split:], v_y, **options)
    assert 1e-3 < max(relative_errors(ours, exact)) < (0.3 if hidden == "relu" else 0.03)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_pair_is_its_concatenation(device, precision):
    network_of = functools.partial(mlp, precision=precision)
    weights, biases = network([19, 32, 3], device=device)
    a, b = torch.randn(100, 3, device=device), torch.randn(100, 16, device=device)
    v_y = torch.randn(100, 3, device=device)
    y, _, grads = run(network_of, torch.cat([a, b], -1), weights, biases, v_y)
    leaves = [t.requires_grad_() for t in (a, b, *weights, *biases)]
    pair = network_of((a, b), weights, biases)
    assert torch.equal(pair, y)
    pair_grads = torch.autograd.grad(pair, leaves, v_y)
    for have, want in zip(pair_grads, (grads[0][:, :3], grads[0][:, 3:], *grads[1:])):
        assert torch.equal(have, want)
    only_b = torch.autograd.grad(network_of((a.detach(), b), [w.detach() for w in weights]), b, v_y)[0]
    both = torch.autograd.grad(network_of((a, b), weights), [a, b, *weights], v_y)
    assert torch.equal(only_b, both[1])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_strides_do_not_matter(device, precision):
    network_of = functools.partial(mlp, precision=precision)
    weights, biases = network([24, 32, 5], device=device)
    x, v_y = torch.randn(24, 200, device=device).T, torch.randn(5, 200, device=device).T
    dense = run(network_of, x.contiguous(), weights, biases, v_y.contiguous())
    strided = run(network_of, x, [w.T.contiguous().T for w in weights], biases, v_y)
    assert torch.equal(dense[0], strided[0])
    assert all(torch.equal(a, b) for a, b in zip(dense[2], strided[2]))
    wide = torch.randn(200, 50, device=device)
    assert torch.equal(network_of(wide[:, 7:31], weights), network_of(wide[:, 7:31].contiguous(), weights))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_keeping_activations_does_not_change_the_output(device, precision):
    weights, biases = network([32, 64, 64, 16], device=device)
    x = torch.randn(333, 32, device=device)
    y = mlp(x, weights, biases, precision=precision)
    assert torch.equal(y, mlp(x.requires_grad_(), weights, biases, precision=precision))


def test_same_bytes_whatever_the_threads():
    weights, biases = network([32, 64, 64, 16])
    x, v_y = torch.randn(10_000, 32), torch.randn(10_000, 16)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            results.append(run(mlp, x, weights, biases, v_y))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert torch.equal(result[0], results[0][0])
        assert all(torch.equal(a, b) for a, b in zip(result[2], results[0][2]))


def test_slopes_have_the_same_bytes_whatever_the_threads():
    weights, biases = ([p.requires_grad_() for p in group] for group in network([24, 64, 1]))
    x, v_gradient, threads = torch.randn(10_000, 24), torch.randn(10_000, 24), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y, gradient = mlp_with_gradient(x, weights, biases)
            loss = y.square().mean() + (gradient * v_gradient).mean()
            results.append([y, gradient, *torch.autograd.grad(loss, [*weights, *biases])])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(results[0], result))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_comes_through(device, precision):
    weights, biases = network([16, 32, 32, 3], device=device)
    x = torch.randn(100, 16, device=device)
    x[37, 5] = torch.nan
    y, _, grads = run(mlp, x, weights, biases, torch.ones(100, 3, device=device), precision=precision)
    assert y[37].isnan().all()
    assert y.isnan().any(-1).sum() == 1
    assert all(g.isnan().any() for g in grads[1:4])
    assert grads[0].isnan().any(-1).sum() <= 1


@pytest.mark.parametrize("isa", instruction_sets())
def test_narrower_instruction_sets_agree(isa):
    """The same network in a process that NEURAL3D_ISA holds back."""
    script = f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})\n" + (
        "import torch; from ops.test_mlp import assert_matches_reference, network\n"
        "for widths in ([31, 64, 48, 3], [3, 128, 17], [32, 64, 64, 16]):\n"
        "    assert_matches_reference(torch.randn(2100, widths[0]), *network(widths), output_activation='sigmoid')\n"
        "from neural3d import _native; print(_native.isa())"
    )
    env = {**os.environ, "NEURAL3D_ISA": isa, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == isa


def test_bad_input_is_a_sentence():
    weights, biases = network([8, 16, 3])
    x = torch.zeros(4, 8)
    for message, call in {
        r"weights\[0\] must have shape \(out, 7\), not \(16, 8\)": lambda: mlp(x[:, :7], weights),
        r"weights\[1\] must have shape \(out, 16\)": lambda: mlp(x, [weights[0], weights[1].T]),
        r"x must be \(N, in\)": lambda: mlp(x[0], weights),
        r"a pair \(N, a\) and \(N, b\)": lambda: mlp((x, x[:2]), weights),
        r"biases must have the lengths \[16, 3\]": lambda: mlp(x, weights, biases[:1]),
        "x and parameters differ: torch.float32 on cpu and torch.float64": lambda: mlp(
            x, [w.double() for w in weights]
        ),
        "precision must be one of float32, bfloat16, not 'half'": lambda: mlp(x, weights, precision="half"),
        "'bfloat16' is for float32 tensors": lambda: mlp(
            x.double(), [w.double() for w in weights], precision="bfloat16"
        ),
        "float32": lambda: mlp(x.half(), [w.half() for w in weights]),
        "1 to 9 weight matrices": lambda: mlp(x, []),
        "hidden widths up to 128": lambda: mlp(x, network([8, 129, 3])[0]),
        "widths of 1 to 256": lambda: mlp(x, network([8, 16, 257])[0]),
        "hidden_activation must be one of none, relu, not 'tanh'": lambda: mlp(x, weights, hidden_activation="tanh"),
        "output_activation must be one of": lambda: mlp(x, weights, output_activation="tanh"),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_second_derivatives_are_refused_not_silently_zero():
    weights, _ = network([8, 16, 3])
    x = torch.randn(4, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="twice_differentiable=True"):
        torch.autograd.grad(mlp(x, weights).sum(), x, create_graph=True)
