"""What the trainer asks of a method, whatever it learns."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from neural3d.methods.players import Player
from neural3d.processes import ALONE, Processes
from neural3d.scene import Scene

if TYPE_CHECKING:
    from neural3d.data.rays import Source


class Method(nn.Module, abc.ABC):
    """A way to represent and optimise one scene, one shape, or what many have in common.

    Built from its configuration and the scene's description (cameras, bounds; no photo is read), so that a finished run
    renders without its photos. Everything that changes during training is a parameter, a buffer or in `extra_state`.
    What it is good for afterwards, it says by the protocols of `methods.abilities`.
    """

    Config: ClassVar[type]  # a frozen dataclass; has at least `horizon`, the step at which schedules end
    takes: ClassVar[type] = Scene  # what it is fitted to: Scene, Shape or ShapeSet
    together: ClassVar[Literal["", "divided", "whole"]] = ""  # several processes: parts of one batch, or one each
    counted: ClassVar[tuple[str, ...]] = ()  # buffers of sums that each process has its own part of
    processes: Processes = ALONE
    renamed: ClassVar[dict[str, str]] = {}  # how names in older runs begin, of settings and of the state: and today's

    def __init__(self, config: Any, scene: Any):
        super().__init__()
        self.config = config
        self.scene = scene

    @classmethod
    def prepared(cls, scene: Any, config: Any) -> Any:
        """The scene as this method wants to see it, such as without lens distortion. As it is by default."""
        return scene

    def source(self, scene: Any, device: torch.device) -> Source:
        """Where training batches come from. Single pixels of all training photos by default."""
        from neural3d.data.rays import ImageSource

        return ImageSource(scene, device)

    @property
    @abc.abstractmethod
    def batch_size(self) -> int:
        """How many rays or points the next loss wants, of a source that counts in these."""

    @abc.abstractmethod
    def players(self) -> list[Player]:
        """Who trains, in the order of their turns; asked once, when training starts or goes on."""

    def begin(self) -> None:
        """Runs once, when a run is created and not when it is opened or goes on: takes over another run's state."""

    def after_step(self, step: int, progress: float, generator: torch.Generator, players: Sequence[Player]) -> None:
        """Runs after each round of the players: occupancy refresh, densification, averages. Nothing by default.

        A method whose parameters change in size tells their player's optimizer by `Adam.replace`.
        """

    def extra_state(self) -> dict[str, Any]:
        """Plain values beyond parameters and buffers that exact resume needs."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `extra_state` gave."""

    @classmethod
    def most_memory(cls, config: Any) -> int:
        """Bytes that training takes at most beside the photos, as far as the settings alone tell; 0: not much."""
        return 0

    def memory_estimate(self) -> list[str]:
        """Sentences to show before training starts, such as the memory it may take."""
        return []
