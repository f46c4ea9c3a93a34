"""Examples: many arrays of one shape, of which a prior learns how likely any such array is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

SPLITS = ("train", "val", "test")
Kind = Literal["images", "numbers"]


@dataclass
class Examples:
    """What lies in a folder of pictures, an .npz or .idx file and the like, as tensors.

    kind: images: uint8 values 0 to 255, as stored; numbers: float32 vectors of any meaning.
    shape: of one example, (channels, height, width) or (length,).
    values: of each split, (count, *shape); None in a run that was opened without its files.
    labels: of each split, (count,) indices into `classes`; None where there are none.
    measures: of each split, (count, attributes), NaN where not known; None where there are none.
    binary: images hold 0 and 1 only, see `binarised`.
    about: what numbers mean, to those who know: see `body.windows.about`, `body.poses.ABOUT`.
    """

    name: str
    path: Path
    kind: str
    shape: list[int]
    counts: dict[str, int]
    classes: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    binary: bool = False
    values: dict[str, Tensor] | None = None
    labels: dict[str, Int[Tensor, "count"]] | None = None
    measures: dict[str, Float[Tensor, "count attributes"]] | None = None
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    method_settings: dict[str, dict] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """How many values one example has."""
        return int(torch.Size(self.shape).numel())

    def binarised(self, seed: int = 0) -> Examples:
        """Images of zeros and ones: each value v becomes 1 with probability v / 255, once and for all.

        As Salakhutdinov & Murray (2008) did with MNIST; another sample than theirs may move likelihoods by some tenths
        of a nat.
        """
        if self.binary or self.values is None:
            return self
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            split: (torch.rand(x.shape, generator=generator) * 255 < x).to(torch.uint8)
            for split, x in self.values.items()
        }
        return replace(self, values=drawn, binary=True)


@dataclass
class ExampleBatch:
    """B training examples as numbers: images from 0 to 1. label: -1 where there are none."""

    x: Float[Tensor, "B ..."]
    label: Int[Tensor, "B"]

    def __len__(self) -> int:
        return len(self.x)


class ExampleSource:
    """Draws the training examples without repetition until all have come, in an order that changes each time."""

    unit = "examples"

    def __init__(self, examples: Examples, device: torch.device):
        assert examples.values is not None
        self.values = examples.values["train"].to(device)
        labels = None if examples.labels is None else examples.labels["train"].to(device)
        self.labels = torch.full((len(self.values),), -1, device=device) if labels is None else labels
        self.scale = as_numbers(examples)
        self.order = torch.empty(0, dtype=torch.int64, device=device)  # those that are still to come

    def draw(self, count: int, generator: torch.Generator) -> ExampleBatch:
        count = min(count, len(self.values))
        if len(self.order) < count:
            self.order = torch.randperm(len(self.values), generator=generator, device=self.values.device)
        chosen, self.order = self.order[:count], self.order[count:]
        return ExampleBatch(self.values[chosen].float() * self.scale, self.labels[chosen])

    def state(self) -> dict[str, Any]:
        return {"order": self.order}

    def load_state(self, state: dict[str, Any]) -> None:
        self.order = state.get("order", self.order)


def as_numbers(examples: Examples) -> float:
    """By what stored values are multiplied before a method sees them."""
    return 1 / 255 if examples.kind == "images" and not examples.binary else 1.0
