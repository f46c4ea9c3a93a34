"""Writing files so that nothing already made is lost, and so that a full disk is a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from neural3d.errors import DiskFull, UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FULL = "the disk or its quota is full"
TOO_LARGE = "no file may be so large there"  # by a limit, or by FAT32
MIB = 2**20
PAGE, PIECE = 4096, 64 * MIB  # bytes: of what disks and memory exchange; that are written at a time


@contextlib.contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Whatever the system says against writing to `path` in this block becomes a UserError; no room, a DiskFull.

    The end of memory stays a MemoryError. size: bytes that will be written, as far as known: with less room than that
    the block does not even begin.
    """
    try:
        require_room(path, size)
        yield
    except OSError as e:
        if e.errno in NO_ROOM:
            raise no_room(path, size, TOO_LARGE if e.errno == errno.EFBIG else FULL) from e
        if e.errno == errno.ENOMEM:  # for a writer in a process of its own, such as ffmpeg: no fault of the place
            raise MemoryError(str(e)) from e
        why = e.strerror or (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"{path} cannot be written ({why}); choose another place.") from e


@contextlib.contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[Path]:
    """Yields a path beside `path`, same ending, to write to; renames it to `path` if the block succeeds.

    Makes the folder; removes what a failed block left. size, errors raised: as in `writing`.
    """
    part = _part(path)
    with writing(path, size):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def require_writable(path: Path, size: int = 0, folder: bool = False) -> None:
    """Raises UserError, before any work, where nothing could be written to `path`: tries, and leaves nothing.

    size: bytes it will take, as far as known: DiskFull where they are not free. folder: `path` is to be one.
    """
    with writing(path):
        if path.exists() and path.is_dir() != folder:
            raise UserError(f"{path} is a {'file' if folder else 'folder'} already; choose another name.")
        inside = path / "trial" if folder and path.exists() else path
        trial = _part(_existing(inside.parent) / inside.name)
        try:
            trial.open("xb").close()
        finally:
            with contextlib.suppress(OSError):
                trial.unlink()
    require_room(path, size)  # last: /proc and its like have none either, but that is not what is wrong


def _part(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def write_whole(path: Path, data: bytes) -> None:
    """Readers see the old file or the new one, never half of one, even if the machine loses its power."""
    with replacing(path, len(data)) as part:
        part.write_bytes(data)
        to_disk(part)


def write_pages(path: Path, data: memoryview) -> None:
    """Writes what begins at a page of the memory onto the disk itself, past the system's cache where that can be done.

    To copy hundreds of MiB into the cache costs a core ten times as much as to have the disk fetch them.
    """
    whole = len(data) // PAGE * PAGE  # only pages may go past the cache
    try:
        _write_through(path, data[:whole], getattr(os, "O_DIRECT", 0))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _write_through(path, data[:whole])  # the file system has not heard of it
    with open(path, "ab") as file:
        file.write(data[whole:])
    to_disk(path)


def _write_through(path: Path, data: memoryview, flags: int = 0) -> None:
    with open(path, "wb", 0, opener=lambda name, usual: os.open(name, usual | flags, 0o666)) as file:
        at = 0
        while at < len(data):
            at += file.write(data[at : at + PIECE])


def to_disk(path: Path) -> None:
    """Returns when the file's content is on the disk itself."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def remove_parts(path: Path) -> None:
    """Removes what killed processes left of `path`. Only for who knows that nobody else is writing it."""
    for part in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):
        part.unlink(missing_ok=True)


def require_room(path: Path, size: int) -> None:
    """Raises DiskFull where fewer than `size` bytes are free for `path`."""
    if size and free_space(path) < size:
        raise no_room(path, size)


def free_space(path: Path) -> int:
    """Bytes that may still be written to `path`, which need not be there yet."""
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def no_room(path: Path, size: int = 0, why: str = FULL) -> DiskFull:
    """The error for a full disk or quota: says where, how much is free, and how much is needed where that is known."""
    needed = f", and it needs {size / MIB:,.1f}" if size else ""
    return DiskFull(
        f"{path} cannot be written, {why}: {free_space(path) / MIB:,.1f} MiB are free in "
        f"{_existing(path.parent)}{needed}. What was there before is still whole; free some space, or choose another "
        "place."
    )


@contextlib.contextmanager
def written_behind(threads: int = 2) -> Iterator[Callable[..., None]]:
    """Yields `later(function, *arguments)`: threads call the function, so that whoever renders need not wait for disks.

    Compression lets go of Python's lock. Only a few calls may wait, which bounds the memory. The block ends when all
    are done, and raises what one of them raised.
    """
    with ThreadPoolExecutor(threads, "neural3d-write") as pool:
        waiting: deque[Future] = deque()

        def later(function: Callable, *arguments: object, **named: object) -> None:
            if len(waiting) > threads:
                waiting.popleft().result()
            waiting.append(pool.submit(function, *arguments, **named))

        yield later
        while waiting:
            waiting.popleft().result()
