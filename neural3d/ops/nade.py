"""The conditional probabilities of binary values in order, by hidden units that are carried from one to the next.

Larochelle & Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011, algorithm 1. Of D values x:

    logit p(x_d = 1 | x_<d) = b_d + V_d · σ(a_d),   a_1 = c,   a_{d+1} = a_d + x_d W_d

Written with plain tensors all σ(a_d) lie in memory at once, B · D · H numbers; here an example's units are one row that
changes only behind a value that is 1, and backward undoes these changes from the end.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.ops.native import check, native, stream

PANEL = 16  # units that lie together; kPanel in csrc/ops/nade.h


class _Nade(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, v, c):
        x, w, v, c = (t.detach().contiguous() for t in (x, w, v, c))
        a = w.new_empty(len(x), *c.shape)
        logits = w.new_empty(x.shape)
        native(w.device).nade(x=x, w=w, v=v, c=c, a=a, h=torch.empty_like(a), logits=logits, stream=stream(w.device))
        ctx.save_for_backward(x, w, v, a)
        return logits

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_logits):
        x, w, v, a = ctx.saved_tensors
        kernels = native(w.device)
        v_w, v_v, v_c = (w.new_zeros(kernels.nade_parts, *shape) for shape in (w.shape, v.shape, a.shape[1:]))
        kernels.nade_vjp(
            x=x, w=w, v=v, a=a, v_logits=v_logits.contiguous(), v_w=v_w, v_v=v_v, v_c=v_c, stream=stream(w.device)
        )
        return None, v_w.sum(0), v_v.sum(0), v_c.sum(0)


def nade(
    x: Bool[Tensor, "B D"],
    w: Float[Tensor, "D H"],
    v: Float[Tensor, "D H"],
    b: Float[Tensor, "D"],
    c: Float[Tensor, "H"],
) -> Float[Tensor, "B D"]:
    """The logits of each value being 1, given those before it; see the module's page.

    w, v, b, c: float32 or float64, differentiable once; x is not. On both devices the same inputs give the same bytes
    each time, on the CPU on any number of threads. Raises ValueError on other shapes, dtypes or devices.
    """
    if w.ndim != 2 or 0 in w.shape or w.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"w must be (D, H), float32 or float64, not {tuple(w.shape)}, {w.dtype}")
    length, width = w.shape
    for name, t, shape in (("v", v, (length, width)), ("b", b, (length,)), ("c", c, (width,))):
        check(name, t, shape, w)
    if x.dtype != torch.bool or x.device != w.device or x.ndim != 2 or x.shape[1] != length:
        found = f"{tuple(x.shape)}, {x.dtype}, on {x.device}"
        raise ValueError(f"x must be (B, {length}), torch.bool, on {w.device}, not {found}")
    return _Nade.apply(x, _panels(w), _panels(v), _panels(c[None])[:, 0]) + b


def _panels(rows: Float[Tensor, "D H"]) -> Float[Tensor, "panels D 16"]:
    """As the kernels read them, filled up with zeros."""
    filled = torch.nn.functional.pad(rows, (0, -rows.shape[1] % PANEL))
    return filled.view(len(rows), -1, PANEL).transpose(0, 1)
