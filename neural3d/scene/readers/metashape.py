"""Reader of Agisoft Metashape's cameras.xml (File › Export › Export Cameras).

A camera's transform maps its own frame, OpenCV's, to the chunk's; its component's transform (older files: the chunk's)
is a similarity from there to the user's coordinates, which are earth-centred where these are geographic. Pixels, with
the centre of the top left one at (0.5, 0.5) (Metashape's manual, "Camera models"):

    u = w / 2 + cx + x' f + x' B1 + y' B2,    v = h / 2 + cy + y' f,

x' and y' as in brown.py with P1 and P2 for p₂ and p₁.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.scene.capture import Capture, pose_from
from neural3d.scene.gps import AXIS, axes_at, place_of
from neural3d.scene.options import SceneOptions
from neural3d.scene.readers.brown import Brown, fitting_note, panorama
from neural3d.scene.readers.files import find_photos, guarded, make_frames, numbers, recognised, unplaced_note
from neural3d.scene.readers.points import adopt_cloud
from neural3d.scene.readers.reader import Reader

PROJECTIONS = {
    "frame": "perspective",
    "fisheye": "equidistant",
    "equidistant_fisheye": "equidistant",
    "equisolid_fisheye": "equisolid",
}
Lens = tuple[str, int, int, torch.Tensor]

find_metashape = recognised(("cameras.xml", "*.xml"), lambda head: "<document" in head and "<chunk" in head)


def read_metashape(file: Path, options: SceneOptions) -> Capture:
    """The chunk of the file that has most cameras with a pose."""
    return guarded(file, lambda: _read(file, options))


def _read(file: Path, options: SceneOptions) -> Capture:
    chunks = ElementTree.parse(file).getroot().findall("chunk")
    chunk = max(chunks, key=lambda c: len(c.findall("cameras//camera/transform")))
    _place_slaves(chunk)
    listed = _cameras(chunk)
    enabled = {name: camera for name, camera in listed.items() if _is_true(camera.get("enabled"))}
    placed = {name: camera for name, camera in enabled.items() if camera.find("transform") is not None}
    capture = Capture("metashape", file, [])
    capture.notes += unplaced_note(len(enabled) - len(placed), len(enabled))
    if len(enabled) < len(listed):
        capture.notes.append(f"{len(listed) - len(enabled)} cameras that are disabled in Metashape are left out.")
    if len(chunks) > 1:
        capture.notes.append(f"Of {len(chunks)} chunks, '{chunk.get('label')}' has most cameras and was read.")
    placed, to_world = _frames_of_components(chunk, placed, capture.notes)
    names = list(placed)
    poses = [_pose(file, name, placed[name], to_world[placed[name].get("component_id", "")]) for name in names]
    capture.upright = any(matrix is not None for matrix in to_world.values())
    local = _local_frame(poses, capture.notes) if names else None
    if local is not None:
        poses, capture.metric = [local @ pose for pose in poses], True
    lenses = _lenses(file, chunk, {placed[name].get("sensor_id", "") for name in names}, capture.notes)
    cameras = [
        Camera(*lenses[placed[name].get("sensor_id", "")], torch.from_numpy(pose)) for name, pose in zip(names, poses)
    ]
    capture.frames = make_frames(file, find_photos(file, names, options.images), cameras, bool(options.images))
    adopt_cloud(capture, file, local)
    return capture


def _place_slaves(chunk: Element) -> None:
    """Gives the cameras of a rig that follow its master the transform that the file leaves to be computed.

    A sensor's rotation and location (Metashape leaves out identity and zero) map a slave's frame to its master's, in
    the chunk's units.
    """
    cameras = {camera.get("id"): camera for camera in chunk.iterfind("cameras//camera")}
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    for name, camera in cameras.items():
        master = cameras.get(camera.get("master_id", name))
        if master is None or master is camera or camera.find("transform") is not None:
            continue
        if (pose := master.findtext("transform")) is None:
            continue
        sensor, offset = sensors[camera.get("sensor_id")], np.eye(4)
        offset[:3, :3] = numbers(sensor.findtext("rotation") or "1 0 0 0 1 0 0 0 1", (3, 3), "a sensor's rotation")
        offset[:3, 3] = numbers(sensor.findtext("location") or "0 0 0", (3,), "a sensor's location")
        matrix = numbers(pose, (4, 4), f"transform of camera {master.get('id')}") @ offset
        ElementTree.SubElement(camera, "transform").text = " ".join(map(repr, matrix.ravel().tolist()))
        camera.attrib.update({k: v for k, v in master.attrib.items() if k == "component_id"})


def _is_true(value: str | None) -> bool:
    """An attribute that is yes unless it says otherwise."""
    return value is None or value.strip().lower() in ("1", "true", "yes")


def _cameras(chunk: Element) -> dict[str, Element]:
    """Every camera by its label, after its group's where it has one: photos of a group often share a folder."""
    found: dict[str, Element] = {}
    for group in [*chunk.iterfind("cameras"), *chunk.iterfind("cameras//group")]:
        for camera in group.findall("camera"):
            folder = "" if group.tag == "cameras" else f"{group.get('label', '')}/"
            name = f"{folder}{camera.attrib['label']}"
            if name in found:
                raise ValueError(f"two cameras are called '{name}'")
            found[name] = camera
    return found


