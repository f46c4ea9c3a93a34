"""Poses as numbers that mean the same on every rig, and how likely a prior finds them.

Of the twelve parts that rigs agree on (spine, neck; of each side thigh, shin, foot, upper arm, forearm) how each is
turned against the one that it hangs on, as a rotation vector in radians: 36 numbers, in the figure's own frame (x to
its left, y up, z forward), which are 0 where it stands with its arms stretched sideways and looks ahead. Where it is
and which way it turns as a whole do not matter, nor do joints between parts: those of a spine count as one, collarbones
go with the arms. Rotation vectors and not six numbers a rotation, for a density needs as many numbers as there are ways
to move. Elbows and knees are exact hinges in many recordings, where no density is: noise gives them one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.anatomy import bone_frame, limb_at_rest, neutral
from neural3d.body.motion import Motion
from neural3d.body.retarget import Figure
from neural3d.body.rigs import ARM, LEG, SIDES
from neural3d.body.tracks import RATE, resampled
from neural3d.body.windows import HELD_OUT, read_clips
from neural3d.errors import UserError
from neural3d.geometry.rotations import axis_angle_from_rotation
from neural3d.geometry.skeletons import Skeleton
from neural3d.methods.abilities import Guiding

PARTS = ("spine", "neck", *(f"{side} {part}" for side in SIDES for part in (*LEG, *ARM[:2])))
NOISE = 0.03  # radians, about what markers' recordings are good for
SPREAD, DRAWS = 0.1, 4  # the same of poses to learn from: near to one is another that nobody recorded; how many of each
THINNED = 0.05  # radians: a pose whose parts differ less than this, on average, from one already taken is left out
ABOUT = {"numbers": "poses"}  # what `Examples.about` holds of these


class PoseSpace(Figure):
    """From a skeleton's rotations to the module's numbers."""

    def __init__(self, skeleton: Skeleton, whose: str = "the skeleton", moves: Float[Tensor, "T J 3 3"] | None = None):
        """moves: rotations from rest in the world, by which straight limbs are seen to bend.

        Raises UserError where the skeleton is no upright figure with two legs and two arms.
        """
        super().__init__(skeleton, whose)
        self.rests: dict[tuple[tuple[str, ...], str], tuple[Tensor, Tensor]] = {}
        for limb, chains in ((LEG, self.rig.legs), (ARM, self.rig.arms)):
            for side in SIDES:
                upper, lower, _ = chains[side]
                seen = None
                if moves is not None:
                    above, below = (moves[:, joint].double() @ self.heading for joint in (upper, lower))
                    seen = axis_angle_from_rotation(above.mT @ below)
                own, zero = limb_at_rest(self.rest, chains[side], limb, side, seen), bone_frame(*neutral(limb, side))
                a, b = (frame @ zero.T for frame in own.frames())
                self.rests[limb, side] = a, b

    def numbers(self, turned: Float[Tensor, "*batch J 3 3"]) -> Float[Tensor, "*batch 36"]:
        """turned: rotations of joints from rest, in the world. Differentiable."""
        world = turned @ self.heading.to(turned)
        rig = self.rig

        def of(joint: int) -> Tensor:
            return world[..., joint, :, :]

        hips, chest = of(rig.hips), of(rig.spine[-1] if rig.spine else rig.hips)
        found = [hips.mT @ chest, chest.mT @ of(rig.neck[-1]) if rig.neck else hips.mT @ hips]
        for side in SIDES:
            for limb, chains, above in ((LEG, rig.legs, hips), (ARM, rig.arms, chest)):
                upper, lower, end = chains[side]
                a, b = (rest.to(turned) for rest in self.rests[limb, side])
                first, second = of(upper) @ a, of(lower) @ b
                found += [above.mT @ first, first.mT @ second]
                if limb == LEG:
                    found.append(second.mT @ of(end))
        return axis_angle_from_rotation(torch.stack(found, -3)).flatten(-2)


def turned(parents: tuple[int, ...], pose: Float[Tensor, "*batch J 3 3"]) -> Float[Tensor, "*batch J 3 3"]:
    """Rotations in the world of rotations relative to parents; `Motion.turned` for any batch, with gradients."""
    found = [pose[..., 0, :, :]]
    for joint, parent in enumerate(parents[1:], 1):
        found.append(found[parent] @ pose[..., joint, :, :])
    return torch.stack(found, -3)


class PosePrior:
    """How likely poses of a model are, by a prior of the module's numbers, which learnt other people's clips.

        run = neural3d.load("poses")                        # neural3d train CLIPS poses --method vae
        prior = PosePrior(run.able(Guiding), model.skeleton())
        loss = misfit - prior.log_prob(pose).sum()

    Guiding: neural3d.methods.abilities. Works for every skeleton that the retargeting understands.
    """

    def __init__(self, prior: Guiding, skeleton: Skeleton, seed: int = 0):
        self.prior, self.space, self.seed = prior, PoseSpace(skeleton), seed

    def log_prob(self, pose: Float[Tensor, "B J 3 3"]) -> Float[Tensor, "B"]:
        """log p, or a bound below it, in nats; differentiable, and the same whenever asked for the same pose.

        pose: rotations of joints relative to their parents, the root's first.
        """
        numbers = self.space.numbers(turned(self.space.skeleton.parents, pose)).float()
        return -self.prior.energy(numbers, torch.Generator(pose.device).manual_seed(self.seed))


def poses_of(folder: Path) -> tuple[dict[str, Float[np.ndarray, "N 36"]], dict[str, Any], list[str]]:
    """(of each split, poses; what they are about; sentences about what was left out)

    Splits are by clip, as those of `windows_of`; those learnt from come mirrored too. Poses like one already taken of
    the same clip are left out. Raises UserError naming the file where one is damaged, or where there is no clip.
    """
    motions, notes = read_clips(folder)
    clips = []
    for motion in motions:
        try:
            clips.append(thinned(clip_numbers(motion)))
        except UserError as error:
            notes.append(f"left out: {error}")
    if len(clips) < 2:
        raise UserError(f"{folder}: {len(clips)} clips of two-legged figures; poses need two or more to learn from.")
    of = {0: "test", HELD_OUT // 2: "val"}
    parts: dict[str, list[Tensor]] = {"train": [], "test": [], "val": []}
    for i, clip in enumerate(clips):
        parts[of.get(i % HELD_OUT, "train")].append(clip)
    return {s: examples_of(several, s == "train") for s, several in parts.items() if several}, ABOUT, notes


def examples_of(clips: list[Float[Tensor, "T 36"]], learnt: bool = False) -> Float[np.ndarray, "N 36"]:
    """Poses with their NOISE; those to learn from mirrored too, each DRAWS times with SPREAD."""
    poses = torch.cat(clips)
    if learnt:
        poses = torch.cat([poses, mirrored(poses)]).repeat(DRAWS, 1)
    noise = torch.randn(poses.shape, generator=torch.Generator().manual_seed(len(poses)))
    return (poses + (SPREAD if learnt else NOISE) * noise).numpy().astype(np.float32)


def clip_numbers(motion: Motion) -> Float[Tensor, "T 36"]:
    """Raises UserError as `PoseSpace` does."""
    if len(motion) > 1 and motion.rate > RATE:
        motion = resampled(motion, RATE)
    world = motion.turned()
    return PoseSpace(motion.skeleton, motion.name, world).numbers(world.double()).float()


def thinned(poses: Float[Tensor, "T 36"]) -> Float[Tensor, "N 36"]:
    """Without those that are like one before."""
    taken = poses[:1]
    for pose in poses[1:]:
        if float((pose - taken).unflatten(-1, (-1, 3)).norm(dim=-1).mean(-1).min()) > THINNED:
            taken = torch.cat([taken, pose[None]])
    return taken


def mirrored(poses: Float[Tensor, "N 36"]) -> Float[Tensor, "N 36"]:
    """Left for right."""
    trunk, left, right = (poses.unflatten(-1, (-1, 3)) * poses.new_tensor([1, -1, -1])).split([2, 5, 5], 1)
    return torch.cat([trunk, right, left], 1).flatten(1)
