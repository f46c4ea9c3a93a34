import math

import pytest
import torch

from neural3d.fields.encodings import (
    contract,
    contract_to_unit,
    expand,
    fourier_features,
    frequency_weights,
    positional_encoding,
    positional_width,
    random_frequencies,
)


@pytest.mark.parametrize("levels", [0, 1, 4, 10])
@pytest.mark.parametrize("include_input", [False, True])
def test_positional_encoding_is_equation_4(levels, include_input):
    x = torch.rand(5, 2, 3, dtype=torch.float64) * 2 - 1
    ours = positional_encoding(x, levels, include_input=include_input)
    assert ours.shape == (5, 2, positional_width(3, levels, include_input))
    for i in range(5):
        for j in range(2):
            expected = list(x[i, j]) if include_input else []
            for k in range(levels):
                expected += [math.sin(2**k * math.pi * v) for v in x[i, j]]
                expected += [math.cos(2**k * math.pi * v) for v in x[i, j]]
            torch.testing.assert_close(ours[i, j], torch.tensor(expected, dtype=torch.float64))


def test_positional_encoding_in_float32_is_right_in_the_highest_octave():
    x = torch.linspace(-1, 1, 1001)[:, None]
    exact = positional_encoding(x.double(), 10).float()
    assert (positional_encoding(x, 10) - exact).abs().max() < 3e-4  # 2⁹π·ulp(1)/2


def test_frequency_annealing_reveals_octaves_in_order():
    assert frequency_weights(10, 0).tolist() == [0] * 10
    assert frequency_weights(10, 1).tolist() == [1] * 10
    torch.testing.assert_close(frequency_weights(4, 0.625), torch.tensor([1, 1, 0.5, 0]))
    x = torch.rand(7, 3)
    masked = positional_encoding(x, 4, include_input=True, weights=frequency_weights(4, 0.625))
    full = positional_encoding(x, 4, include_input=True)
    factors = torch.tensor([1.0] * 3 + [1.0] * 12 + [0.5] * 6 + [0.0] * 6)
    torch.testing.assert_close(masked, full * factors)


def test_fourier_features_estimate_the_gaussian_kernel():
    """γ(x)·γ(y)/M → exp(−2π²σ²‖x−y‖²), the kernel that random Fourier features are made for (Rahimi & Recht)."""
    frequencies = random_frequencies(40_000, 3, 0.7, torch.Generator().manual_seed(0)).double()
    x, y = torch.rand(20, 3, dtype=torch.float64), torch.rand(20, 3, dtype=torch.float64)
    kernel = (fourier_features(x, frequencies) * fourier_features(y, frequencies)).sum(-1) / 40_000
    truth = torch.exp(-2 * (math.pi * 0.7) ** 2 * (x - y).square().sum(-1))
    assert (kernel - truth).abs().max() < 0.02  # 4 standard errors of a mean of 40,000 cosines
    again = random_frequencies(40_000, 3, 0.7, torch.Generator().manual_seed(0))
    assert torch.equal(again.double(), frequencies)


@pytest.mark.parametrize("norm, order", [("l2", 2), ("linf", math.inf)])
def test_contract_is_equation_10(norm, order):
    torch.manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64) * 10 ** torch.linspace(-2, 4, 200, dtype=torch.float64)[:, None]
    ours = contract(x, norm)
    for point, image in zip(x, ours):
        size = torch.linalg.vector_norm(point, order)
        expected = point if size <= 1 else (2 - 1 / size) * (point / size)
        torch.testing.assert_close(image, expected)
    assert (torch.linalg.vector_norm(ours, order, dim=-1) < 2).all()
    unit = contract_to_unit(x, norm)
    torch.testing.assert_close(unit * 4 - 2, ours)
    assert unit.min() >= 0 and unit.max() <= 1
    # One to one: the inverse r = 1/(2 − ‖y‖) gives every point back.
    torch.testing.assert_close(expand(ours, norm), x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_contract_gradients(norm):
    x = torch.tensor([[0.2, -0.3, 0.1], [1.5, 0.3, -0.7], [-40.0, 3.0, 20.0], [0.9, 0.1, 1.001]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: contract(p, norm), x.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda p: contract(p, norm), x)
    origin = torch.zeros(1, 3, requires_grad=True)
    contract(origin, norm).sum().backward()
    assert origin.grad.tolist() == [[1, 1, 1]]


def test_contract_of_distant_float32_points_is_finite():
    far = torch.tensor([[1e30, -1e20, 3.0]])
    torch.testing.assert_close(contract(far), torch.tensor([[2.0, -2e-10, 6e-30]]), rtol=1e-5, atol=1e-12)
