"""The whole path with default commands: photos to cameras, scene, scores, textured mesh and film. Poses are thrown away.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_captures.py --out runs/captures
    NEURAL3D_DATA=../shared/data python benchmarks/bench_captures.py fox plush --harder half lens shrunk portrait
    python benchmarks/bench_captures.py /somewhere/photos --out runs/mine

Nothing is set per capture: `--minutes` of training, the same for all, is the only number. Commands run as a user runs
them, each a program of its own. Tilt is the angle between the model's up and that of the given poses, after the best
similarity between both sets of cameras. OUT/table.md: the table; OUT/sheet.jpg: of each capture a held-out photo, the
same view of the scene and of the textured mesh, and a frame of the film.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import machine, table
from harder import HARDER
from PIL import Image

from neural3d.render.images import save_png

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
SHOWN = 320  # pixels of a picture's longer side in the contact sheet


@dataclass
class Photos:
    """A set of photos, by name below DATA; `truth`: what knows their poses, where anything does."""

    files: str
    truth: str | None = None
    beside: tuple[str, ...] = ()  # files that belong to the photos


SETS = {
    "fox": Photos("fox/images/*", "fox"),
    "plush": Photos("plush_mit/images/*", "plush_mit"),
    "sceaux": Photos("sceaux_castle/images/*", beside=("sceaux_castle/K.txt",)),
    "temple": Photos("middlebury_templeSparseRing/*.png", "middlebury_templeSparseRing"),
    "dtu24": Photos("dtu_scan24_monosdf/*_rgb.png", "dtu_scan24_monosdf"),
    "lego": Photos("nerf_synthetic_lego/train/*.png", "nerf_synthetic_lego"),
    "stool": Photos("synth_stool_cc0/train/*.png", "synth_stool_cc0"),
}


def copy_photos(name: str, folder: Path) -> None:
    """The photos alone, as they are, into a new folder."""
    folder.mkdir(parents=True)
    if name not in SETS:
        for path in sorted(Path(name).iterdir()):
            if path.is_file():
                shutil.copy(path, folder)
        return
    for pattern in (SETS[name].files, *SETS[name].beside):
        for path in sorted(DATA.glob(pattern)):
            shutil.copy(path, folder)


def run(*arguments: str | Path, log: Path) -> tuple[int, float]:
    """One command: its exit status and seconds; what it says goes to the log."""
    start = time.perf_counter()
    with log.open("a") as file:
        file.write(f"$ neural3d {' '.join(map(str, arguments))}\n")
        file.flush()
        command = [sys.executable, "-m", "neural3d.cli", *map(str, arguments)]
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    return status, time.perf_counter() - start


def tilt(capture: Path, truth: Path) -> float:
    """Degrees between what is up in the capture's scene and in that of the given poses."""
    from bench_process import poses_of

    from neural3d.scene import load_scene
    from neural3d.scene.align import similarity

    found, known = poses_of(capture), poses_of(truth)
    ups = []
    for folder in (capture, truth):
        up = np.linalg.inv(load_scene(folder).scene_from_capture.numpy())[:3, 2]
        ups.append(up / np.linalg.norm(up))
    names = sorted(found.keys() & known.keys())
    turn, _, _ = similarity(np.stack([known[n] for n in names]), np.stack([found[n] for n in names]))
    return float(np.degrees(np.arccos(np.clip(ups[1] @ turn @ ups[0], -1, 1))))
