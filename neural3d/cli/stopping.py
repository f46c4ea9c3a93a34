"""Ctrl-C and `kill`: the one place where the command line hears them.

Both interrupt what runs; what was being written is removed on the way (neural3d.disk), and the command ends with 130
for Ctrl-C, 143 for `kill`. Training is given the time to end between two steps and to save.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

_received = 0  # the number of the last signal
_patient = False


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Around a whole command. A KeyboardInterrupt's own words, such as how to go on, are told at the end."""
    global _received
    _received = 0
    previous = {number: signal.signal(number, _hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as stop:
        told = f"stopped; {stop}" if str(stop) else "stopped; what was whole stays, nothing half-written is left"
        Console(stderr=True, highlight=False).print(told, markup=False, soft_wrap=True)
        sys.exit(128 + (_received or signal.SIGINT))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def patient() -> Iterator[Callable[[], bool]]:
    """Around work that looks by itself, with what this yields, whether to stop. A second signal interrupts it, too."""
    global _patient
    _patient = True
    try:
        yield lambda: _received != 0
    finally:
        _patient = False


def _hear(number: int, frame: Any) -> None:
    global _received
    first, _received = not _received, number
    if not (first and _patient):
        raise KeyboardInterrupt
