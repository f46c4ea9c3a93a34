"""Clips as examples for priors: pieces of two seconds, as numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.body.clips import is_clip, read_motion
from neural3d.body.clips.reader import resampled as between_frames
from neural3d.body.motion import Motion
from neural3d.errors import UserError
from neural3d.geometry.rotations import (
    axis_angle_from_rotation,
    rotation_from_axis_angle,
    rotation_from_quaternion,
)

RATE, FRAMES, STRIDE = 25.0, 50, 5  # frames per second; of a window; between the starts of two
HELD_OUT = 8  # every 8th clip, from the first on; of fewer than two the last windows


def holds_clips(folder: Path) -> bool:
    """Does a folder hold motion clips, and nothing but these and words about them?"""
    files = [p for p in folder.iterdir() if p.is_file() and p.suffix not in ("", ".md")] if folder.is_dir() else []
    clips = [p for p in files if is_clip(p) and p.suffix.lower() not in (".npz", ".glb", ".gltf")]
    return len(clips) > 0 and len(clips) == len(files)


def windows_of(folder: Path) -> tuple[dict[str, Float[np.ndarray, "N T D"]], list[str]]:
    """(of each split, windows; sentences about what was left out)

    A window has the world turned about +y and moved so that its first frame's root is above the origin and faces +z.
    Of each frame: the rotation vectors of all joints relative to their parents, in radians, then where the root is, in
    metres: D = 3 J + 3. Clips of other skeletons than that of most are left out.
    Raises UserError naming the file where one is damaged, or where no clip is as long as a window.
    """
    motions = [read_motion(p) for p in sorted(folder.iterdir()) if is_clip(p)]
    names = [tuple(motion.skeleton.names) for motion in motions]
    most = max(set(names), key=lambda n: (names.count(n), n))
    kept = [m for m, own in zip(motions, names) if own == most and m.seconds >= (FRAMES - 1) / RATE]
    if not kept:
        raise UserError(f"{folder}: no clip of {FRAMES / RATE:.0f} seconds or more; give longer ones.")
    notes = []
    if left := len(motions) - len(kept):
        notes.append(f"{left} of {len(motions)} clips are of another skeleton, or shorter than a window: left out")
    pieces = [_pieces(motion) for motion in kept]
    if len(pieces) == 1:
        cut = max(1, len(pieces[0]) * (HELD_OUT - 1) // HELD_OUT)
        return {"train": pieces[0][:cut], "test": pieces[0][cut:]}, notes
    test = np.concatenate(pieces[::HELD_OUT])
    return {"train": np.concatenate([p for i, p in enumerate(pieces) if i % HELD_OUT]), "test": test}, notes


def _pieces(motion: Motion) -> Float[np.ndarray, "N T D"]:
    even = resampled(motion, RATE)
    starts = range(0, len(even) - FRAMES + 1, STRIDE)
    return np.stack([numbers_of(even.part(s, s + FRAMES)) for s in starts]).astype(np.float32)


def resampled(motion: Motion, rate: float) -> Motion:
    """At another rate."""
    times = torch.arange(len(motion), dtype=torch.float64) / motion.rate
    rotations, places = between_frames(times, rate, motion.rotations, motion.places)
    return replace(motion, rotations=rotations, places=places, rate=rate)


def numbers_of(motion: Motion) -> Float[np.ndarray, "T D"]:
    """As `windows_of` says."""
    local = rotation_from_quaternion(motion.rotations)
    facing = local[0, 0] @ torch.tensor([0.0, 0.0, 1.0]).to(local)
    yaw = torch.atan2(facing[0], facing[2])
    back = rotation_from_axis_angle(torch.stack([torch.zeros_like(yaw), -yaw, torch.zeros_like(yaw)]))
    start = motion.places[0] * torch.tensor([1.0, 0.0, 1.0]).to(local)
    local = torch.cat([(back @ local[:, 0])[:, None], local[:, 1:]], 1)
    vectors = continuous(axis_angle_from_rotation(local))
    return torch.cat([vectors.flatten(1), (motion.places - start) @ back.T], 1).numpy()


def continuous(vectors: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    """The same rotations without jumps: of (‖v‖ + 2πk) v/‖v‖, which turn alike, the nearest to the frame before."""
    found = [vectors[0]]
    for v in vectors[1:]:
        last, size = found[-1], v.norm(dim=-1, keepdim=True)
        axis = torch.where(size > 1e-4, v, last)
        axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        turns = (((last * axis).sum(-1, keepdim=True) - size) / (2 * torch.pi)).round()
        found.append(torch.where(turns == 0, v, (size + 2 * torch.pi * turns) * axis))
    return torch.stack(found)
