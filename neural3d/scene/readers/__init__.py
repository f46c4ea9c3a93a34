"""Readers of captures, one module for each kind; which one a folder or file is for: the table of them all.

files.py finds the photos that an exporter's file names and makes frames of them; brown.py brings lenses to COLMAP's
models; arkit.py is what phones share.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from neural3d.config import nearest
from neural3d.errors import UserError, command_line
from neural3d.images.video import videos_in
from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers import (
    arkitscenes,
    bundler,
    colmap,
    idr,
    metashape,
    middlebury,
    openmvg,
    opensfm,
    polycam,
    realitycapture,
    record3d,
    scanner3d,
    scannetpp,
    stray,
    transforms,
)

READERS = {
    reader.name: reader
    for reader in (  # in the order in which they are asked
        transforms.READER,
        transforms.BLENDER,
        idr.READER,
        middlebury.READER,
        polycam.READER,
        record3d.READER,
        scanner3d.READER,
        stray.READER,
        arkitscenes.READER,
        scannetpp.READER,
        colmap.READER,
        metashape.READER,
        realitycapture.READER,
        opensfm.READER,
        openmvg.READER,
        bundler.READER,
    )
}
OPTIONS = [reader.options for reader in READERS.values() if reader.options]  # for `make_options`


def open_capture(path: Path, options: SceneOptions) -> Capture:
    """The capture at a path, in its own frame.

    Raises UserError listing what was looked for, where no reader recognises the path; or naming options that are only
    for captures of another one.
    """
    if options.reader is not None and options.reader not in READERS:
        raise nearest(options.reader, list(READERS), "reader", str(path))
    name, found = find_capture(path, options.reader)
    if found is not None:
        if stranger := next((x for x in options.special if type(x) is not READERS[name].options), None):
            keys = ", ".join(field.name for field in fields(stranger) if getattr(stranger, field.name) is not None)
            raise UserError(f"{found} is read by '{name}', whose captures know no {keys}; leave that out.")
        return READERS[name].read(found, options)
    if path.is_file():
        raise UserError(
            f"{path} is no capture; give a folder, or one of its files ({_programs()}), or a scene .toml file."
        )
    if options.reader:
        raise UserError(f"{path} holds nothing for the reader '{name}', which was asked for: {READERS[name].files}.")
    instead = videos_in(path)
    if (path / "config.json").is_file():
        instead = f" It is a run; to go on with it: {command_line('train', '--resume', path)}."
    raise UserError(f"{path} holds neither a capture nor photos; looked for captures of {_programs()}.{instead}")


def find_capture(path: Path, asked: str | None = None) -> tuple[str, Path | None]:
    """The first reader, or that asked for, that finds something of its own, and what it finds."""
    unnamed = {reader.unnamed: name for name, reader in READERS.items()}
    for name in [asked] if asked else READERS:
        if found := READERS[name].find(path):
            return name, found
    if path.is_file() and (name := unnamed.get(path.suffix, "")) and asked in (None, name):
        return name, path
    return asked or "", None


def holds_capture(folder: Path) -> bool:
    """Whether any reader finds cameras in the folder."""
    return find_capture(folder)[1] is not None


def _programs() -> str:
    return "; ".join(reader.programs for reader in READERS.values()) + ": README lists their files"
