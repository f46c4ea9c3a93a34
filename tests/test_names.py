"""Names of files are said as they are, whatever they hold: rich's markup, its pictures, many letters."""

import io
import shlex

import pytest
import toy
import trimesh
from rich.console import Console
from rich.text import Text

from neural3d.cli import console, main
from neural3d.cli.console import coloured, print_error
from neural3d.errors import UserError

NAME = "a [red]b[/red] [bold] :car: [/] with much behind it, longer than lines are on most terminals there are"
TINY = ["--method", "ngp", "--steps", "1", "--device", "cpu", "--set", "log2_table=10", "levels=2", "horizon=1"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / NAME).mkdir(parents=True)  # a path, too: what closes a colour has a slash
    return tmp_path / NAME


def said(capsys, *arguments):
    """What a command prints, and its exit code."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return printed.out + printed.err, code


def test_commands_on_a_run(folder, capsys):
    """train, info, eval and export name the folder whole; so do the errors of what is missing."""
    capture = toy.ball_capture(folder / "ball", train=6, test=2, size=24)
    text, code = said(capsys, "train", capture, "--out", folder / "run", *TINY)
    assert code == 0 and f"run folder {folder}/run" in text
    assert str(capture) in said(capsys, "info", capture)[0]
    assert str(folder / "run") in said(capsys, "info", folder / "run")[0]
    assert f"written to {folder}/run/eval.json" in said(capsys, "eval", folder / "run")[0]
    text, code = said(capsys, "export", folder / "run", folder / "out.ply", "--resolution", "32")
    assert (
        f"{folder}/out.ply: " in text
        and f"neural3d train --resume {shlex.quote(str(folder / 'run'))}" in text
        and code == 0
    )
    text, code = said(capsys, "train", "--resume", folder / "run", "--steps", "1")
    assert f"{folder}/run: already at step 1" in text and code == 2
    (capture / "train/000.png").unlink()
    text, code = said(capsys, "info", capture)
    assert f"{capture}/train/000 is missing" in text and code == 2


def test_commands_on_photos_and_meshes(folder, capsys):
    text, code = said(capsys, "process", folder, folder / "out")
    assert f"{folder} holds no photos" in text and code == 2
    toy.ball_capture(folder / "ball", train=3, test=1)
    (folder / "[b]photos[").mkdir()
    (folder / "ball/train").rename(folder / "[b]photos[/b]")
    text, code = said(capsys, "info", folder / "[b]photos[/b]")
    assert shlex.join(["neural3d", "process", f"{folder}/[b]photos[/b]"]) in text and code == 0
    trimesh.creation.box().export(folder / "box.ply")
    assert str(folder / "box.ply") in said(capsys, "info", folder / "box.ply")[0]
    text, code = said(capsys, "export", folder / "none", folder / "out.glb")
    assert f"{folder}/none" in text and code == 2


def test_colours_come_only_from_us(monkeypatch, capsys):
    """On a terminal, too: what is coloured is what was asked for, and the bar shows its text as it is."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=40, **console.AS_IT_IS)
    terminal.print(coloured("warning:"), NAME)
    terminal.print(coloured("note", "red") + ": " + NAME)
    shown = terminal.file.getvalue()
    assert [Text.from_ansi(line).plain for line in shown.splitlines()] == [f"warning: {NAME}", f"note: {NAME}"]
    assert shown.startswith("\x1b[33mwarning:\x1b[0m")
    print_error(UserError(NAME))
    assert capsys.readouterr().err == f"error: {NAME}\n"
    monkeypatch.setattr(console, "console", terminal)
    with console.progress_bar() as bar:
        bar.add_task(NAME, total=1)
    plain = Text.from_ansi(terminal.file.getvalue()).plain
    assert "[red]b[/red] [bold] :car: [/]" in " ".join(plain.split())
