import sys

import pytest
import torch

from neural3d.errors import UserError
from neural3d.fields.mlp import MLP


def test_module_has_a_twice_differentiable_twin(device):
    torch.manual_seed(0)
    fused = MLP(3, 2, 32, 2, bias=True, output_activation="sigmoid").to(device)
    twin = MLP(3, 2, 32, 2, bias=True, output_activation="sigmoid", twice_differentiable=True).to(device)
    twin.load_state_dict(fused.state_dict())
    x = torch.randn(5, 7, 3, device=device, requires_grad=True)
    torch.testing.assert_close(fused(x), twin(x))
    assert fused(x).shape == (5, 7, 2)
    torch.testing.assert_close(*(torch.autograd.grad(m(x).sum(), x)[0] for m in (fused, twin)))
    (normal,) = torch.autograd.grad(twin(x).sum(), x, create_graph=True)
    (normal.norm(dim=-1) - 1).square().mean().backward()
    assert all(p.grad is not None for p in twin.weights)


def test_a_loss_on_the_gradient_by_hand_is_that_of_autograd():
    torch.manual_seed(0)
    net = MLP(6, 4, 16, 1, bias=True).double()
    twin = MLP(6, 4, 16, 1, bias=True, twice_differentiable=True).double()
    for bias in net.biases:
        bias.data.uniform_(-1, 1)
    twin.load_state_dict(net.state_dict())
    x = torch.randn(5000, 6, dtype=torch.float64, requires_grad=True)
    y, gradient = net.with_gradient(x)
    y_twin = twin(x)
    (gradient_twin,) = torch.autograd.grad(y_twin[:, 0].sum(), x, create_graph=True)
    torch.testing.assert_close((y, gradient), (y_twin, gradient_twin))
    v = torch.randn(6, dtype=torch.float64)
    by_hand, by_autograd = (
        torch.autograd.grad(a.square().sum() + (g * v).square().sum(), [x, *m.parameters()], allow_unused=True)
        for m, a, g in ((net, y, gradient), (twin, y_twin, gradient_twin))
    )
    torch.testing.assert_close(by_hand, by_autograd)


def test_gradient_by_hand_is_for_networks_of_relu_with_biases():
    for options in (
        {},
        {"bias": True, "output_activation": "exp"},
        {"bias": True, "hidden_activation": "none"},
        {"bias": True, "hidden_layers": 2},
    ):
        with pytest.raises(ValueError, match="ReLU networks"):
            MLP(3, 1, **options).with_gradient(torch.rand(2, 3))


def test_module_starts_with_unit_variance():
    torch.manual_seed(0)
    y = MLP(64, 64, 128, 4)(torch.randn(1000, 64))
    assert 0.5 < y.std() < 1.5


def test_module_refuses_what_it_lacks(monkeypatch):
    with pytest.raises(ValueError, match="softplus"):
        MLP(3, 1, hidden_activation="softplus")
    MLP(3, 1, hidden_activation="softplus", twice_differentiable=True)
    with pytest.raises(ValueError, match="no second derivative"):
        MLP(3, 1, twice_differentiable=True, backend="tcnn")
    monkeypatch.setitem(sys.modules, "tinycudann", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"install it from .* or choose the backend 'native'"):
        MLP(3, 1, backend="tcnn")
