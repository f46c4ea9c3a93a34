"""Which reader a folder or file is for."""

from __future__ import annotations

from pathlib import Path

from neural3d.errors import UserError
from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions
from neural3d.scene.transforms import read_blender, read_transforms


def open_capture(path: Path, options: SceneOptions) -> Capture:
    """The capture at a path, in its own frame.

    Raises UserError listing what was looked for, where no reader recognises the path.
    """
    if path.is_file():
        if path.suffix == ".json":
            return read_transforms(path)
        raise UserError(f"{path} is no capture; give a folder, a transforms.json, a _par.txt or a scene's .toml file.")
    if (path / "transforms.json").is_file():
        return read_transforms(path / "transforms.json")
    if (path / "transforms_train.json").is_file():
        return read_blender(path)
    raise UserError(f"{path} holds no capture: looked for transforms.json, transforms_train.json.")
