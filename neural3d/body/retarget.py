"""A motion of one skeleton on another: by names of joints and poses at rest; feet stand and joints hold.

1. Both figures are seen in frames of their own (left, up, forward). Each bone of the target takes the direction that
   the source's has, and bends about its own hinge where the source bends about its: a rest with arms down, in an A
   or in a T makes no difference, and twist is kept. Spines and necks of unlike counts share their bend.
2. Hips move as the source's, in the proportion of leg lengths; the ground is where the source's feet are, when slow.
   Where hands, knees or a head would be in it, they are lifted: limbs are not all of the source's proportions.
3. Joints are held within `anatomy.LIMITS`.
4. Where the source's feet are planted, the target's stand still: hips are lowered where legs are too short, and legs
   bent so that they reach.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.body import feet
from neural3d.body.anatomy import Limb, Range, heading, limb_at_rest, ranges
from neural3d.body.motion import Motion, relative
from neural3d.body.rigs import ARM, LEG, SIDES, Rig, find_rig
from neural3d.errors import UserError
from neural3d.geometry.rotations import (
    axis_angle_from_rotation,
    quaternion_between,
    quaternion_from_rotation,
    rotation_from_axis_angle,
    rotation_from_quaternion,
    slerp,
)
from neural3d.geometry.skeletons import Skeleton

STEPS = 4  # of setting feet down: each knows better how far hips and ankles go
SOLE = 0.01  # of a figure's height: soles below its lowest joint, where nothing says how far
TILTED = torch.pi / 4  # a foot whose planted poses are further from the flat one is none that stands


@dataclass(frozen=True)
class Report:
    """planted: ankle and ball of each side. before, after: the most that planted points slide, metres per frame.

    beyond: of each part of the body the share of frames in which it was brought back, and by how many degrees at most.
    """

    planted: Bool[Tensor, "T sides 2"]
    before: float
    after: float
    beyond: dict[str, tuple[float, float]]

    def note(self) -> str:
        share = self.planted.flatten(1).any(1).double().mean()
        held = ", ".join(f"{part} ({100 * s:.0f} % of frames)" for part, (s, _) in self.beyond.items()) or "none"
        return (
            f"Feet are planted in {100 * share:.0f} % of frames, where they slid up to {100 * self.before:.1f} cm a "
            f"frame, now {100 * self.after:.2f}; joints brought back within their limits: {held}."
        )


def retarget(motion: Motion, skeleton: Skeleton, ground: float | None = None) -> Motion:
    """The motion on another skeleton, standing on y = 0. What was done is said in its last note.

    ground: y of the soles of the skeleton at rest; guessed from its lowest joint where not said.
    Raises UserError where either is no upright figure with two legs and two arms, by its names and its rest.
    """
    return retargeted(motion, skeleton, ground)[0]


def retargeted(motion: Motion, skeleton: Skeleton, ground: float | None = None) -> tuple[Motion, Report]:
    """`retarget`, and what was done."""
    if not len(motion):
        raise UserError(f"{motion.name} has no frames; export the clip again with its animation.")
    source = Source(motion)
    target = Target(skeleton, ground)
    scale = target.leg / source.leg
    wanted = target.wanted(source)
    world, beyond = target.posed(wanted, source)

    # Where the source's feet would be, were they the target's: what is planted, and how high the ground is.
    rate = motion.rate
    flat = {side: target.level(source, side, scale) for side in SIDES}
    foot = {side: source.world[:, source.rig.legs[side][2]] @ flat[side] for side in SIDES}
    ankles = torch.stack([scale * source.places[:, source.rig.legs[side][2]] for side in SIDES], 1)
    balls = torch.stack([(foot[side] @ target.balls[side][:, None])[..., 0] for side in SIDES], 1)
    points = torch.stack([ankles, ankles + balls], 2)  # (T, sides, ankle and ball, 3)
    heights = points[..., 1] - target.heights
    level = feet.ground_of(heights.flatten(1), feet.speeds(points, rate).flatten(1))
    stands = feet.planted(points, heights - level, rate)
    for side in SIDES:
        wanted[target.rig.legs[side][2]] = foot[side]
    world, beyond = target.posed(wanted, source)

    hips = scale * source.hips - points.new_tensor([0, level, 0])
    hips[:, 1] += target.lifted(world, hips, rate)
    places = target.places(world, hips)
    paths = torch.stack([target.points(world, places, side) for side in SIDES], 1)
    before = feet.slides(paths.flatten(1, 2), stands.flatten(1))

    def settle(paths: Tensor, rigid: bool) -> Float[Tensor, "T sides 2 3"]:
        both = (feet.settled(paths[:, k], stands[:, k], target.heights, rate, rigid) for k in range(2))
        return torch.stack(list(both), 1)

    # First which way each foot points; then where it is, pointing so as far as its ankle lets it.
    bones = paths[:, :, 1] - paths[:, :, 0]
    ahead = settle(paths, rigid=False)
    for k, side in enumerate(SIDES):
        turn = quaternion_between(bones[:, k], ahead[:, k, 1] - ahead[:, k, 0])
        wanted[target.rig.legs[side][2]] = rotation_from_quaternion(turn) @ world[:, target.rig.legs[side][2]]
    goals, still = ahead[:, :, 0], paths[:, :, 0]
    for _ in range(STEPS):
        world, places, again = target.stood(wanted, source, hips, goals, rate)
        paths = torch.stack([target.points(world, places, side) for side in SIDES], 1)
        hips = hips + feet.eased((goals - paths[:, :, 0]).sum(1), rate)  # for legs at their limits
        goals = settle(torch.stack([still, still + paths[:, :, 1] - paths[:, :, 0]], 2), rigid=True)[:, :, 0]
    after = feet.slides(paths.flatten(1, 2), stands.flatten(1))

    for part, (share, angle) in again.items():
        was = beyond.get(part, (0.0, 0.0))
        beyond[part] = (max(share, was[0]), max(angle, was[1]))
    report = Report(
        stands, float(before.max()) if len(before) else 0.0, float(after.max()) if len(after) else 0.0, beyond
    )
    kind = skeleton.rest.dtype
    own = world @ target.heading.T
    rotations = relative(skeleton.parents, own).to(kind)
    notes = (*motion.notes, report.note())
    moved = dataclasses.replace(
        motion, skeleton=skeleton, rotations=rotations, places=places[:, 0].to(kind), notes=notes
    )
    return moved, report


class Figure:
    """A skeleton in its own frame: rest, and where a figure's parts are."""

    def __init__(self, skeleton: Skeleton, whose: str):
        self.skeleton = skeleton
        self.rig: Rig = find_rig(skeleton, whose)
        self.heading = heading(skeleton, self.rig)
        self.rest = skeleton.rest.double() @ self.heading
        bones = [(a, b) for side in SIDES for a, b in zip(self.rig.legs[side], self.rig.legs[side][1:], strict=False)]
        self.leg = float(sum((self.rest[b] - self.rest[a]).norm() for a, b in bones)) / 2
        if self.leg <= 0:
            raise UserError(f"{whose}: its legs have no length; export it again with its skeleton at rest.")


