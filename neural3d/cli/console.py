"""What every command shares: the console, how options appear in --help, the progress bar, tables of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)
Device = Literal["auto", "cpu", "cuda"]


def option(metavar: str) -> Any:
    """How an option that may be left out appears in --help; its text says what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


def progress_bar() -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )


def print_pairs(title: str, pairs: list[tuple[str, str]]) -> None:
    shown = Table(title=title, show_header=False, title_justify="left")
    for label, value in pairs:
        shown.add_row(label, str(value))
    console.print(shown)
