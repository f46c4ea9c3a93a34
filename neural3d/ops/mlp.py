"""A small fully connected network in one kernel, the counterpart of tiny-cuda-nn's FullyFusedMLP.

Müller et al., "Real-time Neural Radiance Caching for Path Tracing", SIGGRAPH 2021, section 3.3: rows are processed in
tiles whose activations never leave the cache, through all layers, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.native import native, served_by_cpu, stream

HIDDEN_ACTIVATIONS = {"none": 0, "relu": 1}
OUTPUT_ACTIVATIONS = {"none": 0, "relu": 1, "sigmoid": 2, "exp": 3}
PRECISIONS = ("float32", "bfloat16")
MAX_HIDDEN_LAYERS = 8
MAX_HIDDEN_WIDTH = 128
MAX_INPUT_OUTPUT_WIDTH = 256


def mlp(
    x: Float[Tensor, "N in"] | tuple[Float[Tensor, "N a"], Float[Tensor, "N b"]],
    weights: Sequence[Float[Tensor, "out in"]],
    biases: Sequence[Float[Tensor, "out"]] | None = None,
    *,
    hidden_activation: str = "relu",
    output_activation: str = "none",
    precision: str = "float32",
) -> Float[Tensor, "N out"]:
    """x₀ = x, xₗ₊₁ = f(xₗ Wₗᵀ + bₗ), with f the hidden or, after the last matrix, the output activation.

    x: rows; a pair of tensors stands for their concatenation along the columns, which is never made.
    weights: as torch.nn.Linear keeps them, from the first layer to the last: one to eight hidden layers (or none) up to
        128 wide; input and output up to 256.
    biases: one for each matrix, or None for a network without.
    hidden_activation: "relu" or "none". output_activation: "none", "relu", "sigmoid" or "exp".
    precision: "float32", or "bfloat16", where the operands of every product are rounded to bfloat16 (8 bits): weights,
        x, hidden activations and, backward, the gradients behind each matrix. Tensors stay float32, and so do sums,
        biases and activations. GPUs of compute capability 8.0 or higher multiply so on tensor cores, faster, and keep
        half as much for the backward pass; elsewhere the float32 kernels do it layer by layer, slower than in float32.

    Differentiable once, in x, weights and biases; `neural3d.fields.mlp.MLP(twice_differentiable=True)` serves losses on
    derivatives. float32; float64 runs the same formulas slowly, for gradient checks. On the CPU, results do not depend
    on the number of threads. NaN in a row of x reaches that row's output and every gradient of the weights.
    Raises ValueError for shapes that do not chain, mixed dtypes or devices, bfloat16 of float64 tensors, and unknown
    activations or precisions; RuntimeError in a backward pass with create_graph.
    """
    x0, x1 = (x[0], x[1]) if isinstance(x, (tuple, list)) else (x, None)
    biases = tuple(biases) if biases is not None else ()
    net = _describe(x0, x1, tuple(weights), biases, hidden_activation, output_activation)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not '{precision}'")
    if precision == "bfloat16":
        if x0.dtype != torch.float32:
            raise ValueError(f"precision 'bfloat16' is for float32 tensors, not {x0.dtype}")
        if not has_tensor_cores(x0.device):
            return _rounded(
                x0 if x1 is None else torch.cat([x0, x1], -1), weights, biases, hidden_activation, output_activation
            )
        net = net._replace(kernels="_bfloat16")
    params = torch.cat([p.reshape(-1) for p in (*weights, *biases)])
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x0, x1, params)):
        return _Mlp.apply(net, x0, x1, params)
    return _forward(net, x0.contiguous(), None if x1 is None else x1.contiguous(), params, None)


def mlp_with_gradient(
    x: Float[Tensor, "N in"], weights: Sequence[Float[Tensor, "out in"]], biases: Sequence[Float[Tensor, "out"]]
) -> tuple[Float[Tensor, "N out"], Float[Tensor, "N in"]]:
    """(y, g = ∂y₀/∂x) of y = W₁ h + b₁, h = relu(W₀ x + b₀); both differentiable once in x, weights and biases.

    With mᵣ for the ReLU's mask in row r and w for the first row of W₁, gᵣ = W₀ᵀ (mᵣ ⊙ w). Masks are constant but on
    the kinks, so g depends on W₀ and w alone: with M = Σᵣ mᵣ v_gᵣᵀ,
        v_W₀ = diag(w) M,   v_w = rowsum(W₀ ⊙ M),
    which makes a loss on the gradient (eikonal terms) as cheap as one on the output: M is what `mlp`'s backward gives
    for W₀ where w = 1 and the input is v_g. Raises ValueError as `mlp`, and for other than two matrices.
    """
    if len(weights) != 2:
        raise ValueError(f"mlp_with_gradient takes one hidden layer, not {len(weights) - 1}")
    net = _describe(x, None, tuple(weights), tuple(biases), "relu", "none")
    return _WithGradient.apply(net, x.contiguous(), *weights, *biases)


def has_tensor_cores(device: torch.device) -> bool:
    """Whether `mlp` in bfloat16 is quick there: GPUs of compute capability 8.0 or higher."""
    return not served_by_cpu(device) and native(device).mlp_tensor_cores()


def check_widths(widths: Sequence[int]) -> None:
    """Raises ValueError where the kernels have no room for a network of these widths, from its input to its output."""
    if not 2 <= len(widths) <= MAX_HIDDEN_LAYERS + 2:
        raise ValueError(f"mlp takes 1 to {MAX_HIDDEN_LAYERS + 1} weight matrices, not {len(widths) - 1}")
    if min(widths) < 1 or max(widths[0], widths[-1]) > MAX_INPUT_OUTPUT_WIDTH:
        raise ValueError(f"mlp takes input and output widths of 1 to {MAX_INPUT_OUTPUT_WIDTH}, not {widths}")
    if max(widths[1:-1], default=1) > MAX_HIDDEN_WIDTH:
        raise ValueError(f"mlp takes hidden widths up to {MAX_HIDDEN_WIDTH}, not {widths[1:-1]}")


class _Net(NamedTuple):
    """What the kernels must know of a network, by their arguments' names, and how the names of these kernels end."""

    widths: list[int]
    bias: bool
    hidden_activation: int
    output_activation: int
    kernels: str = ""

    def run(self, name: str, device: torch.device, **arguments: Tensor | None) -> None:
        known = {key: value for key, value in self._asdict().items() if key != "kernels"}
        getattr(native(device), name + self.kernels)(**known, **arguments, stream=stream(device))

    def workspace(self, device: torch.device, rows: int) -> tuple[int, int]:
        """Scalars of `hidden` and of `partials`."""
        return getattr(native(device), "mlp_workspace" + self.kernels)(self.widths, rows)


