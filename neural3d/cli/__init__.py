"""The command line: `neural3d demo | process | train | eval | render | export | reconstruct | convert | view | info`.

Each command is a dataclass in a file of its own: its fields are the options, its `run` the work. Heavy imports happen
in `run`, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated, Any

import tyro

from neural3d.cli.console import print_error
from neural3d.cli.convert import Convert
from neural3d.cli.demo import Demo
from neural3d.cli.evaluate import Eval
from neural3d.cli.export import Export
from neural3d.cli.info import Info
from neural3d.cli.process import Process
from neural3d.cli.reconstruct import Reconstruct
from neural3d.cli.render import Render
from neural3d.cli.train import Train
from neural3d.cli.view import View
from neural3d.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `neural3d` command; exits with 2 on bad input, with 3 where `process` placed under half."""
    atexit.register(gc.freeze)  # Python's last search for garbage, in all that torch made, takes half a second
    arguments = merge_settings(sys.argv[1:] if arguments is None else arguments)
    commands: Any = Annotated[Demo, tyro.conf.subcommand("demo")]
    for name, command in {
        "process": Process, "train": Train, "eval": Eval, "render": Render, "export": Export,
        "reconstruct": Reconstruct, "convert": Convert, "view": View, "info": Info,
    }.items():  # fmt: skip
        commands = commands | Annotated[command, tyro.conf.subcommand(name)]
    command = tyro.cli(commands, prog="neural3d", args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    try:
        command.run()
    except UserError as error:
        print_error(error)
        sys.exit(2)


def merge_settings(arguments: list[str]) -> list[str]:
    """`--set a=1 b=2 … --set c=3` → one `--set a=1 b=2 c=3` at the end: it may stand anywhere, any number of times."""
    rest: list[str] = []
    settings: list[str] = []
    taking = False
    for word in arguments:
        if word == "--set":
            taking = True
        elif taking and "=" in word and not word.startswith("-"):
            settings.append(word)
        else:
            taking = False
            rest.append(word)
    return [*rest, "--set", *settings] if settings else rest
