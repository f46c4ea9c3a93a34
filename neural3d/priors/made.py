"""A masked autoencoder: one network whose outputs see only the inputs before them.

Germain, Gregor, Murray, Larochelle: "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015. Inputs have
numbers m⁰(d) from 1 to D, their order; each hidden unit one, m^l(k), from the least of the layer before to D − 1.
    W^l_kj stays where m^l(k) ≥ m^{l−1}(j),   output d ← hidden j where m⁰(d) > m^L(j)                (eqs. 12 and 13)
Of several masks (their connectivity, and of the order too) one is taken at each step, in turn; afterwards probabilities
are averaged over them all, log (1/M) Σ_m p_m(x).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from neural3d.config import Count, Layers, Width
from neural3d.examples.examples import ExampleBatch, Examples
from neural3d.methods.abilities import Likelihood, Sampling
from neural3d.priors.autoregressive import bernoulli, drawn_in_turn
from neural3d.priors.base import Exact, PriorConfig
from neural3d.priors.optimisers import Name


@dataclass(frozen=True)
class MadeConfig(PriorConfig):
    """Settings of `made`."""

    horizon: Count = 20_000
    optimizer: Name = "adamw"
    decay: float = 0.1  # without, it learns its examples by heart
    lr: float = 3e-3
    width: Width = 500  # of the hidden layers
    layers: Layers = 1
    masks: Count = 1  # sets of connections that take turns
    shuffle: bool = False  # each mask with an order of its own, not that of the pixels
    direct: bool = True  # connections from earlier values past the hidden layers too


class Made(Exact, Likelihood, Sampling):
    """See the module's docstring."""

    Config = MadeConfig
    binary = True
    turn: Int[Tensor, ""]  # which mask is next

    def __init__(self, config: MadeConfig, scene: Examples):
        super().__init__(config, scene)
        c = config
        widths = [self.length, *[c.width] * c.layers, self.length]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        self.weights = nn.ParameterList(layer.weight for layer in layers)
        self.biases = nn.ParameterList(layer.bias for layer in layers)
        self.direct = nn.Parameter(torch.zeros(self.length, self.length)) if c.direct else None
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.numbers = [_numbers(self.length, c.width, c.layers, c.shuffle, seed) for seed in range(c.masks)]

    def connected(self, mask: int) -> list[Tensor]:
        """The weights that one mask leaves: of each layer, and those past the hidden layers."""
        numbers = [n.to(self.turn.device) for n in self.numbers[mask]]
        weights = [w * (after[:, None] >= before) for w, before, after in zip(self.weights, numbers, numbers[1:])]
        weights.append(self.weights[-1] * _earlier(numbers[0], numbers[-1]))
        return weights if self.direct is None else [*weights, self.direct * _earlier(numbers[0], numbers[0])]

    def logits(self, x: Float[Tensor, "B D"], weights: list[Tensor]) -> Float[Tensor, "B D"]:
        """Of each value being 1, given those before it in the order of a mask, by what `connected` gave for it."""
        *hidden, last = zip(weights, self.biases)
        h = x
        for weight, bias in hidden:
            h = torch.relu(linear(h, weight, bias))
        logits = linear(h, *last)
        return logits if self.direct is None else logits + linear(x, weights[-1])

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x = batch.x.flatten(1)
        nats = -bernoulli(self.logits(x, self.connected(int(self.turn))), x).sum(1).mean()
        self.turn.copy_((self.turn + 1) % self.config.masks)
        return {"nats": nats}, {"nats": nats.detach()}

    def log_likelihood(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
        x = x.flatten(1)
        each = [bernoulli(self.logits(x, self.connected(mask)), x).sum(1) for mask in range(self.config.masks)]
        return torch.stack(each).logsumexp(0) - math.log(len(each))

    def draw(self, count: int, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "count ..."]:
        """Of equal shares of the masks, in random places."""
        x = torch.zeros(count, self.length, device=self.turn.device)
        mask = torch.randint(self.config.masks, (count,), generator=generator, device=x.device)
        for m in mask.unique().tolist():
            own = (mask == m).nonzero()[:, 0]
            order = self.numbers[m][0].argsort().tolist()
            logits = partial(self.logits, weights=self.connected(m))
            x[own] = drawn_in_turn(logits, x[own], order, generator, temperature)
        return x.view(count, *self.scene.shape)


def _numbers(length: int, width: int, layers: int, shuffle: bool, seed: int) -> list[Int[Tensor, "units"]]:
    """m of the inputs and of each hidden layer, of one mask; the same in every run."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.arange(1, length + 1)
    numbers = [first[torch.randperm(length, generator=generator)] if shuffle else first]
    for _ in range(layers):
        least = min(int(numbers[-1].min()), length - 1)
        numbers.append(torch.randint(least, max(least + 1, length), (width,), generator=generator))
    return numbers


def _earlier(outputs: Int[Tensor, "D"], inputs: Int[Tensor, "K"]) -> Bool[Tensor, "D K"]:
    return outputs[:, None] > inputs
