"""One job, from photos to exports: neural3d's commands, each in a process of its own, on whatever machine this runs.

What is there already is not made again: how far a job is follows from its files, so that it goes on after anything.

DIR/NAME/PHOTOS-capture   poses of photos without, as `train` finds them again
DIR/NAME/run              the run folder
DIR/NAME/NAME.glb, …      exports
DIR/NAME/log.txt          all that the commands said
DIR/NAME/now.json         attempt, stage, machine, process: for who waits elsewhere
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural3d.batch.book import FILE, Options
from neural3d.checkpoint import saved_step
from neural3d.child import PYTHON, environment
from neural3d.disk import write_whole
from neural3d.errors import UserError, command_line
from neural3d.files.meshes import TEXTURED
from neural3d.plain import read_json
from neural3d.scene.objects import holds_captures
from neural3d.sfm.footage import find_footage
from neural3d.sfm.solve import read_report

PROGRAM = [*PYTHON, "-m", "neural3d.cli.leashed"]
NOW = "now.json"
GRACE = 45.0  # seconds that a command has to save and end, which takes one or two
TAIL = 8192  # bytes at the end of a log in which its last words are looked for


@dataclass(frozen=True)
class Task:
    """A job as it is handed to whoever does it. folder: DIR. cores: threads it may use."""

    name: str
    source: Path
    folder: Path
    options: Options
    cores: int
    attempt: int

    @property
    def place(self) -> Path:
        return self.folder / self.name


def work(task: Task, stop: Callable[[], bool] = lambda: False, gpu: int | None = None) -> str:
    """Does what is left of a job; "" or, in one line, what went wrong.

    stop: asked all the time; once true, the command that runs saves and ends, and this returns. gpu: the one to use,
    None: those the environment names.
    """
    if not (task.folder / FILE).exists():
        return f"{task.folder} is not there on {socket.gethostname()}: all machines must see it under this name"
    task.place.mkdir(exist_ok=True)
    surroundings = environment() | {"OMP_NUM_THREADS": str(task.cores)}
    surroundings |= {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    try:
        for stage, words in commands(task):
            if stop() or (error := run_command(task, stage, words, surroundings, stop)):
                return "stopped" if stop() else f"{stage}: {error}"
    except (UserError, OSError) as error:
        return " ".join(str(error).split())
    return ""


def commands(task: Task) -> Iterator[tuple[str, list[str | Path]]]:
    """(stage, the command's words), each as it is due, looking at what the ones before have left."""
    options, run = task.options, task.place / "run"
    same: list[str | Path] = ["--device", options.device]
    photos = None if holds_captures(task.source) else find_footage(task.source)
    capture = task.place / f"{task.source.stem}-capture"
    if photos is not None and read_report(capture) is None:
        yield "process", ["process", task.source, capture, "--seed", str(options.seed)]
    if (length := left(run, options)) is not None:
        if (run / "checkpoint.safetensors").exists():
            yield "train", ["train", "--resume", run, *length, *same]
        else:
            method = ["--method", options.method, "--seed", str(options.seed)]
            settings = ["--set", *options.set] if options.set else []
            yield "train", ["train", task.source, "--out", run, *method, *length, *same, *settings]
    if options.evaluate and not (run / "eval.json").exists():
        yield "eval", ["eval", run, *same]
    for out in exports(task.place, options):
        if not out.exists():
            texture = ["--texture", str(options.texture)] if options.texture and out.suffix in TEXTURED else []
            yield "export", ["export", run, "--out", out, *texture, *same]


def exports(place: Path, options: Options) -> list[Path]:
    return [place / f"{place.name}.{ending}" for ending in options.export]


def left(run: Path, options: Options) -> list[str] | None:
    """Words that say how long `train` is to go on; None: it has ended."""
    if (run / "eval.json").exists():
        return None
    checkpoint = run / "checkpoint.safetensors"
    if options.minutes:
        spent = seconds_trained(run / "metrics.jsonl") / 60 if checkpoint.exists() else 0.0
        rest = options.minutes - spent
        return ["--minutes", f"{rest:.3f}"] if rest > 0.01 * options.minutes else None
    if checkpoint.exists():
        from neural3d.run import read_config

        step = saved_step(checkpoint)
        if step >= (options.steps or read_config(run).method_config().horizon):
            return None
    return ["--steps", str(options.steps)] if options.steps else []


def seconds_trained(metrics: Path) -> float:
    """By all processes together: in metrics.jsonl each begins at 0 again."""
    total = before = 0.0
    with contextlib.suppress(FileNotFoundError):
        for line in metrics.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # half a line, of a process that was killed
                now = float(json.loads(line)["seconds"])
                total += now - before if now >= before else now
                before = now
    return total


def run_command(
    task: Task, stage: str, words: list[str | Path], surroundings: dict[str, str], stop: Callable[[], bool]
) -> str:
    """ "" or the last words of a command that failed. It dies with this process, and is gone when this returns."""
    path = task.place / "log.txt"
    with open(path, "ab") as log:
        log.write(f"$ {command_line(*words)}\n".encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            [*PROGRAM, str(task.place / ".lock"), *map(str, words)], stdin=subprocess.PIPE, stdout=log, stderr=log,
            env=surroundings, start_new_session=True,
        )  # fmt: skip
        try:
            tell_now(task, stage, process.pid)
            while process.poll() is None and not stop():
                time.sleep(0.1)
        finally:
            end(process)
    if process.returncode == 0:
        return ""
    said = path.read_bytes()[begin:].decode(errors="replace")
    return last_words(said, process.returncode)


def end(process: subprocess.Popen) -> None:
    """Lets go of the leash, on which the command saves and ends; kills it, and what it started, where it does not."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def last_words(said: str, code: int) -> str:
    """One line on why a command failed: its own error, or what can be told from how it ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    errors += [line for line in lines if line.endswith("no whole capture")]
    if errors:
        return errors[-1]
    if code == -9:
        return "killed (SIGKILL), as the system does where memory ends"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    return lines[-1] if lines else f"ended with exit code {code}"


def tell_now(task: Task, stage: str, process: int) -> None:
    now = {"attempt": task.attempt, "stage": stage, "host": socket.gethostname(), "process": process}
    write_whole(task.place / NOW, json.dumps(now).encode())


def now(place: Path) -> dict[str, Any]:
    """What `tell_now` wrote last; {}: nothing yet."""
    with contextlib.suppress(FileNotFoundError, UserError):
        return dict(read_json(place / NOW))
    return {}


def last_line(place: Path) -> str:
    """What the job said last."""
    with contextlib.suppress(FileNotFoundError), open(place / "log.txt", "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
        lines = [x.strip() for x in log.read().decode(errors="replace").splitlines() if x.strip()]
        return lines[-1] if lines else ""
    return ""


def figures(task: Task) -> dict[str, Any]:
    """Of a job that is done: photos, placed (those with a pose); psnr, ssim, step of the evaluation; files."""
    found: dict[str, Any] = {}
    if (report := read_report(task.place / f"{task.source.stem}-capture")) is not None:
        found |= {"photos": report.photos, "placed": report.registered}
    else:
        views = read_json(task.place / "run" / "scene.json").get("views", [])
        found |= {"photos": len(views), "placed": len(views)}
    with contextlib.suppress(FileNotFoundError):
        report = read_json(task.place / "run" / "eval.json")
        found |= {key: report["results"][key] for key in ("psnr", "ssim") if key in report["results"]}
        found["step"] = report["checkpoint"]["step"]
    return found | {"files": [str(path.relative_to(task.folder)) for path in exports(task.place, task.options)]}
