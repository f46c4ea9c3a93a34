"""Runs that change while they are looked at: in training in this process, or in another one that leaves checkpoints.

Of a run in training only the training thread touches the model: whoever wants a picture leaves its camera and waits
until it is drawn between two steps. So nothing needs a lock, and training goes exactly as it would unwatched.
"""

from __future__ import annotations

import abc
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neural3d.viewer.open import Subject, run_subject
from torch import Tensor

from neural3d.cli.console import console
from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.methods.abilities import Renderable
from neural3d.render import RenderOut
from neural3d.run import Run, load, read_config

if TYPE_CHECKING:
    from neural3d.train import Trainer

CHECKPOINT = "checkpoint.safetensors"
REST, CALM = 0.5, 5.0  # seconds between looks at what changes at least, and how many times as long as painting it took
SHARE = 0.2  # of a training run's time that drawing it may take
Work = Callable[[Callable[[], None]], None]  # trains; its argument is to be called between steps


class Live(abc.ABC):
    """What a render thread asks of a subject that changes."""

    @abc.abstractmethod
    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        """A picture of its present state."""

    @abc.abstractmethod
    def version(self) -> int:
        """Another number whenever it has changed."""

    @abc.abstractmethod
    def status(self) -> str:
        """Where it stands, in a few words."""

    def busy(self) -> bool:
        """Whether drawing keeps somebody from working, so that pictures had better be small."""
        return False

    def pause(self, seconds: float) -> float:
        """How long to leave it alone after a picture that took so many seconds to paint."""
        return max(REST, CALM * seconds)

    def clock(self) -> float:
        """Seconds in which the calling thread was not kept waiting."""
        return time.perf_counter()

    def subject(self, run: Run) -> Subject:
        """The run as a subject that is drawn by `render` alone: its splats may be exchanged at any time."""
        subject = run_subject(run)
        facts = [fact for fact in subject.facts if fact[0] not in ("step", "splats")]
        return replace(subject, kind="field", splats=None, render=self.render, facts=facts, live=self)


class Training(Live):
    """A run in training in this process; `between_steps` draws on the training thread, until `end`."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self._wanted: deque[tuple[Camera, Tensor | None, Future[tuple[RenderOut, float]]]] = deque()
        self._lock, self._over = threading.Lock(), False
        self._due = 0.0  # when drawing may go on
        self._kept = threading.local()  # seconds that each thread was kept waiting

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        begin = time.perf_counter()
        picture: Future[tuple[RenderOut, float]] = Future()
        with self._lock:
            over = self._over
            if not over:
                self._wanted.append((camera, background, picture))
        if over:
            return self._method.render(camera, background)
        out, seconds = picture.result()
        self._kept.seconds = getattr(self._kept, "seconds", 0.0) + time.perf_counter() - begin - seconds
        return out

    def version(self) -> int:
        return self.trainer.step + self._over

    def busy(self) -> bool:
        return not self._over

    def status(self) -> str:
        return f"step {self.trainer.step:,}" + (", trained" if self._over else "")

    def clock(self) -> float:
        return time.perf_counter() - getattr(self._kept, "seconds", 0.0)

    def between_steps(self) -> None:
        """Draws one picture, if one is wanted and drawing has not had its share of the time."""
        if self._wanted and time.perf_counter() >= self._due:
            seconds = self._draw()
            self._due = time.perf_counter() + seconds * (1 / SHARE - 1)

    def end(self) -> None:
        """From now on whoever wants a picture draws it himself."""
        with self._lock:
            self._over = True
        while self._wanted:
            self._draw()
        self.trainer.method.eval()

    @property
    def _method(self) -> Renderable:
        method = self.trainer.method
        assert isinstance(method, Renderable)  # others have no subject, see `training_subject`
        return method

    def _draw(self) -> float:
        """The oldest picture wanted; how long it took."""
        camera, background, picture = self._wanted.popleft()
        begin = time.perf_counter()
        method = self.trainer.method
        try:
            method.eval()
            out = self._method.render(camera, background)
            seconds = time.perf_counter() - begin
            picture.set_result((out, seconds))
        except Exception as error:  # is shown in the picture's place
            picture.set_exception(error)
        finally:
            method.train()
        return time.perf_counter() - begin


class Followed(Live):
    """A run that another process trains: its latest checkpoint, opened when it has changed."""

    def __init__(self, path: Path, device: str):
        self.path, self.device = path, device
        self._lock, self._count = threading.Lock(), 0
        self._stamp = self._now()
        self.run = load(path, device)

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        return self.run.render(camera, background)

    def version(self) -> int:
        with self._lock:
            now = self._now()
            if now != self._stamp:
                with suppress(UserError):  # of a run that begins anew; the next look tells
                    self.run, self._stamp = load(self.path, self.device), now
                    self._count += 1
        return self._count

    def status(self) -> str:
        return f"step {self.run.step:,}"

    def _now(self) -> tuple[int, int]:
        """What changes when a checkpoint is written: it is renamed into its place whole."""
        try:
            found = (self.path / CHECKPOINT).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino


def followed(path: Path, device: str) -> Subject:
    """The subject for `view --follow`; waits for the first checkpoint. Raises UserError where there is no run."""
    read_config(path)
    if not (path / CHECKPOINT).exists():
        console.print(f"waiting for the first checkpoint of {path}; Ctrl-C ends it")
        while not (path / CHECKPOINT).exists():
            time.sleep(0.5)
    live = Followed(path, device)
    return live.subject(live.run)


def training_subject(training: Training) -> Subject:
    """Raises UserError where what is trained cannot be rendered."""
    t = training.trainer
    return training.subject(Run(t.directory, t.config, t.scene, t.method, t.step))


def train_on_web(trainer: Trainer, port: int, work: Work, stop: Callable[[], bool]) -> None:
    """Trains while browsers look on at http://127.0.0.1:PORT; serves the result until `stop()`."""
    from neural3d.viewer.web import Page, told

    training = Training(trainer)
    page = Page(training_subject(training), port)
    try:
        told(page)
        try:
            work(training.between_steps)
        finally:
            training.end()
        while not stop():
            time.sleep(0.1)
    finally:
        page.stop()


def train_in_window(trainer: Trainer, work: Work, stop: Callable[[], bool]) -> None:
    """Trains on a thread of its own while a window shows it; returns when both have ended.

    The window stays open after the training, and the training goes on after the window, until `stop()`.
    """
    from neural3d.viewer.app import Viewer
    from neural3d.viewer.quiet import quiet

    training = Training(trainer)
    failures: list[BaseException] = []

    def train() -> None:
        try:
            work(training.between_steps)
        except BaseException as error:
            failures.append(error)
        finally:
            training.end()

    thread = threading.Thread(target=train, name="neural3d-train")
    with quiet():
        viewer = Viewer(training_subject(training))
        thread.start()
        viewer.run(until=lambda: bool(failures) or (stop() and not thread.is_alive()))
    thread.join()
    if failures:
        raise failures[0]
