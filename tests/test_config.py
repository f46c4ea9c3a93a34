from dataclasses import dataclass
from typing import Literal

import pytest

from neural3d.cli import merge_settings
from neural3d.config import override, parse_assignments
from neural3d.errors import UserError


@dataclass(frozen=True)
class Settings:
    width: int = 64
    lr: float = 1e-2
    exposure: bool = False
    encoding: Literal["positional", "fourier"] = "positional"


def test_override_reads_text_as_the_fields_type():
    changed = override(Settings(), {"width": "1e2", "lr": "3e-4", "exposure": "true", "encoding": "fourier"}, "--set")
    assert changed == Settings(100, 3e-4, True, "fourier")
    assert isinstance(changed.width, int)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": "3"}, "unknown setting 'widht'; did you mean 'width'"),
        ({"zzzz": "3"}, "known: encoding, exposure, lr, width"),
        ({"width": "3.5"}, "width must be a whole number, not '3.5'"),
        ({"lr": "nan"}, "lr must be a number"),
        ({"exposure": "maybe"}, "must be true or false"),
        ({"encoding": "sine"}, "must be one of positional, fourier"),
    ],
)
def test_bad_settings_are_a_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        override(Settings(), changes, "--set")


def test_assignments():
    assert parse_assignments(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(UserError, match="key=value"):
        parse_assignments(["a"])


def test_set_may_stand_anywhere_and_often():
    words = ["train", "--set", "lr=1", "width=2", "fox", "--out", "x", "--set", "exposure=true"]
    assert merge_settings(words) == ["train", "fox", "--out", "x", "--set", "lr=1", "width=2", "exposure=true"]
    assert merge_settings(["train", "fox"]) == ["train", "fox"]
