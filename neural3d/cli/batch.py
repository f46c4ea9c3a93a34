"""`neural3d batch`, and its table."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

from neural3d.cli.console import NOWHERE, Device, OutOption, Seed, at_least, console, option, print_table
from neural3d.cli.stopping import patient
from neural3d.disk import require_writable
from neural3d.errors import UserError
from neural3d.lock import Lock

if TYPE_CHECKING:
    from neural3d.batch.book import Book, Job, Options
    from neural3d.batch.needs import Room
    from neural3d.batch.queue import Executor

SOME_FAILED = 3  # exit code
EVERY = 30.0  # seconds between plain lines on what runs


@dataclass
class Batch:
    """Take many captures from photos to exports, as jobs on this machine or on a Ray cluster; goes on where it was.

    Exit code 0 where all are done, 3 where some failed, 2 for bad input.
    """

    captures: Annotated[tuple[str, ...], tyro.conf.Positional, option("CAPTURES ...")] = ()
    """What `train` takes: folders of photos, videos, captures with poses; each is named after its folder or file."""
    out_: OutOption = NOWHERE
    """Folder of the batch: batch.json, and NAME/ with run, exports and log of each. Given again, it goes on."""
    method: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """As in `train`; auto: what suits each capture."""
    steps: Annotated[int | None, option("N")] = None
    """Train each to this step; default: the method's horizon."""
    minutes: Annotated[float | None, option("M")] = None
    """Train each for this long instead. What was interrupted is given the rest, with a schedule of its own."""
    set: Annotated[tuple[str, ...], option("KEY=VALUE ...")] = ()
    """Method settings of all, as in `train`."""
    export: Annotated[str, tyro.conf.arg(metavar="ENDINGS")] = "glb"
    """What to write of each, by endings with commas between, such as glb,ply; of splats, ply is the splats."""
    texture: Annotated[int | None, option("SIZE")] = None
    """Meshes with a texture of SIZE × SIZE texels instead of vertex colours, where the format holds one."""
    address: Annotated[str | None, option("ADDRESS")] = None
    """Ray cluster: ray://HOST:PORT, HOST:PORT or auto. All its machines must have neural3d, and see captures and OUT
    under the same names, or else --share. Default: processes on this machine."""
    share: Annotated[str | None, option("ADDRESS")] = None
    """By which files travel where machines share no folder: any address that fsspec knows, such as s3://BUCKET/NIGHT;
    what it needs (s3fs, gcsfs, …) must be installed on all."""
    device: Device = "auto"
    seed: Seed = 0

    def run(self) -> None:
        from neural3d.batch import queue
        from neural3d.batch.book import open_book
        from neural3d.batch.needs import forecast, shares

        options = self.options()
        book = open_book(self.out_.absolute(), self.captures, options)
        require_writable(book.folder, folder=True)
        with Lock(book.folder / ".lock", book.folder):
            if left := [job for job in book.jobs if job.state != "done"]:
                executor = self.executor()
                rooms = shares(executor.machines, [forecast(job.source, options) for job in left], self.device)
                takes = {job.name: room for job, room in zip(left, rooms)}
                print_plan(book, rooms, len(executor.machines))
                with Report(book) as report, patient() as stopped:
                    queue.run(book, executor, takes, report.tell, report.show, stopped)
        print_table(table(book, book.jobs))
        done = len(book.of("done"))
        if book.of("waiting"):
            raise KeyboardInterrupt(f"{done} of {len(book.jobs)} are done; the same command goes on from here")
        for job in book.of("failed"):
            console.print(f"failed: {job.name}: {job.error}; see {book.folder / job.name / 'log.txt'}")
        console.print(f"done: {done} of {len(book.jobs)}; figures in {book.folder / 'batch.json'}")
        if book.of("failed"):
            sys.exit(SOME_FAILED)

    def options(self) -> Options:
        """Raises UserError for what no job could be done with."""
        from neural3d.batch.book import Options
        from neural3d.batch.needs import method_memory
        from neural3d.files.meshes import TEXTURED, check_format
        from neural3d.files.splats import WRITTEN, ending_of
        from neural3d.priors import PRIORS

        if not self.captures:
            raise UserError("batch needs CAPTURES, folders of photos for one; see neural3d batch --help.")
        if self.out_ == NOWHERE:
            raise UserError("batch needs --out DIR, the folder of the batch; see neural3d batch --help.")
        at_least(**{name: (value, 1) for name in ("steps", "texture") if (value := getattr(self, name)) is not None})
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be positive, not {self.minutes}.")
        if self.minutes and self.steps:
            raise UserError("--minutes and --steps: choose one.")
        if self.share and self.address is None:
            raise UserError("--share is for the machines of a cluster: --address says which.")
        if self.method in PRIORS:
            raise UserError(f"--method {self.method} learns from examples, not from captures; see neural3d train.")
        endings = [word.strip().removeprefix(".") for word in self.export.split(",") if word.strip()]
        for name in (Path(f"export.{ending}") for ending in endings):
            if ending_of(name) not in WRITTEN:
                check_format(name)
        if self.texture and not any(f".{ending}" in TEXTURED for ending in endings):
            raise UserError(f"--texture: none of {self.export} holds one; --export one of {', '.join(TEXTURED)}.")
        options = Options(
            self.method, self.steps or 0, float(self.minutes or 0), list(self.set), endings, self.texture or 0,
            self.device, self.seed,
        )  # fmt: skip
        method_memory(options)  # names and values of --set
        return options

    def executor(self) -> Executor:
        from neural3d.run import resolve_device

        if self.address is not None:
            from neural3d.batch.cluster import Cluster
            from neural3d.batch.share import Share

            return Cluster(self.address, Share(self.share) if self.share else None)
        from neural3d.batch.local import Local, this_machine

        resolve_device(self.device)
        return Local(this_machine(self.device))


