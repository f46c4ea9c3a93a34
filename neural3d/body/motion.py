"""Motions: what a skeleton does over time, whatever file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.geometry.rotations import quaternion_from_rotation, rotation_from_quaternion
from neural3d.geometry.skeletons import Skeleton


@dataclass(frozen=True)
class Motion:
    """T frames of a skeleton.

    rotations: unit quaternions wxyz of each joint relative to its parent. places: where the root joint is, metres, +Y
    up. rate: frames per second. loops: the last frame leads into the first. notes: what was guessed or left out when it
    was read, in sentences.
    """

    name: str
    skeleton: Skeleton
    rotations: Float[Tensor, "T J 4"]
    places: Float[Tensor, "T 3"]
    rate: float
    loops: bool = False
    notes: tuple[str, ...] = ()

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


def relative(parents: Sequence[int], turned: Float[Tensor, "T J 3 3"]) -> Float[Tensor, "T J 4"]:
    """Rotations of joints relative to their parents, as quaternions, of those in the world: undoes `Motion.turned`."""
    above = torch.stack([turned[:, parent] for parent in parents[1:]], 1) if len(parents) > 1 else turned[:, :0]
    return quaternion_from_rotation(torch.cat([turned[:, :1], above.mT @ turned[:, 1:]], 1))
