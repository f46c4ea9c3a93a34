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
    transforms: Tensor,  # (B, J, 3, 4) or (B, J, 2, 4)
) -> Tensor:
    """Returns vertices (B, V, 3)."""
    shaped = template + torch.einsum("bm,mvc->bvc", coefficients, directions)
    if transforms.shape[2] == 2:
        return by_dual_quaternions(shaped, joints, weights, transforms)
    homogeneous = torch.cat([shaped, torch.ones_like(shaped[..., :1])], -1)
    out = torch.zeros_like(shaped)
    for k in range(joints.shape[1]):
        moved = torch.einsum("bvrc,bvc->bvr", transforms[:, joints[:, k].long()], homogeneous)
        out = out + weights[:, k, None] * moved
    return out


def by_dual_quaternions(points: Tensor, joints: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    """Returns vertices (B, V, 3): the sum of dual quaternions, made one of unit length, times the point and back."""
    chosen = transforms[:, joints.long()]  # (B, V, K, 2, 4)
    turns = chosen[..., 0, :]
    signs = torch.where((turns * turns[:, :, :1]).sum(-1) < 0, -1.0, 1.0).to(weights)
    q, d = torch.einsum("vk,bvk,bvkij->ibvj", weights, signs, chosen)
    length = q.norm(dim=-1, keepdim=True)
    q, d = q / length, d / length
    real = torch.zeros_like(points[..., :1])
    turned = hamilton(hamilton(q, torch.cat([real, points], -1)), conjugated(q))
    return (turned + 2 * hamilton(d, conjugated(q)))[..., 1:]


def hamilton(a: Tensor, b: Tensor) -> Tensor:
    """The product of quaternions wxyz."""
    w, v, x, u = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    return torch.cat([w * x - (v * u).sum(-1, keepdim=True), w * u + x * v + torch.linalg.cross(v, u)], -1)


def conjugated(a: Tensor) -> Tensor:
    return a * a.new_tensor([1, -1, -1, -1])


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
