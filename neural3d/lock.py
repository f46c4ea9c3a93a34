"""One process at a time writes a folder: a lock of the operating system's, which dies with its process.

Readers need none: what they read is replaced whole (see neural3d.disk).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from pathlib import Path
from typing import TextIO

from neural3d.disk import writing
from neural3d.errors import UserError

UNKNOWN_HERE = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}  # file systems without locks: go on without
FAR = 2**30  # on Windows nobody can read bytes that are locked, so one is locked that is not there


class Lock:
    """A file that one process holds, from `acquire` to `release`; it says who does.

    what: is being written, as the error says it.
    """

    def __init__(self, path: Path, what: Path):
        self.path, self.what = path, what
        self._file: TextIO | None = None

    def acquire(self) -> Lock:
        """Does nothing where it is held already by this object. Raises UserError that says who else holds it."""
        if self._file is not None:
            return self
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a+")  # noqa: SIM115 (until `release`)
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in UNKNOWN_HERE:
                raise self._held(file) from None
        with writing(self.path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
            file.flush()
        self._file = file
        return self

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _held(self, file: TextIO) -> UserError:
        with file:
            file.seek(0)
            who = file.read(200) or "another process"
        return UserError(
            f"{self.what} is in use: {who} is writing it. Wait for it, end it (Ctrl-C, or kill), or choose another "
            "folder. Meanwhile a run can be looked at: neural3d view RUN --follow."
        )


if sys.platform == "win32":
    import msvcrt

    def _lock(file: TextIO) -> None:
        os.lseek(file.fileno(), FAR, os.SEEK_SET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
