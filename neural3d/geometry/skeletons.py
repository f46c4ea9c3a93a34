"""Skeletons: trees of joints, and how their rotations place them.

Rest frames of all joints are parallel to the world's (SMPL's convention): a joint's rotation turns what hangs on it
about its place at rest, seen from its parent's frame. Formats whose bones have axes of their own are turned into this
where they are read. Quaternions are wxyz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Skeleton:
    """names: of J joints. parents: the index of each one's parent, before its own; −1 of the root, which is the first.
    rest: where they are at rest, metres, +Y up, facing +Z.

    Raises ValueError where joints are not such a tree.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest: Float[Tensor, "J 3"]

    def __post_init__(self) -> None:
        check_tree(self.parents)
        if not len(self.names) == len(self.parents) == len(self.rest):
            raise ValueError(f"{len(self.names)} names, {len(self.parents)} parents, {len(self.rest)} places of joints")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def offsets(self) -> Float[Tensor, "J 3"]:
        """From each joint's parent at rest, the root's from the origin."""
        return self.rest - torch.cat([torch.zeros_like(self.rest[:1]), self.rest[list(self.parents[1:])]])


def check_tree(parents: Sequence[int]) -> None:
    """Raises ValueError unless the first joint alone has no parent (−1) and all others' come before them."""
    wrong = [i for i, parent in enumerate(parents) if not (parent == -1 if i == 0 else 0 <= parent < i)]
    if wrong or not len(parents):
        raise ValueError(f"parents must be a tree with its root first and parents before children; wrong at {wrong}")