def _describe(
    x0: Tensor, x1: Tensor | None, weights: tuple[Tensor, ...], biases: tuple[Tensor, ...], hidden: str, output: str
) -> _Net:
    """Checks everything that is handed to the kernels."""
    if hidden not in HIDDEN_ACTIVATIONS:
        raise ValueError(f"hidden_activation must be one of {', '.join(HIDDEN_ACTIVATIONS)}, not '{hidden}'")
    if output not in OUTPUT_ACTIVATIONS:
        raise ValueError(f"output_activation must be one of {', '.join(OUTPUT_ACTIVATIONS)}, not '{output}'")
    if x0.ndim != 2 or (x1 is not None and (x1.ndim != 2 or x1.shape[0] != x0.shape[0])):
        shapes = " and ".join(str(tuple(t.shape)) for t in (x0, x1) if t is not None)
        raise ValueError(f"x must be (N, in), or a pair (N, a) and (N, b), not {shapes}")
    widths = [x0.shape[1] + (0 if x1 is None else x1.shape[1])]
    for i, w in enumerate(weights):
        if w.ndim != 2 or w.shape[1] != widths[-1]:
            raise ValueError(f"weights[{i}] must have shape (out, {widths[-1]}), not {tuple(w.shape)}")
        widths.append(w.shape[0])
    check_widths(widths)
    if biases and [tuple(b.shape) for b in biases] != [(w,) for w in widths[1:]]:
        raise ValueError(f"biases must have the lengths {widths[1:]}, not {[tuple(b.shape) for b in biases]}")
    if x0.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"mlp takes float32 (or float64) tensors, not {x0.dtype}")
    for t in (*weights, *biases, *(() if x1 is None else (x1,))):
        if t.dtype != x0.dtype or t.device != x0.device:
            raise ValueError(f"x and parameters differ: {x0.dtype} on {x0.device} and {t.dtype} on {t.device}")
    return _Net(widths, bool(biases), HIDDEN_ACTIVATIONS[hidden], OUTPUT_ACTIVATIONS[output])


def _forward(net: _Net, x0: Tensor, x1: Tensor | None, params: Tensor, hidden: Tensor | None) -> Tensor:
    y = x0.new_empty(x0.shape[0], net.widths[-1])
    net.run("mlp_forward", x0.device, params=params, x0=x0, x1=x1, y=y, hidden=hidden)
    return y


