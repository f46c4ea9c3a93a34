"""`beta-vae`: a variational autoencoder that trades likelihood for codes whose numbers mean one thing each.

Higgins et al.: "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR 2017:
    maximise E_q[log p(x|z)]  subject to  KL(q(z|x) ‖ p(z)) < δ                     (eq. 2)
whose Lagrangian with a fixed multiplier β is E_q[log p(x|z)] − β KL                (eq. 4).
With `limit` = δ the multiplier is found instead: β ← max(0, β + η (KL − δ)) after each step (dual ascent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.examples.examples import ExampleBatch, Examples
from neural3d.methods.players import Player
from neural3d.priors.variational import Variational, VariationalConfig


@dataclass(frozen=True)
class BetaVaeConfig(VariationalConfig):
    """Settings of `beta-vae`."""

    beta: float = 4.0  # β; where a limit is set, at the start
    limit: float = 0.0  # δ in nats, which KL shall not exceed; 0: β stays
    beta_rate: float = 0.003  # η


class BetaVae(Variational):
    """See the module's docstring."""

    Config = BetaVaeConfig
    beta: Float[Tensor, ""]
    divergence_now: Float[Tensor, ""]  # KL of the last batch

    def __init__(self, config: BetaVaeConfig, scene: Examples):
        super().__init__(config, scene)
        self.register_buffer("beta", torch.tensor(config.beta))
        self.register_buffer("divergence_now", torch.tensor(config.limit))

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        misfit, divergence = (term.mean() for term in self.terms(batch.x, generator))
        self.divergence_now.copy_(divergence.detach())
        metrics = {"nats": (misfit + divergence).detach(), "divergence": divergence.detach(), "beta": self.beta.clone()}
        return {"misfit": misfit, "divergence": self.beta * divergence}, metrics

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        if self.config.limit > 0:
            c = self.config
            self.beta.add_(c.beta_rate * (self.divergence_now - c.limit)).clamp_(min=0)
