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
from neural3d.priors.sequences import SequenceConfig, SequencePrior, before, bounded, normal_nats, silent


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
        self.first = nn.Conv1d(2 * self.width + 1, c.channels, 1)
        self.layers = nn.ModuleList(Gated(c.channels, 1 << i) for i in range(c.layers))
        self.last = silent(nn.Conv1d(c.channels, 2 * self.width, 1))

    def words(self, seen: Float[Tensor, "B T 2D+1"]) -> Float[Tensor, "B T 2D"]:
        h = self.first(bounded(seen).transpose(1, 2))
        skip = torch.zeros_like(h)
        for layer in self.layers:
            h, more = layer(h)
            skip = skip + more
        return self.last(torch.relu(skip)).transpose(1, 2)

    def nats(
        self, y: Float[Tensor, "B T D"], generator: torch.Generator, past: Float[Tensor, "B T D"] | None = None
    ) -> Float[Tensor, "B"]:
        seen = self.seen(before(y if past is None else past))
        return normal_nats(y, *self.told(seen, self.words(seen))).sum(1)

    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        frames = torch.cat([torch.zeros_like(self.mean).expand(len(y), 1, -1), y], 1)
        for _ in range(count):
            seen = self.seen(frames)
            new = self.next_frame(seen, self.words(seen), generator, temperature)
            frames = torch.cat([frames, new[:, None]], 1)
        return frames[:, 1 + y.shape[1] :]


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
