"""What a job takes and what machines have: cores, memory, GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neural3d.batch.book import Options
from neural3d.config import override, parse_assignments
from neural3d.errors import UserError
from neural3d.loading import load_data
from neural3d.methods import method_class
from neural3d.scene import Scene
from neural3d.scene.objects import holds_captures
from neural3d.sfm.footage import find_footage

GIB = 2**30
PROCESS = GIB  # bytes of Python, torch and what a command takes whatever the capture
PHOTO = 1600 * 1200 * 3  # bytes of a photo in training, of the size to which larger ones are shrunk
FRAMES = 100  # of a film


@dataclass(frozen=True)
class Room:
    """cores; memory in bytes; GPUs: what a machine has, or what a job takes."""

    cores: int
    memory: int
    gpus: int = 0

    def holds(self, other: Room) -> bool:
        return self.cores >= other.cores and self.memory >= other.memory and self.gpus >= other.gpus

    def __sub__(self, other: Room) -> Room:
        return Room(self.cores - other.cores, self.memory - other.memory, self.gpus - other.gpus)

    def __add__(self, other: Room) -> Room:
        return Room(self.cores + other.cores, self.memory + other.memory, self.gpus + other.gpus)


def forecast(source: Path, options: Options) -> int:
    """Bytes that training on a capture takes at most: its photos, and what the method says of its settings.

    Of photos without poses all count, at the size to which large ones are shrunk. A capture that cannot be read counts
    nothing: its job will say why.
    """
    try:
        footage = None if holds_captures(source) else find_footage(source)
        if footage is not None:
            photos = PHOTO * (len(footage.photos) or FRAMES)
        else:
            data = load_data(source)
            photos = 0
            if isinstance(data, Scene):
                cameras = [data.views[i].camera for i in data.split["train"]]
                photos = sum(3 * camera.width * camera.height for camera in cameras)
    except UserError:
        photos = 0
    return PROCESS + photos + method_memory(options)


def method_memory(options: Options) -> int:
    """`Method.most_memory` of what the options choose; auto: of splats. Raises UserError for unknown settings."""
    changes = {k: v for k, v in parse_assignments(options.set).items() if not k.startswith("scene.")}
    method = method_class("splat" if options.method == "auto" else options.method)
    if options.method == "auto":  # settings may be another method's, which the data will choose
        changes = {k: v for k, v in changes.items() if hasattr(method.Config, k)}
    return method.most_memory(override(method.Config(), changes, "--set"))


def shares(machines: Sequence[Room], forecasts: Sequence[int], device: str) -> list[Room]:
    """What each job is given: as many run at once as memory holds, and the cores are shared among these.

    Where there are GPUs and `device` is not cpu, each job takes one. Memory that no machine has is cut to what the
    largest has.
    """
    gpus = 0 if device == "cpu" else sum(machine.gpus for machine in machines)
    cores = sum(machine.cores for machine in machines)
    held = sum(max(1, machine.memory // max(forecasts)) for machine in machines)
    at_once = max(1, min(len(forecasts), held, gpus or cores))
    each = min(max(1, cores // at_once), max(machine.cores for machine in machines))
    most = max(machine.memory for machine in machines)
    return [Room(each, min(bytes_, most), 1 if gpus else 0) for bytes_ in forecasts]
