"""Small fully connected networks as modules."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.errors import UserError
from neural3d.ops.mlp import (
    HIDDEN_ACTIVATIONS,
    OUTPUT_ACTIVATIONS,
    check_widths,
    has_tensor_cores,
    mlp,
    mlp_with_gradient,
)

Precision = Literal["float32", "bfloat16"]  # of the products in a network, for configurations: see `ops.mlp.mlp`
SOFTPLUS_SHARPNESS = 100  # as IDR and NeuS use it: a ReLU rounded over 1/100, whose second derivative exists


class MLP(nn.Module):
    """`hidden_layers` ReLU layers of `width` between an input and an output; see `neural3d.ops.mlp.mlp`.

    Weights start He-uniform (He et al., "Delving Deep into Rectifiers", ICCV 2015): U(±√(6 / in)) before a ReLU or
    softplus, U(±√(3 / in)) otherwise, which keeps the variance through the layers; biases start at zero.

    twice_differentiable: plain torch operations with the same parameters and the same result up to rounding, for losses
        on derivatives (eikonal terms, normals). Also allows hidden_activation="softplus", with sharpness 100.
    backend: "native", our kernels, or "tcnn": tiny-cuda-nn's FullyFusedMLP in half precision, on CUDA only, with its
        own parameter layout and start; never chosen unless asked for.
    precision: "float32", or "bfloat16", native only, with sums and parameters in float32: see `neural3d.ops.mlp.mlp`.
        The same on every device up to the order of sums; quick on tensor cores alone (`require_precision`).
    Raises UserError where tiny-cuda-nn is asked for and missing, ValueError for unknown names and
    for sizes that the kernels do not take.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int = 64,
        hidden_layers: int = 2,
        *,
        bias: bool = False,
        hidden_activation: str = "relu",
        output_activation: str = "none",
        twice_differentiable: bool = False,
        backend: str = "native",
        precision: str = "float32",
    ):
        super().__init__()
        if backend not in ("native", "tcnn"):
            raise ValueError(f"backend must be 'native' or 'tcnn', not '{backend}'")
        hidden_known = [*HIDDEN_ACTIVATIONS, *(["softplus"] if twice_differentiable else [])]
        if hidden_activation not in hidden_known:
            raise ValueError(f"hidden_activation must be one of {hidden_known}, not '{hidden_activation}'")
        if output_activation not in OUTPUT_ACTIVATIONS:
            raise ValueError(f"output_activation must be one of {[*OUTPUT_ACTIVATIONS]}, not '{output_activation}'")
        self.hidden_activation, self.output_activation = hidden_activation, output_activation
        if precision != "float32" and (backend == "tcnn" or twice_differentiable):
            raise ValueError(f"precision '{precision}' is for our kernels alone; use 'float32', or backend='native'")
        self.twice_differentiable, self.precision = twice_differentiable, precision
        self.tcnn = None
        if backend == "tcnn":
            if bias or twice_differentiable:
                raise ValueError("tiny-cuda-nn's network has no biases and no second derivative; use backend='native'")
            self.tcnn = _tcnn_network(
                in_features, out_features, width, hidden_layers, hidden_activation, output_activation
            )
            return
        widths = [in_features, *[width] * hidden_layers, out_features]
        if not twice_differentiable:
            check_widths(widths)
        self.weights = nn.ParameterList(torch.empty(o, i) for i, o in itertools.pairwise(widths))
        self.biases = nn.ParameterList(torch.zeros(o) for o in widths[1:]) if bias else None
        for i, weight in enumerate(self.weights):
            rectified = i < hidden_layers and hidden_activation != "none"
            nn.init.kaiming_uniform_(weight, nonlinearity="relu" if rectified else "linear")

    def forward(self, x: Float[Tensor, "*batch in"] | tuple[Tensor, Tensor]) -> Float[Tensor, "*batch out"]:
        """x: any number of leading dimensions; a pair is concatenated along the last, without a copy in the kernel."""
        parts: tuple[Tensor, ...] = x if isinstance(x, tuple) else (x,)
        batch = parts[0].shape[:-1]
        parts = tuple(p.reshape(-1, p.shape[-1]) for p in parts)
        if self.tcnn is not None:
            y = self.tcnn(torch.cat(parts, -1)).to(parts[0].dtype)
        elif self.twice_differentiable:
            y = self._torch_forward(torch.cat(parts, -1))
        else:
            y = mlp(
                parts if len(parts) == 2 else parts[0],
                list(self.weights),
                None if self.biases is None else list(self.biases),
                hidden_activation=self.hidden_activation,
                output_activation=self.output_activation,
                precision=self.precision,
            )
        return y.reshape(*batch, y.shape[-1])

    def with_gradient(self, x: Float[Tensor, "N in"]) -> tuple[Float[Tensor, "N out"], Float[Tensor, "N in"]]:
        """(y, ∂y₀/∂x): the output and the gradient of its first column, both differentiable once in x and parameters.

        For ReLU networks of one hidden layer with biases and without output activation: see
        `neural3d.ops.mlp.mlp_with_gradient`.
        """
        plain = self.hidden_activation == "relu" and self.output_activation == "none" and len(self.weights) == 2
        if self.biases is None or not plain:
            raise ValueError(
                "with_gradient is for ReLU networks of one hidden layer, with biases, no output activation"
            )
        return mlp_with_gradient(x, list(self.weights), list(self.biases))

    def _torch_forward(self, x: Tensor) -> Tensor:
        for i, weight in enumerate(self.weights):
            x = F.linear(x, weight, None if self.biases is None else self.biases[i])
            if i + 1 < len(self.weights):
                x = _activate(self.hidden_activation, x)
        return _activate(self.output_activation, x)


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raises UserError where training in this precision would be slower than in float32."""
    if precision == "bfloat16" and not has_tensor_cores(device):
        raise UserError(
            "precision=bfloat16 trains on GPUs of compute capability 8.0 or higher (since 2020), with neural3d's CUDA "
            f"kernels, not on this device ({device}); train there, or anew with --set precision=float32."
        )


def _activate(name: str, z: Tensor) -> Tensor:
    if name == "relu":
        return F.relu(z)
    if name == "softplus":
        return F.softplus(z, beta=SOFTPLUS_SHARPNESS)
    if name == "sigmoid":
        return torch.sigmoid(z)
    if name == "exp":
        return torch.exp(z)
    return z


def _tcnn_network(
    in_features: int, out_features: int, width: int, hidden_layers: int, hidden_activation: str, output_activation: str
) -> Any:
    try:
        import tinycudann
    except (ImportError, OSError) as error:  # OSError: it is there, but there is no GPU
        raise UserError(
            f"backend 'tcnn' needs tiny-cuda-nn, which cannot be used here ({error}): install it from "
            "https://github.com/NVlabs/tiny-cuda-nn on a machine with CUDA, or choose the backend 'native'."
        ) from error
    names = {"none": "None", "relu": "ReLU", "sigmoid": "Sigmoid", "exp": "Exponential"}
    return tinycudann.Network(
        in_features,
        out_features,
        {
            "otype": "FullyFusedMLP",
            "activation": names[hidden_activation],
            "output_activation": names[output_activation],
            "n_neurons": width,
            "n_hidden_layers": hidden_layers,
        },
    )
