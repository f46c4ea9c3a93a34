"""Readers and writers of motion clips, one module for each format; which one a file is for: the table of them all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from neural3d.body.clips import amass, bvh, deepmimic, gltf
from neural3d.body.clips.reader import Reader
from neural3d.body.motion import Motion
from neural3d.disk import writing
from neural3d.errors import UserError
from neural3d.geometry.skeletons import Skeleton

READERS = {reader.name: reader for reader in (bvh.READER, deepmimic.READER, amass.READER, gltf.READER)}


def is_clip(path: Path) -> bool:
    """Whether the name is one of a clip's; a .glb may still hold only a mesh, a .txt or .npz anything."""
    return any(path.suffix.lower() in reader.endings for reader in READERS.values())


def read_motion(path: str | Path) -> Motion:
    """The clip in a file, in metres, +Y up, float32; joints at rest face +Z where the format says which way they do.

    Raises UserError, in one sentence, where the format is not known, or the file damaged, empty or not finite.
    """
    path = Path(path)
    reader = _reader(path, list(READERS.values()), "read")
    try:
        motion = reader.read(path)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{path} is damaged, or no {reader.files} ({why}); export or copy it again.") from error
    if not len(motion):
        raise UserError(f"{path} holds no frames; export the clip again with its animation.")
    tensors = (motion.rotations, motion.places, motion.skeleton.rest)
    if not (all(x.isfinite().all() for x in tensors) and 0 < motion.rate < float("inf")):
        raise UserError(f"{path} holds numbers that are not finite; export or copy it again.")
    skeleton = Skeleton(motion.skeleton.names, motion.skeleton.parents, motion.skeleton.rest.float())
    rotations = torch.nn.functional.normalize(motion.rotations, dim=-1).float()
    return dataclasses.replace(motion, skeleton=skeleton, rotations=rotations, places=motion.places.float())


def write_motion(motion: Motion, path: str | Path) -> None:
    """In the format of the name's ending. What was there stays whole until the new file is.

    Raises UserError where that format cannot be written, or does not know the motion's joints.
    """
    path = Path(path)
    write = _reader(path, [reader for reader in READERS.values() if reader.write], "written").write
    assert write is not None
    with writing(path):
        write(motion, path)


def _reader(path: Path, readers: list[Reader], done: str) -> Reader:
    for reader in readers:
        if path.suffix.lower() in reader.endings:
            return reader
    known = "; ".join(f"{reader.files}: {', '.join(reader.endings)}" for reader in readers)
    raise UserError(f"{path} is no clip that can be {done}, by its ending; known are {known}.")