class Source(Figure):
    """world: rotations from rest, in the figure's frame, to the world. hips: between the thighs' joints."""

    def __init__(self, motion: Motion):
        super().__init__(motion.skeleton, motion.name)
        motion = dataclasses.replace(
            motion,
            skeleton=dataclasses.replace(motion.skeleton, rest=motion.skeleton.rest.double()),
            rotations=motion.rotations.double(),
            places=motion.places.double(),
        )
        self.motion = motion
        self.world = motion.turned() @ self.heading
        self.places = motion.joints()
        self.hips = sum(self.places[:, self.rig.legs[side][0]] for side in SIDES) / 2
        self.limbs: dict[tuple[tuple[str, ...], str], Limb] = {}
        for limb, chains in ((LEG, self.rig.legs), (ARM, self.rig.arms)):
            for side in SIDES:
                upper, lower, _ = chains[side]
                seen = axis_angle_from_rotation(self.world[:, upper].mT @ self.world[:, lower])
                self.limbs[limb, side] = limb_at_rest(self.rest, chains[side], limb, side, seen)


class Target(Figure):
    """balls: from ankle to ball at rest. heights: of ankle and ball above the ground at rest.
    thick: flesh about a joint, at least.
    """

    def __init__(self, skeleton: Skeleton, ground: float | None):
        super().__init__(skeleton, "the skeleton")
        rest, rig = self.rest, self.rig
        self.thick = SOLE * float(rest[:, 1].max() - rest[:, 1].min())
        if ground is None:
            ground = float(rest[:, 1].min()) - self.thick
        self.limbs: dict[tuple[tuple[str, ...], str], Limb] = {
            (limb, side): limb_at_rest(rest, chains[side], limb, side)
            for limb, chains in ((LEG, rig.legs), (ARM, rig.arms))
            for side in SIDES
        }
        self.ranges: dict[int, Range] = ranges(rest, rig, self.limbs)
        self.balls = {}
        for side in SIDES:
            ankle, toe = rig.legs[side][2], rig.toes[side]
            down = ground - rest[ankle, 1] + SOLE
            forward = rest.new_tensor([0, float(down), float(-1.8 * down)])  # of a foot without toes
            self.balls[side] = rest[toe] - rest[ankle] if toe is not None else forward
        ankles = torch.stack([rest[rig.legs[side][2]] for side in SIDES]).mean(0)
        ball = torch.stack(list(self.balls.values())).mean(0)
        self.heights = torch.stack([ankles[1] - ground, ankles[1] + ball[1] - ground])

    def wanted(self, source: Source) -> dict[int, Tensor]:
        """(T, 3, 3) of each joint that has its like: the world's from the figure's frame."""
        rig, theirs = self.rig, source.rig
        found = {rig.hips: source.world[:, theirs.hips]}
        chest = theirs.spine[-1] if theirs.spine else theirs.hips
        found |= _spread(source.world, [theirs.hips, *theirs.spine], rig.spine)
        found |= _spread(source.world, [chest, *theirs.neck], rig.neck)
        for side in SIDES:
            if (own := rig.collars[side]) is not None:
                other = theirs.collars[side]
                found[own] = source.world[:, chest if other is None else other]
            for limb, chains, others in ((LEG, rig.legs, theirs.legs), (ARM, rig.arms, theirs.arms)):
                here, there = self.limbs[limb, side], source.limbs[limb, side]
                upper, lower = (b @ a.T for a, b in zip(here.frames(), there.frames(), strict=True))
                joints, given = chains[side], [source.world[:, joint] for joint in others[side]]
                found[joints[1]] = given[1] @ lower
                found[joints[0]] = _twisted(given[0] @ upper, found[joints[1]], here)
                found[joints[2]] = given[2] @ lower if limb == ARM else given[2]
        return found

    def level(self, source: Source, side: str, scale: float) -> Float[Tensor, "3 3"]:
        """How the foot lies in the source's at rest: turned to where its toes point, level where it stands.

        What stands is what is slow and low; where nothing is, it is level when the source is at rest.
        """
        ankle, toe = source.rig.legs[side][2], source.rig.toes[side]
        up = self.rest.new_tensor([0, 1, 0])
        world, path = source.world[:, ankle], scale * source.places[:, ankle]
        speed = feet.speeds(path, source.motion.rate)
        slow = speed < feet.slowness(speed)
        still = slow & (path[:, 1] < path[slow][:, 1].quantile(0.3) + feet.LOW) if slow.any() else slow
        ups = world[still].mT @ up
        ups = ups[torch.acos(ups[:, 1].clamp(-1, 1)) < TILTED]
        tilt = rotation_from_quaternion(quaternion_between(up, ups.mean(0))) if len(ups) else torch.eye(3).double()
        flat = self.rest.new_tensor([1, 0, 1])
        there = tilt.T @ (source.rest[toe] - source.rest[ankle]) * flat if toe is not None else flat * 0
        here = self.balls[side] * flat
        if there.norm() < 0.3 * feet.LOW or toe is None:
            return tilt
        return tilt @ rotation_from_quaternion(quaternion_between(here, there))

    def posed(
        self, wanted: dict[int, Tensor], source: Source
    ) -> tuple[Float[Tensor, "T J 3 3"], dict[str, tuple[float, float]]]:
        """World rotations of all joints, within their limits, and what had been beyond them.

        What has no like follows its parent, or turns as the source's joint of the same name does.
        """
        names = {name: k for k, name in enumerate(source.skeleton.names)}
        world: list[Tensor] = []
        beyond: dict[str, tuple[float, float]] = {}
        for joint, parent in enumerate(self.skeleton.parents):
            above = world[parent] if parent >= 0 else None
            if joint in wanted:
                own = wanted[joint]
                if above is not None and joint in self.ranges:
                    turn, over = self.ranges[joint].limited(above.mT @ own)
                    own = above @ turn
                    if (over > 0.0175).any():  # a degree
                        part = self.ranges[joint].part
                        now = (float((over > 0.0175).double().mean()), float(torch.rad2deg(over.max())))
                        beyond[part] = tuple(map(max, now, beyond.get(part, (0.0, 0.0))))  # type: ignore[assignment]
            elif above is None:
                own = next(iter(wanted.values()))[:, :, :] * 0 + torch.eye(3).double()
            elif (like := names.get(self.skeleton.names[joint])) is not None and source.skeleton.parents[like] >= 0:
                over_there = source.world[:, source.skeleton.parents[like]]
                own = above @ (over_there.mT @ source.world[:, like])
            else:
                own = above
            world.append(own)
        return torch.stack(world, 1), beyond

    def stood(
        self, wanted: dict[int, Tensor], source: Source, hips: Tensor, goals: Float[Tensor, "T sides 3"], rate: float
    ) -> tuple[Tensor, Tensor, dict[str, tuple[float, float]]]:
        """Rotations and places with ankles at their goals: hips lowered where legs are too short, legs bent."""
        world, _ = self.posed(wanted, source)
        places = self.places(world, hips)
        thighs = torch.stack([places[:, self.rig.legs[side][0]] for side in SIDES], 1)
        legs = torch.stack([self.limbs[LEG, side].upper.norm() + self.limbs[LEG, side].lower.norm() for side in SIDES])
        down = torch.zeros_like(hips)
        down[:, 1] = -feet.lowered(thighs, goals, legs, rate)
        bent = dict(wanted)
        for _ in range(2):  # again from within the limits: a hip that may not twist so far swings instead
            places = self.places(world, hips + down)
            for k, side in enumerate(SIDES):
                upper, lower, end = self.rig.legs[side]
                hinge = (world[:, upper] @ self.limbs[LEG, side].hinge[:, None])[..., 0]
                swing, bend = feet.reach(places[:, upper], places[:, lower], places[:, end], hinge, goals[:, k])
                bent[upper], bent[lower] = swing @ world[:, upper], bend @ world[:, lower]
            world, beyond = self.posed(bent, source)
        return world, self.places(world, hips + down), beyond

    def lifted(self, world: Float[Tensor, "T J 3 3"], hips: Float[Tensor, "T 3"], rate: float) -> Float[Tensor, " T"]:
        """How far up the hips must go, so that nothing but feet is in the ground; eased around that."""
        feet_of = {self.rig.legs[side][2] for side in SIDES}
        above, body = self.skeleton.parents, {self.rig.hips}
        for joint in range(len(above)):  # after its parent
            if above[joint] in body and joint not in feet_of:
                body.add(joint)
        heights = self.places(world, hips)[:, sorted(body), 1]
        needed = (self.thick - heights).clamp(min=0).amax(1)
        return torch.maximum(needed, feet.eased(needed[:, None], rate)[:, 0])

    def places(self, world: Float[Tensor, "T J 3 3"], hips: Float[Tensor, "T 3"]) -> Float[Tensor, "T J 3"]:
        """Where all joints are when the middle between the thighs' is there."""
        found = [torch.zeros_like(hips)]
        for joint, parent in enumerate(self.skeleton.parents[1:], 1):
            found.append(found[parent] + world[:, parent] @ (self.rest[joint] - self.rest[parent]))
        middle = sum(found[self.rig.legs[side][0]] for side in SIDES) / 2
        return torch.stack(found, 1) + (hips - middle)[:, None]

    def points(self, world: Tensor, places: Tensor, side: str) -> Float[Tensor, "T 2 3"]:
        """A foot's ankle and ball."""
        ankle = self.rig.legs[side][2]
        return torch.stack([places[:, ankle], places[:, ankle] + world[:, ankle] @ self.balls[side]], 1)


