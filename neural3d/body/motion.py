"""Motions: what a skeleton does over time, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.geometry.skeletons import Skeleton


@dataclass(frozen=True)
class Motion:
    """T frames of a skeleton.

    rotations: unit quaternions wxyz of each joint relative to its parent. places: where the root joint is, metres, +Y
    up. rate: frames per second. loops: the last frame leads into the first.
    """

    name: str
    skeleton: Skeleton
    rotations: Float[Tensor, "T J 4"]
    places: Float[Tensor, "T 3"]
    rate: float
    loops: bool = False

    def __len__(self) -> int:
        return len(self.places)

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (len(self) - 1) / self.rate

    def turned(self) -> Float[Tensor, "T J 3 3"]:
        """The rotation of each joint from rest, in the world."""
        local = rotation_from_quaternion(self.rotations)
        found = [local[:, 0]]
        for joint, parent in enumerate(self.skeleton.parents[1:], 1):
            found.append(found[parent] @ local[:, joint])
        return torch.stack(found, 1)

    def joints(self) -> Float[Tensor, "T J 3"]:
        """Where all joints are, in the world."""
        world, offsets = self.turned(), self.skeleton.offsets
        found = [self.places]
        for joint, parent in enumerate(self.skeleton.parents[1:], 1):
            found.append(found[parent] + world[:, parent] @ offsets[joint])
        return torch.stack(found, 1)

    def part(self, first: int, last: int) -> Motion:
        """Frames first … last − 1."""
        return replace(self, rotations=self.rotations[first:last], places=self.places[first:last])

    def every(self, n: int) -> Motion:
        """Each n-th frame."""
        return replace(self, rotations=self.rotations[::n], places=self.places[::n], rate=self.rate / n)
