"""The optimiser as a setting: torch's, with what checkpoints keep of them.

g: the gradient, η: the rate, μ: `momentum`.
    sgd       θ ← θ − η g                                   (Robbins & Monro 1951; g: of a mini-batch)
    momentum  u ← μ u + g, θ ← θ − η u                      (Polyak 1964)
    nesterov  u ← μ u + g, θ ← θ − η (g + μ u)              (Nesterov 1983, as Sutskever et al. 2013 write it)
    adagrad   s ← s + g², θ ← θ − η g / √s                  (Duchi et al. 2011)
    rmsprop   s ← 0.99 s + 0.01 g², θ ← θ − η g / √s        (Tieleman & Hinton 2012)
    adam      see neural3d.ops.adam                         (Kingma & Ba 2015)
    adamw     the same, and θ ← (1 − η λ) θ, λ: `decay`     (Loshchilov & Hutter 2019)
    lbfgs     θ ← θ − η H g, H by the last ten differences  (Liu & Nocedal 1989), strong Wolfe conditions; large batches
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from neural3d.ops.adam import Adam

Name = Literal["adam", "adamw", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "lbfgs"]
HISTORY = 10  # of L-BFGS


def optimiser(name: str, momentum: float, decay: float) -> Callable[[list[dict[str, Any]]], Any]:
    """What makes a Player's optimizer of its groups."""
    if name == "adam":
        return Adam
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": partial(torch.optim.AdamW, weight_decay=decay, fused=True),  # as large as MADE: a third of the time
        "sgd": torch.optim.SGD,
        "momentum": partial(torch.optim.SGD, momentum=momentum),
        "nesterov": partial(torch.optim.SGD, momentum=momentum, nesterov=True),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "lbfgs": partial(torch.optim.LBFGS, history_size=HISTORY, line_search_fn="strong_wolfe"),
    }
    return lambda groups: Kept(kinds[name](_one(groups) if name == "lbfgs" else groups))


def _one(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """L-BFGS takes one group alone: all parameters, at the first one's rate."""
    return [{**groups[0], "params": [p for group in groups for p in group["params"]]}]


class Kept:
    """One of torch's optimisers, which a Trainer can step, and a checkpoint can keep."""

    def __init__(self, inner: torch.optim.Optimizer):
        self.inner = inner
        self.param_groups = inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Tensor]) -> None:
        """Leaves gradients zero, as `neural3d.ops.adam.Adam` does. closure: for `torch.optim.LBFGS` alone."""
        if isinstance(self.inner, torch.optim.LBFGS):
            self.inner.step(closure)  # type: ignore[arg-type]
        else:
            self.inner.step()
        self.inner.zero_grad(set_to_none=False)

    def moments(self) -> dict[str, Any]:
        """What exact resume needs, of each parameter by its position; lists as objects with their numbers as keys."""
        return {str(i): _kept(self.inner.state[p]) for i, p in enumerate(self._parameters()) if self.inner.state[p]}

    def load_moments(self, moments: dict[str, Any]) -> None:
        for i, p in enumerate(self._parameters()):
            if str(i) in moments:
                self.inner.state[p] = {name: _loaded(value) for name, value in moments[str(i)].items()}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def _kept(state: dict[str, Any]) -> dict[str, Any]:
    lists = {k: {str(i): x for i, x in enumerate(v)} for k, v in state.items() if isinstance(v, list) and k != "al"}
    return {k: v for k, v in state.items() if v is not None and not isinstance(v, list)} | lists


def _loaded(value: Any) -> Any:
    return [value[str(i)] for i in range(len(value))] if isinstance(value, dict) else value
