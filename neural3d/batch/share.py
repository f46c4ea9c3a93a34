"""Files for machines that share no folder: they travel through an address that fsspec knows (s3://, gs://, sftp://, …).

At the address lie `captures/`, what the jobs read, and a folder for each job, as in the batch's own. Whoever works on a
job fetches both to a folder of its own, and sends what changes back every SEND_EVERY seconds and at the end, so that
another machine goes on from there; the batch's own machine fetches what a job says meanwhile, and all of it at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neural3d.batch import work
from neural3d.batch.book import FILE
from neural3d.batch.work import Task
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.plain import read_json

SEND_EVERY, LOOK_EVERY = 20.0, 5.0  # seconds
CAPTURES = "captures"
ORIGIN = "home.json"  # beside a job's files: where these lay where they were written
MOVED = ("run/config.json", "run/scene.json")  # name files by their whole paths
LIVE = (work.NOW, "log.txt")  # what a job says while it runs


class Share:
    """A folder at an address. Raises UserError where what its kind needs is not installed, or it can't be read."""

    def __init__(self, address: str):
        import fsspec

        self.address = address
        try:
            self.files, self.root = fsspec.core.url_to_fs(address)
            self.files.exists(self.root)
        except ImportError as error:
            raise UserError(f"--share {address}: {error}.") from None
        except Exception as error:  # each kind of address has its own
            said = f"--share {address} cannot be reached ({_line(error)}); check it, and what it asks of you."
            raise UserError(said) from None
        self._sent: dict[str, tuple[int, int]] = {}

    def place(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def send(self, source: Path, name: str) -> None:
        """A file, or a folder's files that have changed since this object sent or fetched them; locks are left out.

        Whole: readers see a file as it was or as it is. Raises UserError where it can't be written.
        """
        for path in sorted(_files(source), key=lambda p: p.name == work.NOW):  # what says how far it is, last
            to = self.place(name if path == source else f"{name}/{path.relative_to(source).as_posix()}")
            with contextlib.suppress(FileNotFoundError):  # was replaced meanwhile, by what the next round sends
                about = path.stat().st_mtime_ns, path.stat().st_size
                if self._sent.get(to) == about:
                    continue
                with self._told(f"{to} cannot be written"):
                    self.files.makedirs(to.rpartition("/")[0], exist_ok=True)
                    self.files.put_file(str(path), f"{to}.part")
                    self.files.mv(f"{to}.part", to)
                self._sent[to] = about

    def fetch(self, name: str, folder: Path, only: tuple[str, ...] = (), fixed: bool = False) -> None:
        """What there is under a name into `folder` (a file, where it is one).

        only: these files of it. fixed: what is here and as long is not fetched again.
        """
        root = self.place(name)
        with self._told(f"{root} cannot be read"):
            if not self.files.exists(root):
                return
            for path, about in self.files.find(root, detail=True).items():
                within = path[len(root) :].lstrip("/")
                to = folder / within if within else folder
                if path.endswith(".part") or (only and within not in only):
                    continue
                if fixed and to.exists() and to.stat().st_size == about["size"]:
                    continue
                part = to.with_name(f".{to.name}.{os.getpid()}.part")
                to.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.files.get_file(path, str(part))
                    os.replace(part, to)
                finally:
                    part.unlink(missing_ok=True)
                self._sent[path] = to.stat().st_mtime_ns, to.stat().st_size

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file's content; {} where there is none."""
        with self._told(f"{self.place(name)} cannot be read"), contextlib.suppress(FileNotFoundError, ValueError):
            return dict(json.loads(self.files.cat_file(self.place(name))))
        return {}

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (UserError, FileNotFoundError):
            raise
        except Exception as error:
            raise UserError(f"--share {self.address}: {what} ({_line(error)}).") from error


def _files(source: Path) -> list[Path]:
    """Of a folder, without hidden ones, also through links; the file itself, where it is one."""
    if source.is_file():
        return [source]
    walked = os.walk(source, followlinks=True)
    return sorted(Path(folder, name) for folder, _, names in walked for name in names if name[0] != ".")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def captured(source: Path) -> str:
    """The name of a capture at the address: another one where its files are others."""
    listed = "\n".join(f"{p.relative_to(source)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in _files(source))
    return f"{CAPTURES}/{hashlib.sha256(listed.encode()).hexdigest()[:12]}/{source.name}"


def entrust(share: Share, task: Task) -> str:
    """Sends what a job reads; the name of its capture at the address."""
    capture = captured(task.source)
    share.send(task.source, capture)
    share.send(task.folder / FILE, FILE)
    return capture


def bring(share: Share, job: str, place: Path, source: Path) -> None:
    """A job's files to `place`, where its capture is at `source`: the paths in them are those of here."""
    share.fetch(job, place)
    home = read_json(place / ORIGIN) if (place / ORIGIN).exists() else {}
    moves = [(home[key], str(new)) for key, new in (("source", source), ("place", place)) if home.get(key)]
    for path in (place / name for name in MOVED):
        if path.exists():
            write_whole(path, json.dumps(_moved(read_json(path), moves), indent=1).encode())


def _moved(value: Any, moves: list[tuple[str, str]]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(v, moves) for key, v in value.items()}
    if isinstance(value, list):
        return [_moved(v, moves) for v in value]
    if isinstance(value, str):
        for old, new in moves:
            if value == old or value.startswith(old + os.sep):
                return new + value[len(old) :]
    return value


def work_away(task: Task, address: str, capture: str) -> str:
    """`work.work` of a job whose files come from, and go back to, an address. capture: see `captured`."""
    try:
        share = Share(address)
        folder = Path(tempfile.gettempdir()) / f"neural3d-batch-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
        here = dataclasses.replace(task, folder=folder, source=folder / capture)
        share.fetch(capture, here.source, fixed=True)
        share.fetch(FILE, folder / FILE)
        bring(share, task.name, here.place, here.source)
        write_whole(here.place / ORIGIN, json.dumps({"source": str(here.source), "place": str(here.place)}).encode())
        work.tell_now(here, "files", os.getpid())
        share.send(here.place, task.name)
        with _sending(share, here) as outrun:
            return work.work(here, outrun)
    except UserError as error:
        return " ".join(str(error).split())


@contextlib.contextmanager
def _sending(share: Share, task: Task) -> Iterator[Callable[[], bool]]:
    """Sends the job's files back now and then, and at the end; yields whether a later attempt has the job now."""
    over, outrun = threading.Event(), threading.Event()

    def send() -> None:
        if share.read(f"{task.name}/{work.NOW}").get("attempt", 0) > task.attempt:
            outrun.set()  # this machine was given up as lost, and another goes on
        else:
            share.send(task.place, task.name)

    def now_and_then() -> None:
        while not over.wait(SEND_EVERY):
            with contextlib.suppress(UserError):  # the last one must succeed
                send()

    thread = threading.Thread(target=now_and_then, daemon=True)
    thread.start()
    try:
        yield outrun.is_set
    finally:
        over.set()
        thread.join()
        send()
