"""How limbs lie at rest and how far joints go, for any rig of a two-legged figure.

All in the figure's own frame: x to its left, y up, z forward. A limb's hinge axis is that about which it bends by a
positive angle: knees backwards, elbows forwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.rigs import ARM, LEG, SIDES, Rig
from neural3d.geometry.rotations import (
    axis_angle_from_quaternion,
    conjugate,
    quaternion_between,
    quaternion_from_axis_angle,
    quaternion_from_rotation,
    quaternion_product,
    rotation_from_quaternion,
)
from neural3d.geometry.skeletons import Skeleton

BENT = math.radians(10)  # from where on a limb's own bend says which way it bends

# Degrees: bend (knees, elbows) or forward; sideways; twist. Of legs from hanging straight down, of arms from pointing
# sideways (T), of all others from rest. Wide, as of dancers and gymnasts; of spine and neck all their joints together.
LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "thigh": ((-45, 145), (-80, 80), (-60, 60)),
    "shin": ((-3, 160), (-6, 6), (-30, 30)),
    "foot": ((-65, 45), (-40, 40), (-45, 45)),
    "spine": ((-60, 110), (-60, 60), (-80, 80)),
    "neck": ((-80, 80), (-60, 60), (-90, 90)),
    "collar": ((-40, 40), (-45, 45), (-40, 40)),
    "upper arm": ((-70, 150), (-115, 115), (-120, 120)),
    "forearm": ((-3, 160), (-6, 6), (-110, 110)),
    "hand": ((-90, 90), (-60, 60), (-70, 70)),
}


def heading(skeleton: Skeleton, rig: Rig) -> Float[Tensor, "3 3"]:
    """The figure's own frame, seen from the skeleton's: which way it faces, by its hips."""
    rest = skeleton.rest.double()
    across = rest[rig.legs["left"][0]] - rest[rig.legs["right"][0]]
    across = torch.nn.functional.normalize(across * across.new_tensor([1, 0, 1]), dim=0)
    up = across.new_tensor([0, 1, 0])
    return torch.stack([across, up, torch.linalg.cross(across, up)], 1)


@dataclass(frozen=True)
class Limb:
    """upper, lower: its bones at rest, from joint to joint. hinge: a unit vector, square to the upper one."""

    upper: Float[Tensor, "3"]
    lower: Float[Tensor, "3"]
    hinge: Float[Tensor, "3"]

    def frames(self) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
        """Of both bones: the hinge, what is square to it and the bone, the bone."""
        return bone_frame(self.upper, self.hinge), bone_frame(self.lower, self.hinge)


def bone_frame(bone: Tensor, hinge: Tensor) -> Float[Tensor, "3 3"]:
    bone = torch.nn.functional.normalize(bone, dim=0)
    hinge = torch.nn.functional.normalize(hinge - (hinge * bone).sum() * bone, dim=0)
    return torch.stack([hinge, torch.linalg.cross(bone, hinge), bone], 1)


def neutral(limb: tuple[str, ...], side: str) -> tuple[Tensor, Tensor]:
    """Which way the upper bone points where limits count from, and the hinge there."""
    if limb == LEG:
        return torch.tensor([0.0, -1, 0]).double(), torch.tensor([1.0, 0, 0]).double()
    out = 1.0 if side == "left" else -1.0
    return torch.tensor([out, 0, 0]).double(), torch.tensor([0, -out, 0]).double()


def limb_at_rest(
    rest: Float[Tensor, "J 3"], joints: tuple[int, ...], limb: tuple[str, ...], side: str, seen: Tensor | None = None
) -> Limb:
    """By its bend at rest where it has one, else by how it bends in a motion, else as an arm or a leg does.

    seen: (T, 3) axis-angle vectors of the lower bone against the upper, in the figure's frame.
    """
    upper, lower = rest[joints[1]] - rest[joints[0]], rest[joints[2]] - rest[joints[1]]
    direction, hinge = neutral(limb, side)
    hinge = rotation_from_quaternion(quaternion_between(direction, upper)) @ hinge
    found = None
    if seen is not None and seen.square().sum(-1).mean().sqrt() > BENT:
        found = torch.linalg.eigh(seen.T @ seen).eigenvectors[:, -1]
    elif limb == ARM:
        axis = torch.linalg.cross(*(torch.nn.functional.normalize(bone, dim=0) for bone in (upper, lower)))
        found = axis if axis.norm() > math.sin(BENT) else None
    if found is not None:
        found = torch.nn.functional.normalize(found, dim=0)
        found = found * torch.sign((found * hinge).sum())
        hinge = found if (found * hinge).sum() > 0.5 else hinge
    return Limb(upper, lower, bone_frame(upper, hinge)[:, 0])


@dataclass(frozen=True)
class Range:
    """How far one joint goes, in the figure's frame. straight: what turns its bone at rest to where limits count from.

    frame: at that place: axes of bending, of going sideways, of twist. low, high: radians.
    """

    part: str
    straight: Float[Tensor, "4"]
    frame: Float[Tensor, "3 3"]
    low: Float[Tensor, "3"]
    high: Float[Tensor, "3"]

    def limited(self, relative: Float[Tensor, "T 3 3"]) -> tuple[Float[Tensor, "T 3 3"], Float[Tensor, " T"]]:
        """The rotation within the limits, and by how many radians it had been beyond.

        From `straight` on it is a twist about the bone, then a swing, a rotation vector square to it; each is clamped.
        """
        frame = quaternion_from_rotation(self.frame)
        turn = quaternion_product(quaternion_from_rotation(relative), conjugate(self.straight))
        turn = quaternion_product(quaternion_product(conjugate(frame), turn), frame)
        twist = torch.nn.functional.normalize(turn * turn.new_tensor([1, 0, 0, 1]), dim=-1)
        swing = axis_angle_from_quaternion(quaternion_product(turn, conjugate(twist)))
        angles = swing + axis_angle_from_quaternion(twist)
        clamped = torch.minimum(torch.maximum(angles, self.low), self.high)
        flat = clamped.new_tensor([1, 1, 0])
        turn = quaternion_product(
            quaternion_from_axis_angle(clamped * flat), quaternion_from_axis_angle(clamped * (1 - flat))
        )
        turn = quaternion_product(quaternion_product(frame, turn), conjugate(frame))
        turn = quaternion_product(turn, self.straight)
        return rotation_from_quaternion(turn), (clamped - angles).abs().amax(-1)


def ranges(rest: Float[Tensor, "J 3"], rig: Rig, limbs: dict[tuple[tuple[str, ...], str], Limb]) -> dict[int, Range]:
    """Of each joint that has limits. rest: in the figure's frame."""
    found = {}
    still = torch.tensor([1.0, 0, 0, 0]).double()
    x, y, _ = torch.eye(3).double()

    def add(joint: int, part: str, straight: Tensor, frame: Tensor, share: float = 1.0) -> None:
        low, high = (torch.deg2rad(torch.tensor(side).double()) * share for side in zip(*LIMITS[part], strict=True))
        found[joint] = Range(part, straight, frame, low, high)

    for part, chain in (("spine", rig.spine), ("neck", rig.neck)):
        for joint in chain:  # several share the whole, but not always evenly
            add(joint, part, still, bone_frame(y, x), min(1.0, 2 / len(chain)))
    for limb, chains in ((LEG, rig.legs), (ARM, rig.arms)):
        for side in SIDES:
            own = limbs[limb, side]
            upper, lower, end = chains[side]
            direction, hinge = neutral(limb, side)
            forward = -hinge if limb == LEG else hinge  # thighs go forward against the way in which knees bend
            add(upper, limb[0], quaternion_between(own.upper, direction), bone_frame(direction, forward))
            add(lower, limb[1], quaternion_between(own.lower, own.upper), bone_frame(own.upper, own.hinge))
            add(end, limb[2], still, bone_frame(-y, -x) if limb == LEG else bone_frame(own.lower, own.hinge))
            if limb == ARM and (collar := rig.collars[side]) is not None:
                add(collar, "collar", still, bone_frame(direction, hinge))
    return found
