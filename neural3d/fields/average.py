"""A moving average of a module's numbers, which is better than where they happen to be after the last step."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Average(nn.Module, Generic[M]):
    """θ̄ ← d θ̄ + (1 − d) θ after each step, of all parameters; buffers are copied.

    A part of the method that holds it, so that checkpoints keep it, and of no player, so that no loss moves it.
    decay: d; of what θ̄ was n steps ago dⁿ is left, first of where θ started.
    """

    def __init__(self, module: M, decay: float):
        super().__init__()
        self.decay = decay
        self.mean: M = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, module: M) -> None:
        for mean, now in zip(self.mean.parameters(), module.parameters(), strict=True):
            mean.lerp_(now, 1 - self.decay)
        for copy_, buffer in zip(self.mean.buffers(), module.buffers(), strict=True):
            copy_.copy_(buffer)
