"""When a run in training is saved: so often that a kill costs half a minute at most, so cheaply that nobody waits."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from neural3d.checkpoint import Snapshot

OFTEN = 15.0  # seconds between saves, where they are cheap
LATEST = 25.0  # seconds, at most, from one to when the next is whole on the disk; of 30, the rest is for a long step
SHARE = 0.02  # of the training's time that saving may take, as long as LATEST allows it


class Saver:
    """Writes checkpoints on a thread of its own, from copies: training waits for the copy alone.

    saved: the step of the last checkpoint that is whole on the disk; None: there is none. What a write raised is raised
    by the next `due`, `save` or `wait`. The block ends when nothing is being written.
    """

    def __init__(self, path: Path, saved: int | None):
        self.path, self.saved = path, saved
        self._pool = ThreadPoolExecutor(1, "neural3d-save")
        self._writing: Future[tuple[float, float]] | None = None
        self._begun, self._blocked, self._due = 0.0, 0.0, time.perf_counter() + OFTEN

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def due(self) -> bool:
        """Whether it is time for the next save; costs nothing to ask."""
        if self._writing is not None and self._writing.done():
            self.wait()
        return self._writing is None and time.perf_counter() >= self._due

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copies the state and begins to write it."""
        self.wait()
        self._begun = time.perf_counter()
        self._writing = self._pool.submit(self._write, step, Snapshot.of(state))
        self._blocked = time.perf_counter() - self._begun

    def wait(self) -> None:
        """Until what has begun is whole on the disk; then says when the next is due."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        seconds, busy = writing.result()
        self._due = self._begun + interval(self._blocked, seconds, busy, torch.get_num_threads())

    def _write(self, step: int, snapshot: Snapshot) -> tuple[float, float]:
        """Seconds that writing took, and those in which it kept a core busy."""
        begin, busy = time.perf_counter(), time.thread_time()
        snapshot.write(self.path)
        self.saved = step
        return time.perf_counter() - begin, time.thread_time() - busy


def interval(blocked: float, writing: float, busy: float, cores: int) -> float:
    """Seconds from the beginning of one save to that of the next.

    blocked: seconds that training stood still. writing: how long until the file was whole. busy: how long that took
    one of the `cores` from training.
    """
    cost = blocked + busy / cores
    return min(max(OFTEN, cost / SHARE), LATEST - writing)
