import itertools
import sys
import types

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
    for kind in (dict(backend="tcnn"), dict(twice_differentiable=True)):
        with pytest.raises(ValueError, match="precision 'bfloat16' is for our kernels alone"):
            MLP(3, 1, precision="bfloat16", **kind)
    monkeypatch.setitem(sys.modules, "tinycudann", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"install it from .* or choose the backend 'native'"):
        MLP(3, 1, backend="tcnn")


class Network(torch.nn.Module):
    """Stands in for tinycudann.Network: without biases, in half precision, all weights in one vector `params`."""

    def __init__(self, n_input_dims, n_output_dims, network_config, seed=1337):
        super().__init__()
        self.config, c = network_config, network_config
        widths = [n_input_dims, *[c["n_neurons"]] * c["n_hidden_layers"], n_output_dims]
        self.shapes = [(o, i) for i, o in itertools.pairwise(widths)]
        self.params = torch.nn.Parameter(0.3 * torch.randn(sum(o * i for o, i in self.shapes)))

    def forward(self, x):
        assert x.ndim == 2 and x.shape[1] == self.shapes[0][1]
        for k, weight in enumerate(self.weights()):
            x = x @ weight.T
            name = self.config["output_activation" if k + 1 == len(self.shapes) else "activation"]
            x = {"None": lambda x: x, "ReLU": torch.relu, "Sigmoid": torch.sigmoid, "Exponential": torch.exp}[name](x)
        return x.half()

    def weights(self):
        parts = self.params.split([o * i for o, i in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes)]


@pytest.mark.parametrize("hidden,output", [("relu", "sigmoid"), ("relu", "none"), ("none", "exp")])
def test_tiny_cuda_nn_is_asked_for_the_same_network(monkeypatch, hidden, output):
    monkeypatch.setitem(sys.modules, "tinycudann", types.SimpleNamespace(Network=Network))
    kind = dict(width=16, hidden_layers=2, hidden_activation=hidden, output_activation=output)
    theirs, ours = MLP(7, 3, backend="tcnn", **kind), MLP(7, 3, **kind)
    assert theirs.tcnn.config["otype"] == "FullyFusedMLP" and [*theirs.parameters()] == [theirs.tcnn.params]
    for weight, given in zip(ours.weights, theirs.tcnn.weights()):
        weight.data.copy_(given.detach())
    x = torch.randn(5, 4, 7)
    y = theirs((x[..., :3], x[..., 3:]))  # a pair, any number of leading dimensions
    assert y.shape == (5, 4, 3) and y.dtype == torch.float32
    torch.testing.assert_close(y, ours(x), atol=2e-3, rtol=2e-3)  # half precision's
    y.square().sum().backward()
    assert theirs.tcnn.params.grad.abs().sum() > 0
