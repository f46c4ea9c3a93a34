"""Which reader a folder or file is for."""

from __future__ import annotations

from pathlib import Path

from neural3d.errors import UserError
from neural3d.scene.align import adopt_points
from neural3d.scene.capture import Capture
from neural3d.scene.colmap import find_model, read_colmap
from neural3d.scene.idr import FILES, find_file, read_idr
from neural3d.scene.middlebury import read_middlebury
from neural3d.scene.options import SceneOptions
from neural3d.scene.transforms import read_blender, read_transforms


def open_capture(path: Path, options: SceneOptions) -> Capture:
    """The capture at a path, in its own frame.

    Raises UserError listing what was looked for, where no reader recognises the path.
    """
    if path.is_file():
        return _open_file(path, options)
    found = _look(path)
    reader = options.reader or next((name for name, file in found.items() if file), None)
    looked = (
        "transforms.json, transforms_train.json, " + ", ".join(FILES) + ", *_par.txt, and a COLMAP model (cameras and "
        "images, .bin or .txt) in sparse/0, sparse, colmap/sparse/0, colmap or the folder itself"
    )
    if reader is None:
        raise UserError(f"{path} holds neither a capture nor photos; looked for {looked}.")
    file = found[reader]
    if file is None:
        raise UserError(f"{path} holds nothing for the reader '{reader}', which was asked for; looked for {looked}.")
    if reader == "blender":
        return read_blender(path)
    if reader == "colmap":
        return read_colmap(path, options)
    return _open_file(file, options)


def holds_capture(folder: Path) -> bool:
    """Whether any reader finds cameras in the folder."""
    return any(_look(folder).values())


def _look(folder: Path) -> dict[str, Path | None]:
    """For each reader what it would read in a folder, in the order in which they are asked."""
    return {
        "transforms": folder / "transforms.json" if (folder / "transforms.json").is_file() else None,
        "blender": folder / "transforms_train.json" if (folder / "transforms_train.json").is_file() else None,
        "idr": find_file(folder),
        "middlebury": next(iter(sorted(folder.glob("*_par.txt"))), None),
        "colmap": find_model(folder),
    }


def _open_file(path: Path, options: SceneOptions) -> Capture:
    if path.suffix == ".json":
        capture = read_transforms(path, options.images)
        if capture.points is None and (model := find_model(path.parent)):
            adopt_points(capture, model)
        return capture
    if path.suffix == ".npz":
        return read_idr(path, options)
    if path.name.endswith("_par.txt"):
        return read_middlebury(path)
    raise UserError(
        f"{path} is no capture; give a folder, or a transforms.json, cameras.npz, NAME_par.txt or scene .toml file."
    )
