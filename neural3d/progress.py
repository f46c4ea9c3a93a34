"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # (what is being done, how much of it is, of how much)


def silent(stage: str, done: int, total: int) -> None:
    """For callers who do not want to know."""
