"""The exceptions that speak to users."""

import re
import shlex
from pathlib import Path


class UserError(Exception):
    """Bad input: one clear sentence saying what was wrong in which file, what was expected and what to do.

    The command line prints it without a traceback and exits with `exit_code`. Codes: 2 bad input; 3 no whole result
    (`process` placed fewer than half of the photos, or the disk or the memory is full: see below); 130 Ctrl-C, 143
    terminated.
    """

    exit_code = 2


class DiskFull(UserError):
    """Good input, but there is no room for the result. What was whole still is; nothing half-written is left."""

    exit_code = 3


class OutOfMemory(UserError):
    """Good input, but more than the machine holds."""

    exit_code = 3


def command_line(*words: str | Path) -> str:
    """A command to copy: paths are quoted where a shell asks for it."""
    return f"neural3d {shlex.join(map(str, words))}"


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """What Python and torch raise where memory ends, in the user's words; None: it is something else."""
    if not (isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error))):
        return None
    tried = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return OutOfMemory(
        f"not enough memory{f' (asked for {tried[1]} more)' if tried else ''}; take less at a time: fewer samples, "
        "rays or splats (--set), smaller photos (--downscale), a lower --resolution. What was saved before is whole."
    )
