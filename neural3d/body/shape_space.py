"""From named values to coefficients of shapes.

SMPL's are the coefficients themselves. Anny's (Brégier et al., "Human Mesh Modeling for Anny Body", 2025) interpolate
between shapes that were modelled for combinations of kinds, such as female, old, muscular: each value lies between two
kinds of its own, with shares that add up to 1, and a combination's coefficient is the product of its kinds' shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.config import nearest
from neural3d.errors import UserError


@dataclass(frozen=True)
class Axis:
    """A named value between `anchors`, in ascending order, one for each kind. default: what it is unless said."""

    name: str
    kinds: tuple[str, ...]
    anchors: tuple[float, ...]
    default: float = 0.5

    def shares(self, value: Float[Tensor, "B"]) -> Float[Tensor, "B kinds"]:
        """Of each kind: linear between neighbouring anchors; beyond the ends what is there."""
        anchors = value.new_tensor(self.anchors)
        value = torch.where(value < anchors[0], anchors[0], torch.where(value > anchors[-1], anchors[-1], value))
        above = torch.searchsorted(anchors, value.detach().contiguous()).clamp(1, len(anchors) - 1)
        low, high = anchors[above - 1], anchors[above]
        share = ((value - low) / (high - low))[:, None]
        kind = torch.arange(len(anchors), device=value.device)
        return (kind == above[:, None]) * share + (kind == above[:, None] - 1) * (1 - share)


@dataclass(frozen=True)
class ShapeSpace:
    """names of S coefficients that stand for themselves, or axes, mixtures and which kinds each coefficient multiplies.

    mixtures: names of values of which only the proportions matter, such as where ancestors come from.
    uses: of each coefficient, 1 at the kinds (of axes, then mixtures) whose shares it multiplies.
    """

    names: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    mixtures: tuple[str, ...] = ()
    uses: Float[Tensor, "S kinds"] | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """All that may be named."""
        return (*self.names, *(axis.name for axis in self.axes), *self.mixtures)

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None) -> ShapeSpace:
        return self if self.uses is None else replace(self, uses=self.uses.to(device, dtype))

    def neighbours(self, values: dict[str, float]) -> list[dict[str, float]]:
        """These values, and all that differ from them in one, which goes to an end of its range."""
        near = [values]
        for axis in self.axes:
            near += [{**values, axis.name: end} for end in (axis.anchors[0], axis.anchors[-1])]
        alone = dict.fromkeys(self.mixtures, 0.0)
        return near + [{**values, **alone, name: 1.0} for name in self.mixtures]

    def check(self, values: dict[str, float]) -> None:
        """Raises UserError for a name that is not known, or a value outside of its range."""
        for name, value in values.items():
            if name not in self.parameters:
                raise nearest(name, self.parameters, "shape value")
            ends = next(((a.anchors[0], a.anchors[-1]) for a in self.axes if a.name == name), None)
            ends = (0.0, math.inf) if name in self.mixtures else ends
            if not (math.isfinite(value) and (ends is None or ends[0] <= value <= ends[1])):
                allowed = "a number" if ends is None else f"between {ends[0]:.3g} and {ends[1]:.3g}"
                raise UserError(f"shape {name}={value:g}: must be {allowed}.")

    def __call__(self, **named: float | Tensor) -> Float[Tensor, "B S"]:
        """Coefficients. Values are numbers or (B,). Raises UserError for a name that is not known."""
        for name in named:
            if name not in self.parameters:
                raise nearest(name, self.parameters, "shape value")
        like = torch.zeros(()) if self.uses is None else self.uses
        values = {name: torch.as_tensor(v, dtype=like.dtype, device=like.device) for name, v in named.items()}
        batch = max([v.numel() for v in values.values() if v.ndim], default=1)

        def value(name: str, default: float) -> Float[Tensor, "B"]:
            return values.get(name, like.new_tensor(default)).expand(batch)

        if self.uses is None:
            return torch.stack([value(name, 0.0) for name in self.names], 1)
        shares = [axis.shares(value(axis.name, axis.default)) for axis in self.axes]
        if self.mixtures:
            parts = torch.stack([value(name, 0.5) for name in self.mixtures], 1)
            total = parts.sum(1, keepdim=True)
            even = torch.full_like(parts, 1 / len(self.mixtures))
            shares.append(torch.where(total > 0, parts / torch.where(total > 0, total, 1), even))
        found = torch.cat(shares, 1)[:, None]
        return torch.where(self.uses > 0, found, 1).prod(-1)
