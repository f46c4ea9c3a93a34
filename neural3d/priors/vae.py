"""`vae`: see neural3d/priors/variational.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neural3d.examples.examples import ExampleBatch
from neural3d.priors.variational import Variational, VariationalConfig


@dataclass(frozen=True)
class VaeConfig(VariationalConfig):
    """Settings of `vae`."""


class Vae(Variational):
    """Learns by the ELBO itself."""

    Config = VaeConfig

    def loss(
        self, batch: ExampleBatch, progress: float, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        misfit, divergence = (term.mean() for term in self.terms(batch.x, generator))
        return {"misfit": misfit, "divergence": divergence}, {"nats": (misfit + divergence).detach()}
