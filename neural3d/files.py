"""Writing files so that nothing already made is lost."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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
