"""Clips as examples for priors: pieces of two seconds, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.clips import is_clip, read_motion
from neural3d.body.motion import Motion
from neural3d.body.retarget import retarget
from neural3d.body.tracks import RATE, features_of, resampled, track_of
from neural3d.errors import UserError
from neural3d.geometry.rotations import (
    conjugate,
    quaternion_from_axis_angle,
    quaternion_product,
    rotation_from_quaternion,
    slerp,
)
from neural3d.geometry.skeletons import Skeleton

FRAMES, STRIDE = 50, 5  # of a window; between the starts of two
HELD_OUT = 8  # every 8th clip, from the first on, is a test; every 8th from the fifth on validates
SPEEDS = (0.8, 1.0, 1.25)  # at which clips to learn from are played, as they are and mirrored
ALIKE = 0.02  # radians by which joints of copies of one recording differ, the mean over joints and frames
CLOSED = 0.6  # radians by which the joints of a loop's last pose differ from its first at most


def holds_clips(folder: Path) -> bool:
    """Does a folder hold motion clips, itself or below, and nothing but these and words about them?"""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in ("", ".md")] if folder.is_dir() else []
    clips = [p for p in files if is_clip(p) and p.suffix.lower() not in (".npz", ".glb", ".gltf")]
    return len(clips) > 0 and len(clips) == len(files)


def windows_of(
    folder: Path,
) -> tuple[dict[str, Float[np.ndarray, "N T D"]], dict[str, Any], list[str]]:
    """(of each split, windows: the features of `body.tracks`; what they are about; sentences about what was left out)

    Splits are by clip: test and validation are of other recordings than those learnt from, which come at several speeds
    and mirrored too. About: the skeleton whose joints the features are of.
    Raises UserError naming the file where one is damaged, or where no clip is as long as a window.
    """
    clips, notes = clips_of(folder)
    parts = {"train": clips, "test": [], "val": []}
    if len(clips) > 1:
        of = {0: "test", HELD_OUT // 2: "val"}
        parts = {s: [c for i, c in enumerate(clips) if of.get(i % HELD_OUT, "train") == s] for s in parts}
    found = {split: windows(several, varied=split == "train") for split, several in parts.items() if several}
    if len(clips) == 1:
        cut = max(1, len(found["train"]) * (HELD_OUT - 1) // HELD_OUT)
        found = {"train": found["train"][:cut], "test": found["train"][cut:]}
    return found, about(clips[0].skeleton), notes


def about(skeleton: Skeleton) -> dict[str, Any]:
    """What `Examples.about` holds of windows."""
    rest = [[float(x) for x in place] for place in skeleton.rest]
    return {"numbers": "motion", "names": list(skeleton.names), "parents": list(skeleton.parents), "rest": rest}


def skeleton_of(about: dict[str, Any]) -> Skeleton | None:
    """Undoes `about`; None where the examples are no windows."""
    if about.get("numbers") != "motion":
        return None
    return Skeleton(tuple(about["names"]), tuple(about["parents"]), torch.tensor(about["rest"]))


def clips_of(folder: Path) -> tuple[list[Motion], list[str]]:
    """(the clips of a folder that are as long as a window, on the skeleton of most; what was left out)

    Clips of other skeletons are carried over; what cannot be (no two legs) is left out, as are copies of one recording,
    clips that are too short, though loops go on, and .txt that hold none.
    """
    motions, notes = read_clips(folder)
    names = [tuple(motion.skeleton.names) for motion in motions]
    most = max(set(names), key=lambda n: (names.count(n), n), default=())
    skeleton = motions[names.index(most)].skeleton if motions else None
    found: list[Motion] = []
    short = 0
    for motion, own in zip(motions, names):
        motion = going_on(motion, 2 * (FRAMES + 1) / RATE)
        if motion.seconds < FRAMES / RATE:
            short += 1
            continue
        try:
            assert skeleton is not None
            found.append(motion if own == most else retarget(motion, skeleton))
        except UserError as error:
            notes.append(f"left out: {error}")
    if short == len(motions):
        raise UserError(f"{folder}: no clip of {FRAMES / RATE:.0f} seconds or more; give longer ones.")
    if short:
        notes.append(f"left out: {short} of {len(motions)} clips, shorter than {FRAMES / RATE:.0f} seconds")
    if not found:
        raise UserError(f"{folder}: no clip could be carried over to the skeleton of most; give clips of one skeleton.")
    return found, notes


def read_clips(folder: Path) -> tuple[list[Motion], list[str]]:
    """(what clips a folder holds, in order of their names, of copies of one recording the first; what was left out)"""
    motions: list[Motion] = []
    notes: list[str] = []
    for path in sorted(filter(is_clip, folder.rglob("*"))):
        try:
            motion = read_motion(path)
        except UserError as error:
            if path.suffix.lower() != ".txt":  # those may hold anything, such as a licence
                raise
            notes.append(f"left out: {error}")
            continue
        if copied := next((other.name for other in motions if alike(motion, other)), None):
            notes.append(f"left out: {path.name} is a copy of {copied}")
        else:
            motions.append(motion)
    return motions, notes


def alike(a: Motion, b: Motion) -> bool:
    """Is one a copy of the other, but for a frame at either end, its units or where it happens?"""
    same = a.skeleton.names == b.skeleton.names and abs(a.rate / b.rate - 1) < 1e-3
    if not same or abs(len(a) - len(b)) > 2 or min(len(a), len(b)) < 9:
        return False
    first, second = sorted((a.rotations[:, 1:], b.rotations[:, 1:]), key=len)
    later = (second[k : k + len(first)] for k in range(len(second) - len(first) + 1))
    return any(float(apart(first, other).mean()) < ALIKE for other in later)


def apart(a: Float[Tensor, "*batch 4"], b: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """Radians between rotations."""
    return 2 * torch.acos((a * b).sum(-1).abs().clamp(max=1))


def going_on(motion: Motion, seconds: float) -> Motion:
    """A loop that has gone round until it is so long; one whose last pose is not nearly its first again is none.

    Each round starts where the one before ended: turned about +y and moved along the ground, so that its first frame,
    which is left out, is the last one. What is left between the two poses is made up for all along the round.
    """
    if not motion.loops or motion.seconds >= seconds or len(motion) < 2:
        return motion
    first, last = motion.rotations[0], motion.rotations[-1]
    if float(apart(last[1:], first[1:]).max()) > CLOSED:
        return motion
    turn = quaternion_product(last[0], conjugate(first[0]))
    yaw = 2 * torch.atan2(turn[2], turn[0])
    about_y = quaternion_from_axis_angle(torch.stack([yaw * 0, yaw, yaw * 0]))
    gap = quaternion_product(conjugate(last), torch.cat([quaternion_product(about_y, first[0])[None], first[1:]]))
    share = torch.linspace(0, 1, len(motion))[:, None, None]
    closed = quaternion_product(motion.rotations, slerp(first.new_tensor([1, 0, 0, 0]), gap, share))
    back = rotation_from_quaternion(about_y).T
    shift = (motion.places[-1] - motion.places[0] @ back) * motion.places.new_tensor([1, 0, 1])
    rotations, places = [closed], [motion.places]
    for _ in range(math.ceil(seconds / motion.seconds) - 1):
        before = rotations[-1][-len(motion) + 1 :]
        rotations.append(torch.cat([quaternion_product(about_y, before[:, 0])[:, None], before[:, 1:]], 1))
        places.append(places[-1][-len(motion) + 1 :] @ back + shift)
    return replace(motion, rotations=torch.cat(rotations), places=torch.cat(places), loops=False)


def windows(clips: Sequence[Motion], varied: bool = False) -> Float[np.ndarray, "N T D"]:
    """Of clips of one skeleton that are long enough. varied: at SPEEDS, and mirrored where the skeleton can be."""
    played = [(motion, speed) for motion in clips for speed in (SPEEDS if varied else (1.0,))]
    if varied and (partners := mirror_of(clips[0].skeleton)) is not None:
        played += [(mirrored(motion, partners), speed) for motion, speed in played]
    return np.concatenate([_pieces(motion, speed) for motion, speed in played if _fits(motion, speed)])


def _fits(motion: Motion, speed: float) -> bool:
    return round(motion.seconds * RATE / speed) >= FRAMES


def _pieces(motion: Motion, speed: float) -> Float[np.ndarray, "N T D"]:
    features = features_of(track_of(resampled(motion, RATE / speed)))
    return features.unfold(0, FRAMES, STRIDE).transpose(1, 2).numpy().astype(np.float32)


def mirror_of(skeleton: Skeleton) -> list[int] | None:
    """Of each joint the one on the other side; None where a skeleton's sides at rest are not alike."""
    rest, height = skeleton.rest, float(skeleton.rest[:, 1].max() - skeleton.rest[:, 1].min())
    gaps = (rest[:, None] * rest.new_tensor([-1, 1, 1]) - rest).norm(dim=-1)
    partners = gaps.argmin(1).tolist()
    above = [-1 if parent < 0 else partners[parent] for parent in skeleton.parents]
    whole = sorted(partners) == list(range(len(skeleton))) and above == [skeleton.parents[p] for p in partners]
    return partners if whole and float(gaps.amin(1).max()) < 0.01 * height else None


def mirrored(motion: Motion, partners: list[int]) -> Motion:
    """Left for right: the reflection that turns x around."""
    rotations = motion.rotations[:, partners] * motion.rotations.new_tensor([1, 1, -1, -1])
    return replace(motion, rotations=rotations, places=motion.places * motion.places.new_tensor([-1, 1, 1]))
