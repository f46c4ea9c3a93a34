"""What a batch is to do and how far it is: DIR/batch.json, written whole at every change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neural3d import __version__
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.loading import resolve
from neural3d.plain import from_plain, read_json, to_plain

State = Literal["waiting", "running", "done", "failed"]
FILE = "batch.json"


@dataclass(frozen=True)
class Options:
    """What is asked for each capture, as `train` and `export` name it. minutes, steps, texture: 0 where not given.

    evaluate: score held-out photos.
    """

    method: str = "auto"
    steps: int = 0
    minutes: float = 0.0
    set: list[str] = field(default_factory=list)
    export: list[str] = field(default_factory=list)
    texture: int = 0
    device: str = "auto"
    seed: int = 0
    evaluate: bool = True


@dataclass
class Job:
    """A capture on its way.

    attempts: how often it was started. failures: those of them that ended by their own fault, since this was last asked
    for. stage: the command that runs, or ran last. where: on which machine. error: of the last failure, in one line.
    seconds: of all attempts. figures: see `work.figures`.
    """

    name: str
    source: Path
    state: str = "waiting"
    attempts: int = 0
    failures: int = 0
    stage: str = ""
    where: str = ""
    error: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Book:
    """folder: DIR, in which each job has a folder of its name."""

    folder: Path
    options: Options
    jobs: list[Job]
    version: str = __version__

    def of(self, state: State) -> list[Job]:
        return [job for job in self.jobs if job.state == state]

    def save(self) -> None:
        content = to_plain(self, without=("folder",))
        write_whole(self.folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def open_book(folder: Path, captures: Iterable[str | Path], options: Options) -> Book:
    """A new batch, or the one in the folder, to go on with: what is done stays so, what failed is tried anew.

    Raises UserError where captures are missing or two have one name, and where the folder holds another batch.
    """
    jobs: dict[str, Job] = {}
    for path in captures:
        source = resolve(path)
        name = source.stem if source.is_file() else source.name
        if (other := jobs.get(name)) is not None:
            raise UserError(f"two captures are called '{name}', {other.source} and {source}: rename one of them.")
        jobs[name] = Job(name, source)
    if not (folder / FILE).exists():
        return Book(folder, options, list(jobs.values()))
    content = read_json(folder / FILE)
    if not isinstance(content, dict):
        raise UserError(f"{folder / FILE}: holds no batch; delete it, or choose another --out.")
    book: Book = from_plain(Book, {**content, "folder": str(folder)}, str(folder / FILE))
    names = [f.name for f in dataclasses.fields(Options)]
    changed = [f"--{n} {getattr(book.options, n)}" for n in names if getattr(book.options, n) != getattr(options, n)]
    others = {job.source for job in book.jobs} ^ {job.source for job in jobs.values()}
    if changed or others:
        what = f"other captures ({min(others)})" if others else f"other options ({', '.join(changed)})"
        raise UserError(f"{folder} holds a batch of {what}; give the same again, or choose another --out.")
    for job in book.jobs:
        if job.state != "done":
            job.state, job.failures, job.error = "waiting", 0, ""
    return book