def print_plan(book: Book, rooms: list[Room], machines: int) -> None:
    most = max(room.memory for room in rooms) / 2**30
    each = f"{rooms[0].cores} core{'s' if rooms[0].cores > 1 else ''}{', a GPU' if rooms[0].gpus else ''}"
    console.print(
        f"{len(book.jobs)} captures on {machines} machine{'s' if machines > 1 else ''}, {len(book.of('done'))} done "
        f"before; each takes {each} and, by forecast, up to {most:.1f} GiB"
    )


def table(book: Book, jobs: list[Job]) -> Table:
    """A row for each of these jobs."""
    from neural3d.batch.work import last_line

    shown = Table("capture", "state", "attempts", "placed", "PSNR", "seconds", "now, or why not")
    for job in jobs:
        about = job.error
        if job.state == "running":
            about = "waits for room"
            if job.stage:
                about = f"{job.stage} on {job.where}: {last_line(book.folder / job.name)}"
        elif job.state == "done":
            about = ", ".join(job.figures["files"])
        placed = "{placed} of {photos}".format(**job.figures) if job.figures else ""
        psnr = f"{job.figures['psnr']:.2f}" if "psnr" in job.figures else ""
        shown.add_row(job.name, job.state, str(job.attempts), placed, psnr, f"{job.seconds:.0f}", about)
    return shown


class Report:
    """Progress: on a terminal, a table of what runs and failed; elsewhere a line at each change, and now and then."""

    def __init__(self, book: Book):
        self.book, self.last_line = book, time.monotonic()
        self.live: Any = None

    def __enter__(self) -> Report:
        if console.is_terminal:
            from rich.live import Live

            self.live = Live(console=console, get_renderable=self.table, refresh_per_second=2, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def table(self) -> Any:
        shown = table(self.book, [*self.book.of("running"), *self.book.of("failed")])
        shown.caption = self.counts()
        return shown

    def counts(self) -> str:
        states = [job.state for job in self.book.jobs]
        return ", ".join(f"{states.count(s)} {s}" for s in ("done", "running", "waiting", "failed") if s in states)

    def tell(self, job: Job, event: str) -> None:
        if self.live is not None:
            return
        said = {
            "stage": f"{job.stage} on {job.where}, attempt {job.attempts}",
            "done": f"done in {job.seconds:.0f} s",
            "failed": f"failed, to be tried again: {job.error}",
            "given up": f"failed {job.failures} times: {job.error}",
        }[event]
        console.print(f"{job.name}: {said}")

    def show(self) -> None:
        from neural3d.batch.work import last_line

        if self.live is None and time.monotonic() - self.last_line >= EVERY:
            self.last_line = time.monotonic()
            running = (f"{job.name}: {last_line(self.book.folder / job.name)}" for job in self.book.of("running"))
            console.print(" | ".join([self.counts(), *running]))