def _spread(world: Tensor, knots: list[int], joints: tuple[int, ...]) -> dict[int, Tensor]:
    """Rotations of a chain of joints between those of another chain, whose first is what both hang on."""
    turns = quaternion_from_rotation(world[:, knots])
    found = {}
    for k, joint in enumerate(joints, 1):
        at = k / len(joints) * (len(knots) - 1)
        below = min(int(at + 1e-9), max(len(knots) - 2, 0))
        above = min(below + 1, len(knots) - 1)
        found[joint] = rotation_from_quaternion(slerp(turns[:, below], turns[:, above], at - below))
    return found


def _twisted(upper: Tensor, lower: Tensor, limb: Limb) -> Float[Tensor, "T 3 3"]:
    """The upper bone turned about itself until the lower lies where its hinge goes; less where it hardly bends."""
    bone = torch.nn.functional.normalize((upper @ limb.upper[:, None])[..., 0], dim=-1)
    other = torch.nn.functional.normalize((lower @ limb.lower[:, None])[..., 0], dim=-1)
    hinge = (upper @ limb.hinge[:, None])[..., 0]
    square = torch.linalg.cross(bone, other)
    bend = torch.atan2(square.norm(dim=-1), (bone * other).sum(-1))
    angle = torch.atan2((bone * torch.linalg.cross(hinge, square)).sum(-1), (hinge * square).sum(-1))
    share = ((bend - 0.17) / 0.35).clamp(0, 1)  # from 10° to 30°
    share = share * share * (3 - 2 * share) * (angle.abs() < torch.pi / 2)
    return rotation_from_axis_angle(bone * (share * angle)[:, None]) @ upper
