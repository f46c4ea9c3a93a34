"""Readers of captures, one module for each kind; which one a folder or file is for: the table of them all.

files.py finds the photos that an exporter's file names and makes frames of them; brown.py brings lenses to COLMAP's
models; arkit.py is what phones share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neural3d.config import nearest
from neural3d.errors import UserError, command_line
from neural3d.images.video import videos_in
from neural3d.scene.capture import Capture
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.align import adopt_points
from neural3d.scene.readers.arkitscenes import find_arkitscenes, read_arkitscenes
from neural3d.scene.readers.bundler import find_bundler, read_bundler
from neural3d.scene.readers.colmap import find_model, read_colmap
from neural3d.scene.readers.idr import FILES, read_idr
from neural3d.scene.readers.metashape import find_metashape, read_metashape
from neural3d.scene.readers.middlebury import read_middlebury
from neural3d.scene.readers.openmvg import find_openmvg, read_openmvg
from neural3d.scene.readers.opensfm import find_opensfm, read_opensfm
from neural3d.scene.readers.polycam import find_polycam, read_polycam
from neural3d.scene.readers.realitycapture import find_realitycapture, read_realitycapture
from neural3d.scene.readers.record3d import find_record3d, read_record3d
from neural3d.scene.readers.scanner3d import find_scanner3d, read_scanner3d
from neural3d.scene.readers.scannetpp import find_scannetpp, read_scannetpp
from neural3d.scene.readers.stray import find_stray, read_stray
from neural3d.scene.readers.transforms import read_blender, read_transforms

Find = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Reader:
    """Of one program's captures.

    programs, files: whose they are and which files tell, in words. find: what it would read in a folder, or the file
    itself where it is one of these; None where it is not. read: the capture of what was found.
    """

    programs: str
    files: str
    find: Find
    read: Callable[[Path, SceneOptions], Capture]


def named(*patterns: str) -> Find:
    """Finds by name: in a folder the first file of the first pattern that any has."""

    def find(path: Path) -> Path | None:
        if path.is_file():
            return path if any(path.match(pattern) for pattern in patterns) else None
        return next((f for pattern in patterns for f in sorted(path.glob(pattern)) if f.is_file()), None)

    return find


def _transforms(file: Path, options: SceneOptions) -> Capture:
    capture = read_transforms(file, options.images)
    if capture.points is None and (model := find_model(file.parent)):
        adopt_points(capture, model)
    return capture


READERS = {
    "transforms": Reader("nerfstudio, instant-ngp", "transforms.json", named("transforms.json"), _transforms),
    "blender": Reader(
        "NeRF's synthetic scenes, BlenderNeRF", "transforms_{train,val,test}.json", named("transforms_train.json"),
        lambda file, options: read_blender(file.parent),
    ),
    "idr": Reader("IDR, NeuS, DVR, MonoSDF", ", ".join(FILES), named(*FILES), read_idr),
    "middlebury": Reader(
        "Middlebury", "NAME_par.txt", named("*_par.txt"), lambda file, options: read_middlebury(file)
    ),
    "polycam": Reader(
        "Polycam, raw export", "keyframes/corrected_cameras with corrected_images, or keyframes/cameras with images",
        find_polycam, read_polycam,
    ),
    "record3d": Reader(
        "Record3D", "NAME.r3d; metadata with rgbd; metadata.json with rgb", find_record3d, read_record3d
    ),
    "scanner3d": Reader(
        "3D Scanner App, all data", "frame_00000.json with frame_00000.jpg", find_scanner3d, read_scanner3d
    ),
    "stray": Reader("Stray Scanner", "rgb.mp4 with camera_matrix.csv and odometry.csv", find_stray, read_stray),
    "arkitscenes": Reader(
        "ARKitScenes, raw or 3DOD", "lowres_wide.traj with lowres_wide (or vga_wide, wide) and its intrinsics",
        find_arkitscenes, read_arkitscenes,
    ),
    "scannetpp": Reader(
        "ScanNet++", "dslr/colmap with dslr/resized_images, or iphone/colmap with iphone/rgb", find_scannetpp,
        read_scannetpp,
    ),
    "colmap": Reader(
        "COLMAP, text or binary, every camera model",
        "cameras and images (.bin or .txt) in sparse/0, sparse, colmap/sparse/0, colmap or the folder itself",
        lambda path: path if find_model(path) else None, read_colmap,
    ),
    "metashape": Reader(
        "Metashape, rigs too", "cameras.xml; points from a .ply beside", find_metashape, read_metashape
    ),
    "realitycapture": Reader(
        "RealityCapture, RealityScan",
        "NAME.csv of internal and external camera parameters; points from a .ply beside",
        find_realitycapture, read_realitycapture,
    ),
    "opensfm": Reader(
        "OpenSfM, OpenDroneMap", "reconstruction.json in the folder or in opensfm", find_opensfm, read_opensfm
    ),
    "openmvg": Reader("OpenMVG", "sfm_data.json in the folder or one below it", find_openmvg, read_openmvg),
    "bundler": Reader(
        "Bundler, RealityCapture", "bundle.out or NAME.out with a list of its photos", find_bundler, read_bundler
    ),
}  # fmt: skip
UNNAMED = {".json": "transforms", ".npz": "idr"}  # who takes a file, given by itself, whose name says nothing


def open_capture(path: Path, options: SceneOptions) -> Capture:
    """The capture at a path, in its own frame.

    Raises UserError listing what was looked for, where no reader recognises the path.
    """
    if options.reader is not None and options.reader not in READERS:
        raise nearest(options.reader, list(READERS), "reader", str(path))
    name, found = find_capture(path, options.reader)
    if found is not None:
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
    for name in [asked] if asked else READERS:
        if found := READERS[name].find(path):
            return name, found
    if path.is_file() and (name := UNNAMED.get(path.suffix, "")) and asked in (None, name):
        return name, path
    return asked or "", None


def holds_capture(folder: Path) -> bool:
    """Whether any reader finds cameras in the folder."""
    return find_capture(folder)[1] is not None


def _programs() -> str:
    return "; ".join(reader.programs for reader in READERS.values()) + ": README lists their files"
