"""`python -m neural3d.cli.leashed LOCK COMMAND…`: a command on a leash, its standard input, for `neural3d.batch.work`.

Whoever holds the other end lets go, or dies, even by SIGKILL: then the command ends as by `kill`, its state saved.
LOCK is a file that is held meanwhile, so that a job that goes on elsewhere waits until the last of the earlier
processes has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.lock import Lock

PATIENCE = 20.0  # seconds to save and end, before it is interrupted, wherever it stands
FREE_WITHIN = 60.0  # seconds in which an earlier process must be gone


def watch(leash: int) -> None:
    while os.read(leash, 1):
        pass
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)


def held(path: Path) -> Lock:
    """The lock, once it is free. Raises UserError where that takes too long."""
    begin = time.monotonic()
    while True:
        try:
            return Lock(path, path.parent).acquire()
        except UserError:
            if time.monotonic() - begin > FREE_WITHIN:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    leash, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # what the command starts must not read from the leash
    threading.Thread(target=watch, args=[leash], daemon=True).start()
    try:
        lock = held(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
    with lock:
        main(sys.argv[2:])
