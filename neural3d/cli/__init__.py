"""The command line: `neural3d COMMAND`, see COMMANDS.

Each command is a dataclass in a file of its own: its fields are the options, its `run` the work. Heavy imports happen
in `run`, so that `--help` answers at once. What all commands have in common is written down in CONTRIBUTING.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Any

import tyro
from rich.table import Table

from neural3d import __version__
from neural3d.cli.batch import Batch
from neural3d.cli.body import BodyLearn, BodyMake
from neural3d.cli.console import given_once, print_error, print_table
from neural3d.cli.convert import Convert
from neural3d.cli.demo import Demo
from neural3d.cli.denoise import Denoise
from neural3d.cli.evaluate import Eval
from neural3d.cli.export import Export
from neural3d.cli.info import Info
from neural3d.cli.process import Process
from neural3d.cli.reconstruct import Reconstruct
from neural3d.cli.render import Render
from neural3d.cli.sample import Sample
from neural3d.cli.stopping import heard
from neural3d.cli.train import Train
from neural3d.cli.view import View
from neural3d.config import nearest
from neural3d.errors import UserError, out_of_memory

COMMANDS: dict[str, type[Any]] = {
    "demo": Demo, "info": Info, "process": Process, "train": Train, "eval": Eval, "render": Render, "export": Export,
    "view": View, "convert": Convert, "reconstruct": Reconstruct, "sample": Sample,
    "denoise": Denoise, "batch": Batch, "body make": BodyMake, "body learn": BodyLearn,
}  # fmt: skip

SETTINGS = ("--set", "--shape", "--pose")  # options that take any number of NAME=VALUE


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `neural3d` command. Exit codes: see neural3d.errors; 130 after Ctrl-C."""
    atexit.register(gc.freeze)  # Python's last search for garbage, in all that torch made, takes half a second
    with heard():
        run(sys.argv[1:] if arguments is None else arguments)


def run(arguments: list[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name == "body" and rest and not rest[0].startswith("-"):
        name, *rest = f"{name} {rest[0]}", *rest[1:]
    if name in ("-h", "--help"):
        return print_overview()
    if name == "--version":
        from neural3d.ops.native import machine

        return print(f"neural3d {__version__}\n{machine()}")
    try:
        if name not in COMMANDS:
            raise nearest(name, COMMANDS, "command")
        command = tyro.cli(
            COMMANDS[name], prog=f"neural3d {name}", args=merge_settings(rest), config=(tyro.conf.OmitArgPrefixes,)
        )
        given_once(command)
        command.run()
    except UserError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if (said := out_of_memory(error)) is None:
            raise
        print_error(said)
        sys.exit(said.exit_code)
    except BrokenPipeError:  # whoever read the output, `| head` for one, has gone; the interpreter would flush to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def print_overview() -> None:
    shown = Table(box=None, show_header=False, pad_edge=False)
    for name, command in COMMANDS.items():
        shown.add_row(name, (command.__doc__ or "").partition("\n")[0])
    print("usage: neural3d COMMAND IN [OUT] [--options]\n")
    print_table(shown)
    print(
        "\nneural3d COMMAND --help lists a command's options; neural3d --version.\n"
        "exit codes: 0 done, 2 bad input, 3 no whole result (process placed fewer than half of the photos; some of a\n"
        "batch failed; the disk or memory is full), 130 stopped by Ctrl-C"
    )


def merge_settings(arguments: list[str]) -> list[str]:
    """`--set a=1 b=2 … --set c=3` → one `--set a=1 b=2 c=3` at the end: it may stand anywhere, any number of times."""
    rest: list[str] = []
    settings: dict[str, list[str]] = {flag: [] for flag in SETTINGS}
    taking = ""
    for word in arguments:
        if word in settings:
            taking = word
        elif taking and "=" in word and not word.startswith("-"):
            settings[taking].append(word)
        else:
            taking = ""
            rest.append(word)
    return [*rest, *(word for flag, words in settings.items() if words for word in (flag, *words))]
