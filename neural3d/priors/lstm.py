"""`lstm`: frames told by a recurrent network's memory of those before.

Elman 1990 (cell=rnn): h_t = tanh(W x_t + U h_{t−1} + b); Hochreiter & Schmidhuber 1997 with the forget gate of Gers et
al. 2000 (cell=lstm):
    i, f, o = σ(W x_t + U h_{t−1} + b),   c_t = f c_{t−1} + i tanh(…),   h_t = o tanh(c_t)
Gradients go back through `truncate` frames at most (Williams & Peng 1990): the memory passes on from one stretch to the
next, the gradient does not; and are scaled down to a norm of `clip`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Count, Width
from neural3d.examples.examples import Examples
from neural3d.priors.sequences import SequenceConfig, SequencePrior, before, next_frame, normal_nats


@dataclass(frozen=True)
class LstmConfig(SequenceConfig):
    """Settings of `lstm`."""

    cell: Literal["lstm", "rnn"] = "lstm"
    hidden: Width = 256
    layers: Count = 1
    truncate: Count = 25  # frames that gradients go back


class Lstm(SequencePrior):
    """See the module's docstring."""

    Config = LstmConfig

    def __init__(self, config: LstmConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        make = nn.LSTM if c.cell == "lstm" else nn.RNN
        self.net = make(self.width + 1, c.hidden, c.layers, batch_first=True)  # the last input: was there a frame?
        self.last = nn.Linear(c.hidden, 2 * self.width)

    def told(self, last: Float[Tensor, "B T D"], memory: Any, first: bool) -> tuple[Float[Tensor, "B T 2D"], Any]:
        """((δ, log σ) of each frame, the memory after the last). first: its first frame has none before it."""
        there = torch.ones_like(last[..., :1])
        if first:
            there[:, 0] = 0
        h, memory = self.net(torch.cat([last, there], -1), memory)
        return self.last(h), memory

    def nats(self, y: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        memory: Any = None
        each: list[Tensor] = []
        for part, last in zip(y.split(self.config.truncate, 1), before(y).split(self.config.truncate, 1)):
            told, memory = self.told(last, memory, first=not each)
            each.append(normal_nats(part, last, told))
            memory = tuple(m.detach() for m in memory) if isinstance(memory, tuple) else memory.detach()
        return torch.cat(each, 1).sum(1)

    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        start = torch.zeros_like(self.mean).expand(len(y), 1, -1)
        told, memory = self.told(torch.cat([start, y], 1), None, first=True)
        last, made = torch.cat([start, y], 1)[:, -1], []
        for _ in range(count):
            last = next_frame(last, told[:, -1], generator, temperature)
            made.append(last)
            told, memory = self.told(last[:, None], memory, first=False)
        return torch.stack(made, 1)
