from dataclasses import dataclass, fields
from typing import Literal

import pytest

from neural3d.cli import merge_settings
from neural3d.config import Count, Layers, override, parse_assignments
from neural3d.errors import UserError
from neural3d.methods import METHODS, method_class


@dataclass(frozen=True)
class Settings:
    width: int = 64
    batch: Count = 32
    levels: Layers = 4
    noise: float = -1.0
    lr: float = 1e-2
    exposure: bool = False
    encoding: Literal["positional", "fourier"] = "positional"


def test_override_reads_text_as_the_fields_type():
    changed = override(Settings(), {"width": "1e2", "lr": "3e-4", "exposure": "true", "encoding": "fourier"}, "--set")
    assert changed == Settings(100, lr=3e-4, exposure=True, encoding="fourier")
    assert isinstance(changed.width, int)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": "3"}, "unknown setting 'widht'; did you mean 'width'"),
        ({"zzzz": "3"}, "known: batch, encoding, exposure, levels, lr, noise, width"),
        ({"width": "3.5"}, "width must be a whole number, not '3.5'"),
        ({"lr": "nan"}, "lr must be a number"),
        ({"lr": "inf"}, "lr must be a number"),
        ({"lr": -1e-3}, "lr must be 0 or more, not -0.001"),
        ({"noise": -2}, "noise must be -1.0 or more"),
        ({"width": -1}, "width must be 0 or more"),
        ({"width": 2**31}, "width must be at most 2147483647"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"levels": "255"}, "levels must be at most 32, not 255"),
        ({"exposure": "maybe"}, "must be true or false"),
        ({"encoding": "sine"}, "must be one of positional, fourier"),
    ],
)
def test_bad_settings_are_a_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        override(Settings(), changes, "--set")


@pytest.mark.parametrize("method", METHODS)
def test_no_setting_of_a_method_may_be_anything(method):
    config = method_class(method).Config()
    numbers = [f.name for f in fields(config) if type(f.default) in (int, float)]
    assert numbers
    for name in numbers:
        for value in (-2, 1e400, *([2**40] if type(getattr(config, name)) is int else [])):
            with pytest.raises(UserError, match=f"{name} must be"):
                override(config, {name: value}, "--set")


def test_assignments():
    assert parse_assignments(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(UserError, match="key=value"):
        parse_assignments(["a"])


def test_set_may_stand_anywhere_and_often():
    words = ["train", "--set", "lr=1", "width=2", "fox", "--out", "x", "--set", "exposure=true"]
    assert merge_settings(words) == ["train", "fox", "--out", "x", "--set", "lr=1", "width=2", "exposure=true"]
    assert merge_settings(["train", "fox"]) == ["train", "fox"]
