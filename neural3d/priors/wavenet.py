"""`wavenet`: frames told by dilated causal convolutions of all before.

Van den Oord et al.: "WaveNet: A Generative Model for Raw Audio", 2016; Bai, Kolter, Koltun 2018 (temporal convolutional
networks). Layer k sees its own place and that 2^k before, so that L layers reach 2^L frames back:
    z = tanh(W_f ∗ h) σ(W_g ∗ h),   h ← h + W z,   skip ← skip + V z                 (eq. 2, figure 4)
Frames are numbers, not levels: a normal distribution takes the softmax's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from neural3d.config import Layers, Width
from neural3d.examples.examples import Examples
from neural3d.priors.sequences import SequenceConfig, SequencePrior, before, next_frame, normal_nats


@dataclass(frozen=True)
class WaveNetConfig(SequenceConfig):
    """Settings of `wavenet`."""

    channels: Width = 64
    layers: Layers = 5  # the last one sees 2^(layers − 1) frames back


class WaveNet(SequencePrior):
    """See the module's docstring."""

    Config = WaveNetConfig

    def __init__(self, config: WaveNetConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        self.first = nn.Conv1d(self.width + 1, c.channels, 1)  # the last input: whether there was a frame at all
        self.layers = nn.ModuleList(Gated(c.channels, 1 << i) for i in range(c.layers))
        self.last = nn.Conv1d(c.channels, 2 * self.width, 1)

    def told(self, last: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 2D"]:
        """(δ, log σ) of each frame from those before, `last` the one just before; the first of all has none."""
        there = torch.ones_like(last[..., :1])
        there[:, 0] = 0
        h = self.first(torch.cat([last, there], -1).transpose(1, 2))
        skip = torch.zeros_like(h)
        for layer in self.layers:
            h, more = layer(h)
            skip = skip + more
        return self.last(torch.relu(skip)).transpose(1, 2)

    def nats(self, y: Float[Tensor, "B T D"], generator: torch.Generator) -> Float[Tensor, "B"]:
        last = before(y)
        return normal_nats(y, last, self.told(last)).sum(1)

    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        seen = torch.cat([torch.zeros_like(self.mean).expand(len(y), 1, -1), y], 1)
        for _ in range(count):
            new = next_frame(seen[:, -1], self.told(seen)[:, -1], generator, temperature)
            seen = torch.cat([seen, new[:, None]], 1)
        return seen[:, 1 + y.shape[1] :]


class Gated(nn.Module):
    """A residual layer and what it adds to the skips."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.both = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.out, self.skip = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, h: Float[Tensor, "B C T"]) -> tuple[Float[Tensor, "B C T"], Float[Tensor, "B C T"]]:
        signal, share = self.both(pad(h, (self.dilation, 0))).chunk(2, 1)
        z = torch.tanh(signal) * torch.sigmoid(share)
        return h + self.out(z), self.skip(z)
