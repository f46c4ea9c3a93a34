"""Rotations: matrices, axis-angle vectors, unit quaternions wxyz, 6D and Euler angles, and the ways between them.

All but `euler_from_rotation` are differentiable, also where the usual formulas divide by zero: at no turn, at half
turns, between equal quaternions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.ops.lbs import rotation_exp


def rotation_from_axis_angle(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation about `vector`'s direction by its length in radians. Differentiable once, at zero too.

    The kernel `ops.rotation_exp`, by the name that goes with the others here. Raises ValueError as it does.
    """
    return rotation_exp(vector)


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
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    with torch.no_grad():  # eigh's own derivative divides by the other three eigenvalues' differences, which are 0
        found = torch.linalg.eigh(matrix).eigenvectors[..., -1:]
        found = torch.where(found[..., :1, :] < 0, -found, found)
    # Of a rotation the matrix is 4 q qᵀ − I: this leaves q as it is and has its derivative, (I − q qᵀ) dM q / 4.
    moved = (matrix @ found + found)[..., 0]
    return torch.nn.functional.normalize(moved, dim=-1)


def dual_quaternion_from_rigid(transform: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 2 4"]:
    """The unit dual quaternion q + ε d of a rotation and a translation t behind it, both wxyz: d = ½ (0, t) q.

    Differentiable. Its negative is the same transform.
    """
    q = quaternion_from_rotation(transform[..., :3])
    t = torch.nn.functional.pad(transform[..., 3], (1, 0))
    return torch.stack([q, quaternion_product(t, q) / 2], -2)


def quaternion_from_axis_angle(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion wxyz of the rotation about `vector`'s direction by its length in radians. Differentiable."""
    # The root's gradient is infinite at 0, where the sine's quotient and its slope do not depend on this tiny offset.
    half = torch.sqrt((vector**2).sum(-1, keepdim=True) + 1e-20) / 2
    return torch.cat([torch.cos(half), 0.5 * torch.sin(half) / half * vector], -1)


def axis_angle_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """The logarithm: the shortest turn, at most π, of a quaternion wxyz of any length but 0. Differentiable.

    v = 2 atan2(|q_xyz|, w) q_xyz / |q_xyz|. At π either direction is right, and the derivative is of the one taken.
    """
    quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
    w, xyz = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion).split([1, 3], -1)
    sine = torch.sqrt((xyz**2).sum(-1, keepdim=True) + 1e-20)  # the offset: as above
    return 2 * torch.atan2(sine, w) / sine * xyz


def axis_angle_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The logarithm of a rotation matrix: the inverse of `rotation_from_axis_angle` for turns up to π."""
    return axis_angle_from_quaternion(quaternion_from_rotation(rotation))


def conjugate(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The inverse of a unit quaternion."""
    return quaternion * quaternion.new_tensor([1, -1, -1, -1])


def quaternion_between(a: Float[Tensor, "*#batch 3"], b: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 4"]:
    """The least rotation, as a unit quaternion, from the direction of a to that of b; a half turn of opposite ones."""
    a, b = torch.broadcast_tensors(torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1))
    least = torch.zeros_like(a).scatter(-1, a.abs().argmin(-1, keepdim=True), 1.0)  # an axis far from a
    half = torch.cat([1 + (a * b).sum(-1, keepdim=True), torch.linalg.cross(a, b)], -1)
    opposite = torch.cat([torch.zeros_like(a[..., :1]), torch.linalg.cross(a, least)], -1)
    return torch.nn.functional.normalize(torch.where(half.norm(dim=-1, keepdim=True) < 1e-6, opposite, half), dim=-1)


def slerp(
    a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"], share: Float[Tensor, "*#batch 1"] | float
) -> Float[Tensor, "*batch 4"]:
    """From a (share 0) to b (share 1) at constant speed, the shorter way: a exp(share log(a* b)) of unit quaternions.

    Ends at −b where that is nearer; b and −b are one rotation. Differentiable, also where a = ±b.
    """
    turn = axis_angle_from_quaternion(quaternion_product(conjugate(a), b))
    return quaternion_product(a, quaternion_from_axis_angle(share * turn))


def rotation_from_6d(columns: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation whose first two columns are the nearest, by Gram and Schmidt, to two vectors of three numbers each.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019: without jumps, and so easy to
    learn. Where the first vector is 0 it counts as x, where the second is parallel to it, as the axis (y, else z) that
    is not: a rotation too, whose derivative to what was replaced is 0.
    """
    first, second = columns.unflatten(-1, (2, 3)).unbind(-2)
    x, y, z = torch.eye(3, dtype=columns.dtype, device=columns.device)
    tiny = 1e-4 if columns.dtype == torch.float32 else 1e-8  # of a length that still has half of its digits
    first = torch.where(first.norm(dim=-1, keepdim=True) < torch.finfo(columns.dtype).tiny ** 0.5, x, first)
    first = torch.nn.functional.normalize(first, dim=-1, eps=0)
    parallel = torch.linalg.cross(first, second).norm(dim=-1, keepdim=True) <= tiny * second.norm(dim=-1, keepdim=True)
    second = torch.where(parallel, torch.where(first[..., 1:2].abs() < 0.9, y, z), second)
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1, eps=0)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def six_d_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """Its first two columns, one after the other."""
    return rotation[..., :2].mT.flatten(-2)


def quaternion_from_euler(angles: Float[Tensor, "*batch n"], order: str) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion wxyz of turns about x, y or z, as `order` names them, each axis turned by those before it.

    "ZXY" is R_z(α₀) R_x(α₁) R_y(α₂), as BVH's channels are read. Any count, also none. Radians.
    """
    found = angles.new_tensor([1.0, 0, 0, 0]).expand(*angles.shape[:-1], 4)
    for angle, axis in zip(angles.unbind(-1), order, strict=True):
        turn = [torch.cos(angle / 2), *[torch.zeros_like(angle)] * 3]
        turn[1 + "XYZ".index(axis)] = torch.sin(angle / 2)
        found = quaternion_product(found, torch.stack(turn, -1))
    return found


def euler_from_rotation(rotation: Float[Tensor, "*batch 3 3"], order: str) -> Float[Tensor, "*batch 3"]:
    """Three angles of different axes, such as "ZXY": see `quaternion_from_euler`. The middle one is within ±π/2.

    Exact at the gimbal lock too, where only the sum or the difference of the outer angles is known: what the first
    leaves is read from the rotation that remains. Not differentiable there.
    """
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0  # of a right-handed order
    first = torch.atan2(-sign * rotation[..., j, k], rotation[..., k, k])
    middle = torch.atan2(sign * rotation[..., i, k], torch.hypot(rotation[..., i, i], rotation[..., i, j]))
    sine, cosine = torch.sin(first), torch.cos(first)
    row = cosine[..., None] * rotation[..., j, :] + sign * sine[..., None] * rotation[..., k, :]  # R_i(−first) R, row j
    return torch.stack([first, middle, torch.atan2(sign * row[..., i], row[..., j])], -1)
