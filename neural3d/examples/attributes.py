"""Attributes of pictures, measured or judged: a table attributes.csv beside them.

    name,roughness,hue
    oak/012.png,0.31,0.08
    oak/013,,0.11

name: a picture by its path in the folder, with or without its ending. Empty cells and pictures without a row are not
known, NaN: a few labelled examples are enough for many uses.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from neural3d.errors import UserError

TABLE = "attributes.csv"


class AttributeTable:
    """What a folder's table says; `found` is false where there is none."""

    def __init__(self, folder: Path):
        """Raises UserError naming the line where the table is damaged."""
        self.folder, self.path = folder, folder / TABLE
        self.names: list[str] = []
        self.rows: dict[str, list[float]] = {}
        self.found = self.path.is_file()
        if not self.found:
            return
        with open(self.path, newline="", encoding="utf-8-sig", errors="replace") as file:
            head, *lines = [*csv.reader(file)] or [[]]
        self.names = [name.strip() for name in head[1:]]
        if not self.names or head[0].strip() != "name" or not all(self.names) or len({*self.names}) < len(self.names):
            raise UserError(f"{self.path}: its first line must be name and the attributes, such as name,roughness,hue.")
        for number, line in enumerate(lines, 2):
            if line:
                self.rows[_key(line[0])] = self._numbers(line, number)

    def _numbers(self, line: list[str], number: int) -> list[float]:
        try:
            values = [float(cell) if cell.strip() else math.nan for cell in line[1:]]
        except ValueError:
            values = []
        if len(values) != len(self.names) or any(map(math.isinf, values)):
            raise UserError(f"{self.path}, line {number}: must hold a name and {len(self.names)} numbers.")
        return values

    def tells(self, picture: Path) -> bool:
        return _key(picture.relative_to(self.folder).as_posix()) in self.rows

    def of(self, pictures: list[Path]) -> Float[np.ndarray, "N A"]:
        """In the order of the pictures; NaN where nothing is known. Raises UserError where no row is of a picture."""
        unknown = [math.nan] * len(self.names)
        if not any(map(self.tells, pictures)):
            raise UserError(f"{self.path}: none of its names is that of a picture; write their paths in the folder.")
        keys = [_key(picture.relative_to(self.folder).as_posix()) for picture in pictures]
        return np.array([self.rows.get(key, unknown) for key in keys], dtype=np.float32)


def _key(name: str) -> str:
    return Path(name.strip()).with_suffix("").as_posix()
