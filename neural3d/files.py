"""Writing files so that nothing already made is lost."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from neural3d.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, same ending, to write to; renames it to `path` if the block succeeds.

    Makes the folder; removes what a failed block left. Raises UserError where the disk refuses.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as e:
        why = e.strerror or str(e).splitlines()[0]
        raise UserError(f"{path} cannot be written ({why}); choose another place or free some space.") from e
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


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
