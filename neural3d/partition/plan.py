"""From a scene to its cells: an overview of few splats, by which the ground is cut, and what each cell is to train on.

Cells begin with the overview, as in CityGaussian (Liu et al., ECCV 2024): it also stands for all that is around a cell
and seen in its photos, which would else be explained by fog before the lens. Of a photo a cell trains on the window in
which the overview shows it. Each cell sees each of its photos as often as one run of the whole would, and so all that
is counted in steps is in the cell a share of that: its photos by all photos.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural3d.batch.needs import PROCESS
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.loading import resolve
from neural3d.methods.seeds import within
from neural3d.methods.splat import Splat, SplatConfig
from neural3d.partition.cut import cut
from neural3d.partition.sight import Window, painted, windows
from neural3d.plain import from_plain, read_json
from neural3d.run import RunConfig, load, write_json
from neural3d.scene import Scene
from neural3d.scene.options import read_toml
from neural3d.scene.photos import available_memory

PLAN = "plan.json"
FEWEST_CELLS = 4
LARGER = 1.5  # about how much more a cell takes with its margin and what is around it, than its share of the whole
OVERVIEW_PIXELS, OVERVIEW_SHRINK = 1 << 14, 3  # of a photo in the overview, about; and how much smaller at least
OVERVIEW_STEPS = 0.5  # of the horizon
STEPS = ("horizon", "densify_from", "densify_every", "reset_every", "sh_every")  # settings that are counted in steps


@dataclass
class Cell:
    """name: of RUN/cells/NAME. ground: its own, where its splats are joined. photos: how many see it. work: its share,
    with the margin, of all that photos see."""

    name: str
    ground: list[list[float]]
    photos: int
    work: float


def require_partition(config: RunConfig, scene: Scene) -> None:
    """Raises UserError for what cannot be done in cells."""
    settings, count = config.method_config(), len(scene.split["train"])
    if settings.refine_poses:
        raise UserError("partition=true: cells would move their cameras apart; leave refine_poses out.")
    if config.deterministic:
        raise UserError("partition=true trains by the usual reductions; leave --deterministic out.")
    if settings.cells == 1:
        raise UserError("cells=1 is no partition; leave partition=true out, or give at least 2.")
    if settings.start:
        raise UserError("partition=true: cells start with an overview of their own; leave start out.")
    cells = cells_of(scene, settings)
    if count < 2 * cells:
        raise UserError(
            f"{scene.path}: {count} training photos are too few for {cells} cells, which take 2 each; leave "
            "partition=true out, or give fewer cells."
        )


def cells_of(scene: Scene, settings: SplatConfig) -> int:
    """How many: as asked for; else so many that one at a time fits in half of the memory that is free."""
    if settings.cells:
        return settings.cells
    photos = sum(3 * camera.width * camera.height for camera in scene.cameras("train"))
    room = max(available_memory() / 2 - PROCESS, PROCESS / 4)
    return max(FEWEST_CELLS, math.ceil(LARGER * (photos + Splat.most_memory(settings)) / room))


def write_overview(folder: Path, config: RunConfig, scene: Scene) -> Path:
    """The scene of all photos, made small, as RUN/overview/whole.toml."""
    settings = config.method_config()
    pixels = max(camera.width * camera.height for camera in scene.cameras("train"))
    shrink = max(OVERVIEW_SHRINK, math.ceil(math.sqrt(pixels / OVERVIEW_PIXELS)))
    changes = {
        **in_steps(settings, OVERVIEW_STEPS),
        "max_splats": max(1000, settings.max_splats // (4 * cells_of(scene, settings))),
        "random_points": max(1000, settings.random_points // 4),
    }
    return write_scene_toml(folder / "whole.toml", config, {"downscale": scene.downscale * shrink}, changes)


def write_cells(folder: Path, overview: Path, config: RunConfig, scene: Scene) -> None:
    """The cells as RUN/cells/1.toml and so on, and then plan.json.

    overview: its run. scene: with pinholes, as the cells will see it.
    """
    settings = config.method_config()
    method = load(overview, "cpu").method
    assert isinstance(method, Splat)
    cameras = [v.camera.resized(*small_size(v.camera.width, v.camera.height)) for v in training(scene)]
    xy, work = method.splats.means.detach()[:, :2], painted(method, cameras)
    if not work.any():
        raise UserError(f"{scene.path}: the overview shows nothing in any photo; check the poses with neural3d info.")
    grounds = cut(xy, work, cells_of(scene, settings))
    seen = windows(method, cameras, [wider for _, wider in grounds])
    cells = []
    for k, (ground, wider) in enumerate(grounds):
        found = [(v, c, row[k]) for v, c, row in zip(training(scene), cameras, seen)]
        rows = [
            [v.name, *scaled(w, v.camera.width / c.width, v.camera.height / c.height, v.camera)]
            for v, c, w in found
            if w is not None
        ]
        if not rows:
            raise UserError(f"{scene.path}: cell {k + 1} of {len(grounds)} is in no photo; give fewer cells.")
        inside = within(xy, wider)
        share = float(work[inside].sum() / work.sum())
        times = len(rows) / len(cameras)
        changes = in_steps(settings, times)
        changes["max_splats"] = max(1000, round(share * settings.max_splats)) + int((~inside).sum())
        changes["start"] = str(overview)
        part = {"downscale": scene.downscale, "cell": wider.tolist(), "windows": rows}
        cell = Cell(str(k + 1), ground.tolist(), len(rows), share)
        write_scene_toml(folder / f"{cell.name}.toml", config, part, changes)
        cells.append(cell)
    write_json(folder / PLAN, [vars(cell) for cell in cells])


def in_steps(settings: SplatConfig, times: float) -> dict[str, Any]:
    """What is counted in steps, of a run of so many times the steps."""
    return {name: max(1, round(times * getattr(settings, name))) for name in STEPS}


def training(scene: Scene) -> list:
    return [scene.views[i] for i in scene.split["train"]]


def small_size(width: int, height: int) -> tuple[int, int]:
    """About as large as the overview's photos."""
    shrink = max(1.0, math.sqrt(width * height / OVERVIEW_PIXELS))
    return max(1, round(width / shrink)), max(1, round(height / shrink))


