"""Dataclasses as plain JSON values, and back: what comes from a file is held to the types that the class names."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural3d.config import nearest
from neural3d.errors import UserError

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def read_json(path: Path) -> Any:
    """Raises FileNotFoundError where there is none, and UserError where it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); copy it again, or train anew.") from None


def to_plain(value: Any, without: tuple[str, ...] = ()) -> Any:
    """without: fields of dataclasses that are left out, and have their defaults when read."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        fields = (f.name for f in dataclasses.fields(value) if f.name not in without)
        return {name: to_plain(getattr(value, name), without) for name in fields}
    if isinstance(value, list | tuple):
        return [to_plain(v, without) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v, without) for k, v in value.items()}
    return value


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """What `to_plain` made `value` of. Tensors come as float64.

    kind: a dataclass, a Path, a jaxtyping array of torch's with its shape, a list or dict of these, one of them or
    None, or a plain type. where: names the value in errors, such as "scene.json: views".
    Raises UserError that says which value is of the wrong type, or is missing, or not finite.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (one,) = (a for a in arguments if a is not types.NoneType)
        return None if value is None else from_plain(one, value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if getattr(kind, "array_type", None) is Tensor:
        return _tensor(kind, value, where)
    if kind is Path:
        return Path(from_plain(str, value, where))
    if origin is list and isinstance(value, list):
        return [from_plain(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: from_plain(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if kind is not Any and (origin or type(value) is not kind):
        raise UserError(f"{where} must be {_WORDS.get(origin or kind, 'a list')}, not {_short(value)}.")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be an object, not {_short(value)}.")
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise nearest(name, fields, "key", where)
    for name, field in fields.items():
        if name not in value and field.default is field.default_factory:  # both are MISSING
            raise UserError(f"{where} lacks '{name}'.")
    values = {name: from_plain(hints[name], v, f"{where}: {name}") for name, v in value.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _tensor(kind: Any, value: Any, where: str) -> Tensor:
    try:
        tensor = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        tensor = torch.tensor(torch.nan)
    if not isinstance(tensor, kind) or not tensor.isfinite().all():
        shape = " × ".join(kind.dim_str.split())
        raise UserError(f"{where} must be {shape} finite numbers, not {_short(value)}.")
    return tensor


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
