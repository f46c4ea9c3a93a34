"""A partition from the scene to the joined run, as often interrupted as one likes: what is done is not done again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neural3d.batch import queue
from neural3d.batch.book import Book, Options, open_book
from neural3d.batch.needs import Room
from neural3d.batch.queue import Executor
from neural3d.errors import UserError
from neural3d.methods.splat import Splat
from neural3d.partition.join import join
from neural3d.partition.plan import PLAN, read_plan, require_partition, write_cells, write_overview
from neural3d.run import RunConfig, write_json
from neural3d.scene import Scene
from neural3d.scene.stored import write_scene

CHECKPOINT = "checkpoint.safetensors"


def create(folder: Path, config: RunConfig, scene: Scene) -> None:
    """The run's folder, for `go_on`. Raises UserError for what cannot be done in cells."""
    require_partition(config, scene)
    write_json(folder / "config.json", vars(config))
    write_scene(folder / "scene.json", Splat.prepared(scene, config.method_config()))


def go_on(
    folder: Path,
    config: RunConfig,
    scene: Scene,
    device: str,
    executor: Callable[[], Executor],
    watch: Callable[[Book, Callable[..., None]], None],
) -> int:
    """Does what is left, and joins; how many splats there are then.

    executor: makes a place for jobs, one for the overview and one for the cells. watch(book, run): calls run(tell=…,
    show=…, stop=…) with what shows the book's progress. Raises UserError where a job failed, KeyboardInterrupt where
    `stop` ended it.
    """
    options = Options(method="splat", device=device, seed=config.seed, evaluate=False)
    overview, cells = folder / "overview", folder / "cells"

    def finish(place: Path, tomls: list[Path]) -> None:
        book = open_book(place, tomls, options)
        if len(book.of("done")) == len(book.jobs):
            return
        where = executor()
        takes = one_of(where.machines[0])
        watch(book, lambda **how: queue.run(book, where, {job.name: takes for job in book.jobs}, **how))
        for job in book.of("failed"):
            raise UserError(f"{place / job.name}: {job.error}; {place / job.name / 'log.txt'} says more.")
        if book.of("waiting"):
            raise KeyboardInterrupt

    whole, run = overview / "whole.toml", overview / "whole" / "run"
    if not whole.exists():
        write_overview(overview, config, scene)
    finish(overview, [whole])
    if not (cells / PLAN).exists():
        write_cells(cells, run, config, Splat.prepared(scene, config.method_config()))
    plan = read_plan(cells / PLAN)
    finish(cells, [cells / f"{cell.name}.toml" for cell in plan])
    parts = [(cell, cells / cell.name / "run") for cell in plan]
    return join(folder / CHECKPOINT, run, parts, config.method_config().horizon)


def one_of(machine: Room) -> Room:
    """What a job takes so that one runs at a time, or one on each GPU."""
    gpus = max(1, machine.gpus)
    return Room(max(1, machine.cores // gpus), machine.memory // gpus, min(1, machine.gpus))
