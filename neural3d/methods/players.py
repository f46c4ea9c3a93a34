"""Who trains: parameters and the loss that they lower; how several take turns, and what checkpoints keep of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.ops.adam import Adam

# loss(batch, progress, generator) → (terms that the trainer sums and differentiates, metrics to report).
# batch: what the method's `source` draws. progress: 0 at the first step, 1 at the horizon and after.
# Functions among the metrics are called only when a report is due.
Loss = Callable[[Any, float, torch.Generator], tuple[dict[str, Tensor], dict[str, Any]]]


class Player:
    """Parameters, and the loss that they lower. Most methods have one; an adversarial one has two that disagree.

    groups: for `neural3d.ops.adam.Adam`: `params`, `lr` at the start, `lr_final` at the horizon, maybe `warmup`.
    name: of its moments in checkpoints; may be left out by the one who plays alone.
    updates: steps in each round, each on a batch of its own.
    optimizer: made of the groups; another than Adam where a method lets its user choose.
    clip: norm that the gradient of all parameters is scaled down to; 0: it stays.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        loss: Loss,
        name: str = "",
        updates: int = 1,
        optimizer: Callable[[list[dict[str, Any]]], Any] = Adam,
        clip: float = 0.0,
    ):
        self.loss, self.name, self.updates, self.clip = loss, name, updates, clip
        self.optimizer = optimizer(groups)

    def parameters(self) -> Iterator[Tensor]:
        return (p for group in self.optimizer.param_groups for p in group["params"])


def only(player: Player, players: Sequence[Player]) -> None:
    """Gradients, from zero, for the parameters of one player alone; of the others, those of the last turn stay."""
    for other in players:
        for p in other.parameters():
            p.requires_grad_(False)
    for p in player.parameters():
        p.requires_grad_()
    player.optimizer.zero_grad(set_to_none=False)


def moments(players: Sequence[Player]) -> dict[str, Any]:
    """Of each player by its name; those of one without a name are not below any, as when there was only one."""
    if not players[0].name:
        return players[0].optimizer.moments()
    return {player.name: player.optimizer.moments() for player in players}


def load_moments(players: Sequence[Player], state: dict[str, Any], directory: Path) -> None:
    """Takes back what `moments` gave. Raises UserError where they are another game's."""
    by_name = state if players[0].name else {"": state}
    if strangers := by_name.keys() - {player.name for player in players}:
        raise UserError(
            f"{directory}: the checkpoint and config.json are not of one run (it keeps moments of "
            f"{', '.join(sorted(strangers))}); copy both again."
        )
    for player in players:
        player.optimizer.load_moments(by_name.get(player.name, {}))


def require_names(players: Sequence[Player]) -> None:
    """Raises ValueError where moments could not be told apart: a mistake in the method, not of its user."""
    names = [player.name for player in players]
    if len(set(names)) < len(names) or (len(names) > 1 and "" in names) or any("/" in name for name in names):
        raise ValueError(f"players need names of their own, without '/': {names}")
