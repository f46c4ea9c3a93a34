"""Rotations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_from_axis_angle(vector: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3 3"]:
    """The rotation about `vector`'s direction by its length in radians (Rodrigues' formula). Differentiable at zero.

    R = I + sinc(θ) K + ½ sinc²(θ/2) K², with K = [v]× and sinc x = sin x / x.
    """
    zero = torch.zeros_like(vector[..., 0])
    x, y, z = vector.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    # The root's gradient is infinite at 0; there sinc and its slope do not depend on this tiny offset.
    theta = torch.sqrt((vector**2).sum(-1) + 1e-20)[..., None, None]
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    half = torch.sin(theta / 2) / (theta / 2)
    return eye + torch.sin(theta) / theta * cross + 0.5 * half**2 * (cross @ cross)


def rotation_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation v → q v q* / |q|² of a quaternion wxyz of any length but 0. Differentiable."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, -1).reshape(*quaternion.shape[:-1], 3, 3)


def quaternion_product(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton's product of quaternions wxyz: for unit ones the rotation b followed by a. Differentiable."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quaternion_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion wxyz, w ≥ 0, of a rotation matrix; of a nearly orthonormal one, of the rotation next to it.

    The eigenvector of the largest eigenvalue of a symmetric 4 × 4 matrix (Bar-Itzhack, "New method for extracting the
    quaternion from a rotation matrix", 2000): accurate for every angle, unlike formulas that divide by one component.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    quaternion = torch.linalg.eigh(torch.stack([torch.stack(row, -1) for row in rows], -2)).eigenvectors[..., -1]
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
