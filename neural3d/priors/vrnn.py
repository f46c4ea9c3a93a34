"""`vrnn`: a variational autoencoder at each frame, tied by a recurrent network.

Chung et al.: "A Recurrent Latent Variable Model for Sequential Data", NeurIPS 2015. With h_{t−1} of x_{<t} and z_{<t},
    p(z_t | x_{<t}, z_{<t}) = N(μ₀, σ₀²)(h_{t−1})                                    (eq. 5: the prior is learnt)
    p(x_t | z_{≤t}, x_{<t}) = N(x_{t−1} + a (x_{t−1} − x_{t−2}) + s δ, (s σ)²)(z_t, h_{t−1})   (eq. 6)
    q(z_t | x_{≤t}, z_{<t}) = N(μ, σ²)(x_t, h_{t−1})                                 (eq. 9: it sees x_t, not x_{>t})
    log p(x) ≥ E_q Σ_t log p(x_t | z_{≤t}, x_{<t}) − KL(q(z_t | x_{≤t}, z_{<t}) ‖ p(z_t | x_{<t}, z_{<t}))  (eq. 11)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.config import Width
from neural3d.examples.examples import Examples
from neural3d.priors.sequences import SequenceConfig, SequencePrior, bounded, normal_nats, silent
from neural3d.priors.upsampling import Dense


@dataclass(frozen=True)
class VrnnConfig(SequenceConfig):
    """Settings of `vrnn`."""

    hidden: Width = 128  # of the recurrent network, and of the others' layers
    latent: Width = 16  # numbers z at each frame


class Vrnn(SequencePrior):
    """See the module's docstring."""

    Config = VrnnConfig
    likelihood = "lower bound, by one draw of codes"

    def __init__(self, config: VrnnConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        self.cell = nn.GRUCell(2 * self.width + 1 + c.latent, c.hidden)
        self.prior = Dense(c.hidden, 2 * c.latent, c.hidden, 1)
        self.posterior = Dense(2 * self.width + 1 + c.hidden, 2 * c.latent, c.hidden, 1)
        self.decoder = Dense(c.latent + c.hidden, 2 * self.width, c.hidden, 1)
        silent(self.decoder[-1])

    def nats(
        self, y: Float[Tensor, "B T D"], generator: torch.Generator, past: Float[Tensor, "B T D"] | None = None
    ) -> Float[Tensor, "B"]:
        h = self._start(len(y))
        seen = self._seen(y if past is None else past)
        words, total = [], torch.zeros_like(y[:, 0, 0])
        for own in seen.unbind(1)[1:]:
            mean, log_size = self.posterior(torch.cat([bounded(own), h], 1)).chunk(2, 1)
            z = mean + log_size.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
            total = total + divergence(mean, log_size, *self.prior(h).chunk(2, 1))
            words.append(self.decoder(torch.cat([z, h], 1)))
            h = self.cell(torch.cat([bounded(own), z], 1), h)
        return total + normal_nats(y, *self.told(seen[:, :-1], torch.stack(words, 1))).sum(1)

    def following(
        self, y: Float[Tensor, "B T D"], count: int, generator: torch.Generator | None, temperature: float
    ) -> Float[Tensor, "B count D"]:
        """With the means of the codes of what is seen."""
        h, frames = self._start(len(y)), torch.cat([torch.zeros_like(self.mean).expand(len(y), 1, -1), y], 1)
        for own in self.seen(frames).unbind(1)[1:]:
            z = self.posterior(torch.cat([bounded(own), h], 1)).chunk(2, 1)[0]
            h = self.cell(torch.cat([bounded(own), z], 1), h)
        for _ in range(count):
            z, log_size = self.prior(h).chunk(2, 1)
            if generator is not None:
                noise = torch.randn(z.shape, generator=generator, device=z.device)
                z = z + temperature * log_size.exp() * noise
            words = self.decoder(torch.cat([z, h], 1))[:, None]
            new = self.next_frame(self.seen(frames)[:, -1:], words, generator, temperature)
            frames = torch.cat([frames, new[:, None]], 1)
            h = self.cell(torch.cat([bounded(self.seen(frames)[:, -1]), z], 1), h)
        return frames[:, 1 + y.shape[1] :]

    def _seen(self, y: Float[Tensor, "B T D"]) -> Float[Tensor, "B T+1 2D+1"]:
        """What is seen of nothing, and of all frames."""
        return self.seen(torch.cat([torch.zeros_like(y[:, :1]), y], 1))

    def _start(self, count: int) -> Float[Tensor, "count hidden"]:
        return self.mean.new_zeros(count, self.config.hidden)


def divergence(
    mean: Float[Tensor, "B L"], log_size: Float[Tensor, "B L"], to: Float[Tensor, "B L"], log_to: Float[Tensor, "B L"]
) -> Float[Tensor, "B"]:
    """KL(N(mean, size²) ‖ N(to, size_to²)), of each example."""
    ratio = (2 * (log_size - log_to)).exp()
    return ((ratio + ((mean - to) * (-log_to).exp()).square() - 1) / 2 - log_size + log_to).sum(1)
