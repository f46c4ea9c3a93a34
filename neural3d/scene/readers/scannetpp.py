"""ScanNet++ (Yeshwanth, Liu, Nießner & Dai, ICCV 2023), as https://github.com/scannetpp/scannetpp lays a scene out:

dslr/colmap/     a COLMAP model, OPENCV_FISHEYE, in the laser scan's frame: metres, +z up
dslr/resized_images/   dslr/resized_anon_masks/   photos, and masks that are black where something was made unknown
dslr/train_test_lists.json   dslr/nerfstudio/transforms.json   the split; which photos are blurred (`is_bad`)
iphone/colmap/   iphone/rgb/   iphone/rgb_masks/   the same of the phone's video, once its frames are extracted
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from neural3d.scene.capture import Capture, find_picture, read_json
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.colmap import is_model, read_colmap
from neural3d.scene.readers.files import guarded
from neural3d.scene.readers.reader import Reader

LAYOUTS = {"dslr": ("resized_images", "resized_anon_masks"), "iphone": ("rgb", "rgb_masks")}


def find_scannetpp(path: Path) -> Path | None:
    """dslr/ or else iphone/ of a scene's folder, or that folder itself."""
    candidates = [path] if path.name in LAYOUTS else [path / name for name in LAYOUTS]
    return next((f for f in candidates if is_model(f / "colmap") and (f / LAYOUTS[f.name][0]).is_dir()), None)


def read_scannetpp(folder: Path, options: SceneOptions) -> Capture:
    return guarded(folder, lambda: _capture(folder, options))


def _capture(folder: Path, options: SceneOptions) -> Capture:
    images, masks = LAYOUTS[folder.name]
    capture = read_colmap(folder, replace(options, images=options.images or images))
    capture.reader, capture.upright = "scannetpp", True
    for frame in capture.frames:
        frame.mask_path = find_picture(folder / masks / Path(frame.name).with_suffix(""))
    _split(capture, _read(folder / "train_test_lists.json"))
    described = _read(folder / "nerfstudio" / "transforms.json")
    entries = [e for key in ("frames", "test_frames") for e in described.get(key, []) if isinstance(e, dict)]
    blurred = {entry.get("file_path") for entry in entries if entry.get("is_bad")}
    kept = [frame for frame in capture.frames if frame.name not in blurred or frame.split == "test"]
    if len(kept) < len(capture.frames):
        capture.notes.append(f"{len(capture.frames) - len(kept)} photos that ScanNet++ marks as bad are left out.")
    capture.frames = kept
    return capture


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _split(capture: Capture, lists: dict[str, Any]) -> None:
    names = {name: split for split in ("train", "test") for name in lists.get(split, [])}
    for frame in capture.frames:
        frame.split = names.get(frame.name)


READER = Reader(
    "scannetpp", "ScanNet++", "dslr/colmap with dslr/resized_images, or iphone/colmap with iphone/rgb",
    find_scannetpp, read_scannetpp,
)  # fmt: skip