def _rounded(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], hidden: str, output: str) -> Tensor:
    """What the kernels for bfloat16 compute, by those for float32."""
    functions = {"none": lambda z: z, "relu": torch.relu, "sigmoid": torch.sigmoid, "exp": torch.exp}
    for i, weight in enumerate(weights):
        z = mlp(_Rounded.apply(x), [_Rounded.apply(weight)], biases[i : i + 1] or None)
        x = functions[output if i == len(weights) - 1 else hidden](_GradientRounded.apply(z))
    return x


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return v


class _GradientRounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return v.bfloat16().float()


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, net: _Net, x0: Tensor, x1: Tensor | None, params: Tensor) -> Tensor:
        x0, x1 = x0.contiguous(), None if x1 is None else x1.contiguous()
        hidden = x0.new_empty(net.workspace(x0.device, x0.shape[0])[0])
        y = _forward(net, x0, x1, params, hidden)
        ctx.net = net
        ctx.save_for_backward(x0, x1, params, y, hidden)
        return y

    @staticmethod
    def backward(ctx: Any, v_y: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: v_x below would count as a constant, silently
            raise RuntimeError("mlp has no second derivative; use neural3d.fields.mlp.MLP(twice_differentiable=True)")
        x0, x1, params, y, hidden = ctx.saved_tensors
        v_x0 = torch.empty_like(x0) if ctx.needs_input_grad[1] else None
        v_x1 = torch.empty_like(x1) if ctx.needs_input_grad[2] else None
        v_params = torch.empty_like(params) if ctx.needs_input_grad[3] else None
        _backward(ctx.net, params, x0, x1, y, hidden, v_y, v_x0, v_x1, v_params)
        return None, v_x0, v_x1, v_params


class _WithGradient(torch.autograd.Function):
    """See `mlp_with_gradient`. slope: the network of y₀ alone, or one with its masks and other weights behind them."""

    @staticmethod
    def forward(ctx: Any, net: _Net, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        w0, w1, b0, b1 = parameters
        params = torch.cat([p.reshape(-1) for p in parameters])
        hidden = x.new_empty(net.workspace(x.device, len(x))[0])
        y, gradient = _forward(net, x, None, params, hidden), torch.empty_like(x)
        slope = net._replace(widths=[*net.widths[:2], 1])
        one = x.new_ones(len(x), 1)
        through = torch.cat([w0.reshape(-1), w1[0], b0, b1[:1]])
        _backward(slope, through, x, None, one, hidden, one, gradient, None, None)
        ctx.net, ctx.slope = net, slope
        ctx.save_for_backward(x, params, y, hidden, w0, w1)
        return y, gradient

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v_y: Tensor, v_gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, params, y, hidden, w0, w1 = ctx.saved_tensors
        v_x, v_params = torch.empty_like(x), torch.empty_like(params)
        _backward(ctx.net, params, x, None, y, hidden, v_y, v_x, None, v_params)
        ones = torch.cat([w0.reshape(-1), x.new_ones(len(w0)), x.new_zeros(len(w0) + 1)])
        one, sums = x.new_ones(len(x), 1), torch.empty_like(ones)
        _backward(ctx.slope, ones, v_gradient.contiguous(), None, one, hidden, one, None, None, sums)
        m = sums[: w0.numel()].view_as(w0)
        sizes = (w0.numel(), w1.numel(), len(w0), len(w1))
        v_w0, v_w1, v_b0, v_b1 = v_params.split(sizes)
        v_w0, v_w1 = v_w0.view_as(w0) + w1[0, :, None] * m, v_w1.view_as(w1)
        v_w1[0] += (w0 * m).sum(1)
        return None, v_x, v_w0, v_w1, v_b0, v_b1


def _backward(
    net: _Net, params: Tensor, x0: Tensor, x1: Tensor | None, y: Tensor, hidden: Tensor, v_y: Tensor,
    v_x0: Tensor | None, v_x1: Tensor | None, v_params: Tensor | None,
) -> None:  # fmt: skip
    """Fills those of the last three that are wanted."""
    partials = x0.new_empty(0 if v_params is None else net.workspace(x0.device, len(x0))[1])
    net.run(
        "mlp_backward", x0.device, params=params, x0=x0, x1=x1, y=y, hidden=hidden, v_y=v_y.contiguous(), v_x0=v_x0,
        v_x1=v_x1, partials=partials, v_params=v_params,
    )  # fmt: skip