def _frames_of_components(
    chunk: Element, placed: dict[str, Element], notes: list[str]
) -> tuple[dict[str, Element], dict[str, np.ndarray | None]]:
    """The cameras whose frames are known of each other, and for their components world_from_chunk (None: identity)."""
    elements = {c.get("id", ""): c for c in chunk.iterfind("components/component")}
    sizes = Counter(camera.get("component_id", "") for camera in placed.values())
    whole = _similarity(chunk.find("transform"))
    to_world = {id_: _similarity(elements[id_].find("transform")) if id_ in elements else whole for id_ in sizes}
    if len(sizes) > 1 and any(matrix is None for matrix in to_world.values()):
        best = sizes.most_common(1)[0][0]
        notes.append(
            f"{len(placed) - sizes[best]} photos are left out: their components are not aligned with the largest, of "
            f"{sizes[best]} photos."
        )
        placed = {name: camera for name, camera in placed.items() if camera.get("component_id", "") == best}
        to_world = {best: to_world[best]}
    return placed, to_world


def _similarity(transform: Element | None) -> np.ndarray | None:
    if transform is None or transform.find("rotation") is None:
        return None
    matrix = np.eye(4)
    scale = numbers(transform.findtext("scale", "1"), (), "scale")
    matrix[:3, :3] = scale * numbers(transform.findtext("rotation"), (3, 3), "rotation")
    matrix[:3, 3] = numbers(transform.findtext("translation", "0 0 0"), (3,), "translation")
    return matrix


def _pose(file: Path, name: str, camera: Element, world_from_chunk: np.ndarray | None) -> np.ndarray:
    pose = numbers(camera.findtext("transform"), (4, 4), f"transform of '{name}'")
    if world_from_chunk is not None:
        pose = world_from_chunk @ pose
        pose[:3, :3] /= np.cbrt(np.linalg.det(world_from_chunk[:3, :3]))
    return pose_from(pose, f"{file}, camera '{name}'").numpy()


def _local_frame(poses: list[np.ndarray], notes: list[str]) -> np.ndarray | None:
    """Metres east, north and up of their middle from earth-centred coordinates; None where poses are in others."""
    middle = np.median([pose[:3, 3] for pose in poses], axis=0)
    if abs(np.linalg.norm(middle) / AXIS - 1) > 0.01:  # the earth is flattened by 0.3 %, mountains reach 0.15 %
        return None
    latitude, longitude, height = place_of(middle)
    local = np.eye(4)
    local[:3, :3] = axes_at(np.radians(latitude), np.radians(longitude))
    local[:3, 3] = -local[:3, :3] @ middle
    notes.append(
        f"Coordinates are metres east, north and up of latitude {latitude:.6f}°, longitude {longitude:.6f}°, "
        f"{height:.1f} m above the ellipsoid."
    )
    return local


def _lenses(file: Path, chunk: Element, used: set[str], notes: list[str]) -> dict[str, Lens]:
    sensors = {s.get("id", ""): s for s in chunk.iterfind("sensors/sensor")}
    lenses, errors = {}, []
    for id_ in sorted(used):
        model, width, height, params, error = _lens(file, sensors[id_])
        lenses[id_] = model, width, height, params
        errors.append(error)
        if sensors[id_].find("calibration/corrections") is not None:
            notes.append(f"Additional corrections of sensor '{sensors[id_].get('label')}' are ignored.")
    notes += fitting_note(errors)
    return lenses


def _lens(file: Path, sensor: Element) -> tuple[str, int, int, torch.Tensor, float]:
    """The adjusted calibration, or where none was adjusted the initial one: model, size, parameters, error."""
    calibrations = {c.get("class"): c for c in sensor.iterfind("calibration")}
    calibration = calibrations.get("adjusted", next(iter(calibrations.values()), None))
    where = f"{file}: sensor '{sensor.get('label')}'"
    kind = sensor.get("type", "frame") if calibration is None else calibration.get("type", sensor.get("type", "frame"))
    resolution = (sensor if calibration is None else calibration).find("resolution")
    if resolution is None:
        resolution = sensor.find("resolution")
    if resolution is None:
        raise KeyError("resolution")
    width, height = int(resolution.attrib["width"]), int(resolution.attrib["height"])
    if kind == "spherical":
        return panorama(width, height)
    if kind not in PROJECTIONS:
        known = ", ".join([*PROJECTIONS, "spherical"])
        raise UserError(f"{where} is of type '{kind}', which is not read; of Metashape's types these are: {known}.")
    if calibration is None or calibration.find("f") is None:
        raise UserError(f"{where} has no calibration with a focal length f; align the photos, and export again.")
    a = {name: float(numbers(calibration.findtext(name, "0"), (), name)) for name in _NAMES}
    lens = Brown(
        width, height, a["f"] + a["b1"], a["f"], width / 2 + a["cx"], height / 2 + a["cy"],
        (a["k1"], a["k2"], a["k3"], a["k4"]), p1=a["p2"], p2=a["p1"], skew=a["b2"], projection=PROJECTIONS[kind],
    )  # fmt: skip
    model, params, error = lens.colmap()
    return model, width, height, params, error


_NAMES = ("f", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2")


READER = Reader(
    "metashape", "Metashape, rigs too", "cameras.xml; points from a .ply beside", find_metashape, read_metashape
)
