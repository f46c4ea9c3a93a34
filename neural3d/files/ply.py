"""Tables of a .ply file: its elements, as far as their rows have one length each, and its comments; text or binary."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from neural3d.errors import UserError

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


@dataclass
class Ply:
    """tables: structured arrays by the names of their elements; an element with lists and what follows are left out."""

    tables: dict[str, np.ndarray] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    lists: bool = False


def read_ply(path: Path, file: BinaryIO) -> Ply:
    """Raises UserError where it is no .ply of splats, or is cut off."""
    kind, elements, comments = _header(path, file)
    tables: dict[str, np.ndarray] = {}
    rows = file if kind == "ascii" else io.BytesIO(file.read())
    for element in itertools.takewhile(lambda element: not element.lists, elements):
        layout = np.dtype([(name, ORDERS[kind] + TYPES[type_]) for name, type_ in element.properties])
        table = (_text if kind == "ascii" else _binary)(path, rows, layout, element.count)
        if len(table) < element.count:
            raise UserError(
                f"{path} is cut off: it announces {element.count:,} splats and holds {len(table):,}; copy it again."
            )
        tables[element.name] = table
    return Ply(tables, comments)


def _header(path: Path, file: BinaryIO) -> tuple[str, list[_Element], list[str]]:
    """The format, the elements and the comments; leaves `file` at the first row."""
    problem = f"{path} is no splat file in INRIA's layout: "
    if file.readline(16).strip() != b"ply":
        raise UserError(f"{problem}it does not begin with 'ply'.")
    kind, comments = "binary_little_endian", []
    elements: list[_Element] = []
    while (line := file.readline(4096).decode("latin-1").strip()) != "end_header":
        match line.split():
            case ["comment", *_]:
                comments.append(line.removeprefix("comment "))
            case ["format", word, _] if word in ORDERS:
                kind = word
            case ["element", name, number] if number.isdigit():
                elements.append(_Element(name, int(number)))
            case ["property", type_, name] if type_ in TYPES and elements:
                elements[-1].properties.append((name, type_))
            case ["property", "list", *_] if elements and elements[-1].name != "vertex":
                elements[-1].lists = True
            case ["obj_info", *_]:
                pass
            case _:
                what = "its header ends early" if not line else f"its header says '{line[:60]}'"
                raise UserError(f"{problem}{what}; export the file again.")
    if any(len(dict(element.properties)) < len(element.properties) for element in elements):
        raise UserError(f"{problem}its header names a property twice; export the file again.")
    return kind, elements, comments


def _binary(path: Path, rows: BinaryIO, layout: np.dtype, count: int) -> np.ndarray:
    data = rows.read(count * layout.itemsize)
    return np.frombuffer(data, layout, len(data) // layout.itemsize) if data else np.zeros(0, layout)


def _text(path: Path, rows: BinaryIO, layout: np.dtype, count: int) -> np.ndarray:
    lines = list(itertools.islice(rows, count))
    try:
        return np.loadtxt(lines, layout, comments=None, ndmin=1) if lines else np.zeros(0, layout)
    except ValueError as error:
        raise UserError(f"{path}: a row of its text is damaged ({error}); export the file again.") from None
