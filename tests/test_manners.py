"""What all commands have in common (CONTRIBUTING, "The command line"), held by a walk through every one of them."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import get_type_hints

import pytest
import torch
import tyro

from neural3d import __version__
from neural3d.cli import COMMANDS, main
from neural3d.cli.console import NOWHERE, OutOption, Output, say_next
from neural3d.ops import native

READS_ONLY = {"eval", "info", "view"}  # eval writes into the run that it reads
OUT_IS_AN_OPTION = {"batch"}  # which takes any number of words


def options_of(command):
    """(field, whether its word is positional) of a command, in order."""
    hints = get_type_hints(command, include_extras=True)
    return [(f, tyro.conf.Positional in getattr(hints[f.name], "__metadata__", ())) for f in fields(command)]


def helped(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_read_comes_first_and_what_is_written_last(name):
    positional = [f.name for f, is_word in options_of(COMMANDS[name]) if is_word]
    flags = [f.name for f, is_word in options_of(COMMANDS[name]) if not is_word]
    hints = get_type_hints(COMMANDS[name], include_extras=True)
    if name in READS_ONLY:
        assert len(positional) == 1 and "out" not in flags
    elif name in OUT_IS_AN_OPTION:
        assert len(positional) == 1 and flags[0] == "out_" and hints["out_"] == OutOption
    else:
        assert positional[-1] == "out" and flags[0] == "out_"
        assert hints["out"] == Output and hints["out_"] == OutOption
    for field, is_word in options_of(COMMANDS[name]):
        assert is_word or field.default is not MISSING, f"{name} --{field.name} must be an option, so left out or given"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name, capsys):
    shown = helped(name, capsys)
    assert f"neural3d {name}" in shown and inspect.getdoc(COMMANDS[name]).partition("\n")[0] in shown
    entries = re.split(r"\n  (?=-)", shown.partition("\n options ")[2])[1:]
    assert len(entries) == 1 + sum(not is_word for _, is_word in options_of(COMMANDS[name]))  # and --help
    for entry in entries:
        text = " ".join(entry.split())
        flag = re.search(r"--\S+", text)[0]
        assert not re.search(r" (INT|FLOAT|STR)\b", text), f"{name} {flag}: N, M or a word says more than a type"
        assert re.fullmatch(r"--[a-z]+(-[a-z]+)*,?", flag), f"{name} {flag}: words with hyphens"
        said = re.sub(r"\(default: .*\)|\{\S*\}|\[.*?\]|(?<!\S)(-|[A-Z])\S*", "", text)
        assert re.search(r"[a-z]{2,} [a-z]", said), f"{name} {flag} has no help"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("stray", [["a", "b", "c", "d"], ["a", "--no-such-option"]])
def test_a_mistake_is_answered_with_the_commands_own_help(name, stray, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, *stray])
    assert ended.value.code == 2
    assert f"neural3d {name} --help" in capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in READS_ONLY | OUT_IS_AN_OPTION])
def test_out_is_the_last_word_or_an_option(name, capsys, monkeypatch):
    given = []
    monkeypatch.setattr(COMMANDS[name], "run", lambda self: given.append(self.out))
    inputs = [f.name for f, is_word in options_of(COMMANDS[name]) if is_word][:-1]
    main([name, *inputs, "x y"])
    main([name, *inputs, "--out", "x y"])
    main([name, "-o", "x y", *inputs])
    assert [str(path) for path in given] == ["x y"] * 3
    with pytest.raises(SystemExit) as ended:
        main([name, *inputs, "x", "--out", "y"])
    assert ended.value.code == 2 and "given twice: x and --out y" in capsys.readouterr().err
    if getattr(COMMANDS[name], "needs_out", True):
        with pytest.raises(SystemExit) as ended:
            main([name, *inputs])
        assert ended.value.code == 2 and f"{name} needs OUT" in capsys.readouterr().err
    else:
        main([name, *inputs])
        assert given[-1] == NOWHERE


@pytest.mark.parametrize(
    "words",
    [
        ["export", "RUN", "--crop", *"001122", "x"],
        ["reconstruct", "RUN", "--between", "a", "b", "x"],
        ["reconstruct", "RUN", "--samples", "3", "x"],
        ["body make", "--shape", "age=0.5", "gender=1", "--pose", "head=1,2,3", "x"],
    ],
)
def test_out_may_follow_options_of_several_values(words, monkeypatch):
    given = []
    monkeypatch.setattr(COMMANDS[words[0]], "run", lambda self: given.append(self))
    main(words)
    assert str(given[0].out) == "x" and getattr(given[0], "file", None) is None


def test_commands_of_two_words(capsys):
    for words in (["body", "make", "--help"], ["body", "learn", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0 and f"neural3d {words[0]} {words[1]}" in capsys.readouterr().out
    for words, said in [(["body"], "did you mean 'body make'"), (["body", "mkae"], "did you mean 'body make'")]:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2 and said in capsys.readouterr().err


def test_alone_it_tells_what_there_is(capsys):
    main([])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", shown, re.M) for name in COMMANDS) and "exit codes" in shown
    main(["--version"])
    first, machine = capsys.readouterr().out.splitlines()
    assert first == f"neural3d {__version__}" and f"torch {torch.__version__}, {native._cpu.isa()} kernels" in machine
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2 and "did you mean 'train'" in capsys.readouterr().err


def test_the_next_command_can_be_copied(capsys, monkeypatch):
    """In one line however long, with its paths quoted."""
    long = "a [red]folder[/red]'s name, of words " * 5
    say_next("train", long, "--out", "b")
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert shlex.split(line) == ["next:", "neural3d", "train", long, "--out", "b"]


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    """`neural3d train --help | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "neural3d.cli", "train", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert ended.returncode == 1 and ended.stderr == ""
