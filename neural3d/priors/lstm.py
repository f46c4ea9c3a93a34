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
from neural3d.priors.sequences import SequenceConfig, SequencePrior, before, bounded, normal_nats, silent


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
        self.net = make(2 * self.width + 1, c.hidden, c.layers, batch_first=True)
        self.last = silent(nn.Linear(c.hidden, 2 * self.width))

    def words(self, seen: Float[Tensor, "B T 2D+1"], memory: Any = None) -> tuple[Float[Tensor, "B T 2D"], Any]:
        """(a network's words, the memory after the last)"""
        h, memory = self.net(bounded(seen), memory)
        return self.last(h), memory

    def nats(
        self, y: Float[Tensor, "B T D"], generator: torch.Generator, past: Float[Tensor, "B T D"] | None = None
    ) -> Float[Tensor, "B"]:
        memory: Any = None
        each: list[Tensor] = []
        seen = self.seen(before(y if past is None else past))
        for part, own in zip(y.split(self.config.truncate, 1), seen.split(self.config.truncate, 1)):
            words, memory = self.words(own, memory)
            each.append(normal_nats(part, *self.told(own, words)))
            memory = tuple(m.detach() for m in memory) if isinstance(memory, tuple) else memory.detach()
        return torch.cat(each, 1).sum(1)

    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        frames = torch.cat([torch.zeros_like(self.mean).expand(len(y), 1, -1), y], 1)
        seen = self.seen(frames)
        words, memory = self.words(seen)
        for _ in range(count):
            new = self.next_frame(seen, words, generator, temperature)
            frames = torch.cat([frames, new[:, None]], 1)
            seen = self.seen(frames)
            words, memory = self.words(seen[:, -1:], memory)
        return frames[:, 1 + y.shape[1] :]
