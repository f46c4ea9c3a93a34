"""Blend shapes, kinematics and skinning, vertex by vertex and joint by joint in homogeneous coordinates."""

from __future__ import annotations

import torch
from torch import Tensor


def blend_skin(
    template: Tensor,  # (V, 3) or (B, V, 3)
    directions: Tensor,  # (M, V, 3)
    coefficients: Tensor,  # (B, M)
    joints: Tensor,  # (V, K)
    weights: Tensor,  # (V, K)
    transforms: Tensor,  # (B, J, 3, 4)
) -> Tensor:
    """Returns vertices (B, V, 3)."""
    shaped = template + torch.einsum("bm,mvc->bvc", coefficients, directions)
    homogeneous = torch.cat([shaped, torch.ones_like(shaped[..., :1])], -1)
    out = torch.zeros_like(shaped)
    for k in range(joints.shape[1]):
        moved = torch.einsum("bvrc,bvc->bvr", transforms[:, joints[:, k].long()], homogeneous)
        out = out + weights[:, k, None] * moved
    return out


def kinematics(rotations: Tensor, joints: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
    """Returns transforms (B, J, 3, 4) of the rest pose and posed joints (B, J, 3)."""
    bodies = len(joints)
    last_row = joints.new_tensor([0, 0, 0, 1]).expand(bodies, 1, 4)

    def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
        return torch.cat([torch.cat([rotation, translation[..., None]], -1), last_row], -2)

    world: list[Tensor] = []
    for j, parent in enumerate(parents.tolist()):
        if parent < 0:
            world.append(rigid(rotations[:, j], joints[:, j]))
        else:
            world.append(world[parent] @ rigid(rotations[:, j], joints[:, j] - joints[:, parent]))
    eye = torch.eye(3, dtype=joints.dtype, device=joints.device).expand(bodies, 3, 3)
    moved = [a @ torch.linalg.inv(rigid(eye, joints[:, j])) for j, a in enumerate(world)]
    if not world:
        return joints.new_zeros(bodies, 0, 3, 4), torch.zeros_like(joints)
    return torch.stack(moved, 1)[:, :, :3], torch.stack(world, 1)[:, :, :3, 3]


def rotation_exp(vectors: Tensor) -> Tensor:
    """Returns rotations (…, 3, 3): matrix exponentials of [v]×."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3)))
