"""What every command shares: the console, how options appear in --help, the progress bar, tables of pairs."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neural3d.errors import UserError, command_line

# What is said names files, and these may be called anything: brackets are no markup, ":car:" is no picture, lines are
# left to the terminal to break, so that a path can be copied. What is to be coloured comes as `coloured`.
AS_IT_IS: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
console = Console(**AS_IT_IS)
NOWHERE = Path()  # of an output that was not given


def option(metavar: str) -> Any:
    """How an option that may be left out appears in --help; its text says what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Device = Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="auto: CUDA where there is such a GPU.")]
Number = Annotated[int, tyro.conf.arg(metavar="N")]
Seed = Annotated[int, tyro.conf.arg(metavar="N", help="Of all that is random: the same seed, the same result.")]
# What a command writes is its last word or --out (see CONTRIBUTING); `given_once` makes one of the two.
Output = Annotated[Path, tyro.conf.Positional, option("OUT")]
OutOption = Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="OUT", help_behavior_hint="")]


def given_once(command: Any) -> None:
    """`out` of a command that writes, given as its last word or by --out. Raises UserError if both, or neither."""
    if not hasattr(command, "out"):
        return
    given = [path for path in (command.out, command.out_) if path != NOWHERE]
    if len(given) > 1:
        raise UserError(f"What to write is given twice: {given[0]} and --out {given[1]}; leave one out.")
    if not given and getattr(command, "needs_out", True):
        raise UserError(f"{_name_of(command)} needs OUT, what to write, as its last word or by --out.")
    command.out = given[0] if given else NOWHERE


def _name_of(command: Any) -> str:
    """BodyMake → body make"""
    return re.sub("(?<=.)([A-Z])", r" \1", type(command).__name__).lower()


def say_next(*words: str | Path) -> None:
    """How to go on, as a command to copy: in one line, paths quoted where a shell asks for it."""
    console.print(f"next: {command_line(*words)}")


def coloured(text: str, style: str = "yellow") -> Text:
    return Text(text, style)


def print_error(error: Exception) -> None:
    Console(stderr=True, **AS_IT_IS).print(coloured("error:", "red"), str(error))


def progress_bar() -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip


class StageProgress:
    """Work of several stages: a bar for each on a terminal; elsewhere a line at its ends and every few seconds.

    Both say how much time is left.
    """

    def __init__(self) -> None:
        self.bar = progress_bar() if console.is_terminal else None
        self.stage, self.began, self.last_line = "", 0.0, 0.0
        self.task: Any = None

    def __enter__(self) -> StageProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """A `neural3d.progress.Progress`."""
        now, new = time.monotonic(), stage != self.stage
        self.stage = stage
        if new:
            self.began = now
        if self.bar is not None:
            if new:
                self.task = self.bar.add_task(stage, total=total)
            self.bar.update(self.task, completed=done, total=total)
        elif new or done == total or now - self.last_line >= 5:
            self.last_line = now
            left = (now - self.began) / max(done, 1) * (total - done)
            print(f"{stage}: {done} of {total}" + (f", {left:.0f} s left" if left >= 1 else ""), flush=True)


def at_least(**options: tuple[float, float]) -> None:
    """name=(value, least). Raises UserError that names the option whose value is smaller."""
    for name, (value, least) in options.items():
        if not value >= least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}.")


def print_pairs(title: str, pairs: list[tuple[str, str]]) -> None:
    console.print(coloured(title, "italic"))  # as a title of the table it would be cut to its width
    shown = Table(show_header=False)
    for label, value in pairs:
        shown.add_row(label, str(value))
    print_table(shown)


def print_table(table: Table) -> None:
    console.print(table, soft_wrap=False)  # cells keep to their columns
