"""Fused Adam that leaves untouched rows alone.

Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1. Hash tables and splats receive
gradients in a few rows each step; a group with `skip_untouched=True` updates those and neither reads nor decays
the moments of the others (as instant-ngp does for its tables), which is what makes large tables affordable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from neural3d.ops.native import native, stream


def adam_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    skip_untouched: bool = False,
) -> None:
    """Updates `param`, `m` and `v` in place, and leaves `grad` zero, ready to accumulate the next step.

    param, grad, m, v: same shape, dtype (float32 or float64) and device, contiguous. With `skip_untouched`, the last
    dimension is a row; rows whose gradient is entirely zero stay as they are.
    step: 1 for the first update (bias correction).
    eps is added to √v̂ (not under the root), as in the paper.
    Raises ValueError on mismatched shapes, dtypes, devices or non-contiguous tensors.
    """
    for name, t in (("grad", grad), ("m", m), ("v", v)):
        if t.shape != param.shape or t.dtype != param.dtype or t.device != param.device:
            raise ValueError(f"{name} must match param: {tuple(param.shape)} {param.dtype} on {param.device}")
    if not all(t.is_contiguous() for t in (param, grad, m, v)):
        raise ValueError("adam_step works in place: param, grad, m and v must be contiguous")
    if step < 1:
        raise ValueError(f"step counts from 1, not {step}")
    width = param.shape[-1] if skip_untouched and param.ndim > 0 else 1
    rows = param.numel() // width if width else 0
    beta1, beta2 = betas
    native(param.device).adam_step(
        param=param, grad=grad, m=m, v=v, rows=rows, width=width, skip_untouched=skip_untouched, lr=lr,
        beta1=beta1, beta2=beta2, eps=eps, correction1=1 - beta1**step, correction2=1 - beta2**step,
        stream=stream(param.device),
    )  # fmt: skip


class Adam(torch.optim.Optimizer):
    """`torch.optim.Adam` on our kernel; groups may set `skip_untouched`. `step` leaves gradients zero."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        skip_untouched: bool = False,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, skip_untouched=skip_untouched))
        self.rows: dict[Tensor, slice] = {}  # of parameters that others step, too: which rows `step` does

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["m"] = torch.zeros_like(p)
                    state["v"] = torch.zeros_like(p)
                state["step"] += 1
                grad = p.grad.contiguous()
                done = (p, grad, state["m"], state["v"])
                if p in self.rows:
                    done = tuple(t[self.rows[p]] for t in done)
                adam_step(
                    *done, step=state["step"], lr=group["lr"], betas=group["betas"], eps=group["eps"],
                    skip_untouched=group["skip_untouched"],
                )  # fmt: skip
                if grad is not p.grad:
                    p.grad.zero_()

    def moments(self) -> dict[str, dict[str, Any]]:
        """What exact resume needs: step and moments of each parameter, by its position in the groups."""
        return {str(i): dict(self.state[p]) for i, p in enumerate(self._parameters()) if self.state[p]}

    def load_moments(self, moments: dict[str, dict[str, Any]]) -> None:
        """Takes back what `moments` gave."""
        for i, p in enumerate(self._parameters()):
            if str(i) in moments:
                self.state[p] = dict(moments[str(i)])

    def replace(self, old: Tensor, new: Tensor, moments: Callable[[Tensor], Tensor]) -> None:
        """Optimises `new` in the place of `old`, from which it may differ in shape; moments: new ones from the old."""
        for group in self.param_groups:
            group["params"] = [new if p is old else p for p in group["params"]]
        state = self.state.pop(old, {})
        if state:
            self.state[new] = {**state, "m": moments(state["m"]), "v": moments(state["v"])}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]
