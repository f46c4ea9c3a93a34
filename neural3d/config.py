"""Flat configurations: one frozen dataclass per method, overridden by `key=value`, misspellings answered helpfully."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from neural3d.errors import UserError

C = TypeVar("C")

# Numbers of a configuration with their range; one without is at least 0, or its default where that is less.
MOST = 2**31 - 1  # of every whole number
Count = Annotated[int, 1, MOST]  # what there must be one of
Layers = Annotated[int, 0, 32]  # each costs memory and time of its own
Width = Annotated[int, 1, 4096]  # of layers


def nearest(word: str, known: Iterable[str], what: str, where: str = "") -> UserError:
    """The error for an unknown name: names the nearest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    remedy = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}."
    return UserError(f"{where}{': ' if where else ''}unknown {what} '{word}'; {remedy}")


def override(config: C, changes: dict[str, Any], where: str) -> C:
    """A copy of `config` with `changes` applied; values may be strings, read as the field's type.

    Raises UserError naming `where` (a file, or --set) for an unknown key or a value of the wrong kind or out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    types = typing.get_type_hints(type(config), include_extras=True)
    parsed = {}
    for key, value in changes.items():
        if key not in fields:
            raise nearest(key, fields, "setting", where)
        parsed[key] = _read(value, types[key], fields[key].default, f"{where}: {key}")
    return dataclasses.replace(config, **parsed)  # type: ignore[type-var]


def parse_assignments(pairs: Iterable[str]) -> dict[str, str]:
    """['a=1', 'b=x'] → {'a': '1', 'b': 'x'}."""
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set expects key=value, not '{pair}'.")
        changes[key.strip()] = value.strip()
    return changes


def _read(value: Any, kind: Any, default: Any, where: str) -> Any:
    if typing.get_origin(kind) is Annotated:
        kind, *limits = typing.get_args(kind)
    elif kind in (int, float):
        limits = [min(0, default), MOST if kind is int else math.inf]
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None
    if choices is not None:
        if value not in choices:
            raise UserError(f"{where} must be one of {', '.join(map(str, choices))}, not '{value}'.")
        return value
    if kind is bool:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
        raise UserError(f"{where} must be true or false, not '{value}'.")
    if kind in (int, float):
        try:
            number = float(value)
            if isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            noun = "a whole number" if kind is int else "a number"
            raise UserError(f"{where} must be {noun}, not '{value}'.") from None
        least, most = limits
        if not least <= number <= most:
            wanted = f"{least} or more" if number < least else f"at most {most}"
            raise UserError(f"{where} must be {wanted}, not {value}.")
        return kind(number)
    return str(value)