def scaled(window: Window, by_x: float, by_y: float, camera: Any) -> Window:
    left, top, right, bottom = window
    ends = min(camera.width, math.ceil(right * by_x)), min(camera.height, math.ceil(bottom * by_y))
    return math.floor(left * by_x), math.floor(top * by_y), *ends


def write_scene_toml(path: Path, config: RunConfig, options: dict[str, Any], changes: dict[str, Any]) -> Path:
    """A scene of the same capture with other options and settings."""
    source, said = resolve(config.scene), dict[str, Any]()
    if source.suffix == ".toml":
        source, said, _ = read_toml(source)
    said = {k: v for k, v in (said | config.scene_options | options).items() if v is not None}
    settings = config.settings | changes | {"partition": False, "cells": 0}
    lines = [f"# A part of {config.scene}, for `neural3d train`.", f"path = {toml(str(source))}", "", "[scene]"]
    lines += [f"{key} = {toml(value)}" for key, value in said.items()]
    lines += ["", "[method.splat]", *(f"{key} = {toml(value)}" for key, value in settings.items())]
    write_whole(path, "\n".join([*lines, ""]).encode())
    return path


def toml(value: Any) -> str:
    """Numbers, words and lists are the same in JSON."""
    return json.dumps(value, ensure_ascii=False)


def read_plan(path: Path) -> list[Cell]:
    """Raises UserError where it is missing or damaged."""
    try:
        return [from_plain(Cell, entry, str(path)) for entry in read_json(path)]
    except (FileNotFoundError, TypeError):
        raise UserError(f"{path}: missing or damaged; partition anew, into another folder.") from None
