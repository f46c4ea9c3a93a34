"""Who starts when, and what becomes of those that fail: the same wherever jobs run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from neural3d.batch import work
from neural3d.batch.book import Book, Job
from neural3d.batch.needs import Room
from neural3d.batch.work import Task

TRIES = 3  # failures after which a capture is given up
PAUSE = 2.0  # seconds before a failed job is tried again, after each further failure as much more


class Executor(Protocol):
    """A place where jobs run. machines: what there is, for all jobs together."""

    machines: list[Room]

    def start(self, task: Task, takes: Room) -> bool:
        """Starts `work(task)`, here or elsewhere, now or once there is room; False: ask again later."""

    def ended(self) -> list[tuple[str, str]]:
        """Jobs that ended since this was last asked: the name, and what `work` said, or what befell it."""

    def stop(self) -> None:
        """Ends all jobs, and returns once they have saved and are gone, or are lost."""


def run(
    book: Book,
    executor: Executor,
    takes: dict[str, Room],
    tell: Callable[[Job, str], None] = lambda job, event: None,
    show: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
    pause: float = PAUSE,
    tick: float = 0.2,
) -> None:
    """Does what waits in the book, which is saved at every change; returns when nothing does, or `stop()` turns true.

    takes: by the jobs' names. tell(job, event): event is started, stage, failed (to be tried again), given up or done.
    show: called every `tick` seconds.
    """
    since: dict[str, float] = {}  # when a job began to work
    not_before: dict[str, float] = {}
    for job in book.of("running"):
        job.state = "waiting"
    book.save()
    try:
        while not stop() and (book.of("waiting") or book.of("running")):
            for job in book.of("waiting"):
                if time.monotonic() < not_before.get(job.name, 0.0):
                    continue
                if not executor.start(task_of(book, job, takes[job.name]), takes[job.name]):
                    break  # those behind it must not overtake it for ever
                job.state, job.attempts, job.stage, job.where = "running", job.attempts + 1, "", ""
                book.save()
            for job in book.of("running"):
                follow(book, job, since, tell)
            for name, error in executor.ended():
                job = next(job for job in book.of("running") if job.name == name)
                follow(book, job, since, tell)
                job.seconds += time.monotonic() - since.pop(name, time.monotonic())
                settle(book, job, error, takes[name], tell)
                not_before[name] = time.monotonic() + pause * job.failures
                book.save()
            show()
            time.sleep(tick)
    finally:
        executor.stop()
        for job in book.of("running"):
            job.state = "waiting"
            job.seconds += time.monotonic() - since.get(job.name, time.monotonic())
        book.save()


def task_of(book: Book, job: Job, takes: Room) -> Task:
    """The next attempt."""
    return Task(job.name, job.source, book.folder, book.options, takes.cores, job.attempts + 1)


def follow(book: Book, job: Job, since: dict[str, float], tell: Callable[[Job, str], None]) -> None:
    """Takes over where a job is and what it does, which it writes into its folder."""
    now = work.now(book.folder / job.name)
    if now.get("attempt") == job.attempts and now["stage"] != job.stage:
        since.setdefault(job.name, time.monotonic())
        job.stage, job.where = now["stage"], now["host"]
        book.save()
        tell(job, "stage")


def settle(book: Book, job: Job, error: str, takes: Room, tell: Callable[[Job, str], None]) -> None:
    """What becomes of a job that ended."""
    if not error:
        job.state, job.error = "done", ""
        job.figures = work.figures(task_of(book, job, takes))
        return tell(job, "done")
    job.failures += 1
    job.error = error
    job.state = "failed" if job.failures >= TRIES else "waiting"
    tell(job, "given up" if job.state == "failed" else "failed")
