"""Motions as numbers: what is free in a motion, and what of it a prior looks at, wherever it happens.

A track is what may be changed: of each frame the rotation vectors of all joints relative to their parents, in radians,
then where the root is, in metres. Features are what is left of it when it no longer matters where a motion happens and
which way it faces: with the root's rotation R and place p, at `RATE` frames a second, of each frame but the first

    ω = log(R₋ᵀ R) RATE,   v = R₋ᵀ (p − p₋) RATE,   u = Rᵀ e_y,   p_y,   the rotation vectors of all other joints

seen from the root itself, so that no pose, upside down for one, is a special one (R₋, p₋: of the frame before).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.clips.reader import resampled as between_frames
from neural3d.body.motion import Motion
from neural3d.geometry.rotations import (
    axis_angle_from_quaternion,
    conjugate,
    quaternion_from_axis_angle,
    quaternion_product,
    rotation_from_quaternion,
)

RATE = 25.0  # frames per second
MOVES = 10  # numbers of a frame's features that are not of its joints: ω, v, u, p_y


def resampled(motion: Motion, rate: float) -> Motion:
    """At another rate."""
    times = torch.arange(len(motion), dtype=torch.float64) / motion.rate
    rotations, places = between_frames(times, rate, motion.rotations, motion.places)
    return replace(motion, rotations=rotations, places=places, rate=rate)


def track_of(motion: Motion) -> Float[Tensor, "T 3J+3"]:
    vectors = continuous(axis_angle_from_quaternion(motion.rotations))
    return torch.cat([vectors.flatten(1), motion.places], 1)


def motion_of(track: Float[Tensor, "T 3J+3"], like: Motion) -> Motion:
    """The motion of a track, of the rate, name and skeleton of another."""
    rotations = quaternion_from_axis_angle(track[:, :-3].unflatten(1, (-1, 3)))
    return replace(like, rotations=rotations, places=track[:, -3:], loops=False)


def features_of(track: Float[Tensor, "*batch T 3J+3"]) -> Float[Tensor, "*batch T-1 3J+7"]:
    """See the module's docstring. Differentiable."""
    root, place = quaternion_from_axis_angle(track[..., :3]), track[..., -3:]
    back = conjugate(root[..., :-1, :])
    turning = axis_angle_from_quaternion(quaternion_product(back, root[..., 1:, :]))
    moved = (rotation_from_quaternion(back) @ (place[..., 1:, :] - place[..., :-1, :])[..., None])[..., 0]
    up = rotation_from_quaternion(root[..., 1:, :])[..., 1, :]
    height = place[..., 1:, 1:2]
    return torch.cat([RATE * turning, RATE * moved, up, height, track[..., 1:, 3:-3]], -1)


def followed(start: Float[Tensor, "*batch 3J+3"], features: Float[Tensor, "*batch N 3J+7"]) -> Tensor:
    """The track (*batch, N, 3J+3) that has these features, after a frame. u and p_y follow from ω and v."""
    root, place, found = quaternion_from_axis_angle(start[..., :3]), start[..., -3:], []
    vector = start[..., :3]
    for f in features.unbind(-2):
        place = place + (rotation_from_quaternion(root) @ f[..., 3:6, None])[..., 0] / RATE
        root = quaternion_product(root, quaternion_from_axis_angle(f[..., :3] / RATE))
        vector = nearest_turn(axis_angle_from_quaternion(root), vector)
        found.append(torch.cat([vector, f[..., MOVES:], place], -1))
    return torch.stack(found, -2)


def continuous(vectors: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    """The same rotations without jumps."""
    found = [vectors[0]]
    for v in vectors[1:]:
        found.append(nearest_turn(v, found[-1]))
    return torch.stack(found)


def nearest_turn(v: Float[Tensor, "*batch 3"], last: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Of (‖v‖ + 2πk) v/‖v‖, which turn alike, the nearest to the frame before."""
    size = v.norm(dim=-1, keepdim=True)
    axis = torch.where(size > 1e-4, v, last)
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    turns = (((last * axis).sum(-1, keepdim=True) - size) / (2 * torch.pi)).round()
    return torch.where(turns == 0, v, (size + 2 * torch.pi * turns) * axis)
