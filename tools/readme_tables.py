"""Writes README's table of the captures that are read anew, from `neural3d.scene.readers.READERS`.

python tools/readme_tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from neural3d.scene.readers import READERS

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- captures: written by tools/readme_tables.py -->\n", "<!-- end of captures -->\n"


def captures() -> str:
    rows = [f"| {reader.programs} | `{name}` | {reader.files} |" for name, reader in READERS.items()]
    return "\n".join(["| captures of | reader | by these files |", "| --- | --- | --- |", *rows]) + "\n"


def with_tables(text: str) -> str:
    return re.sub(f"({re.escape(BEGIN)}).*?({re.escape(END)})", lambda m: m[1] + captures() + m[2], text, flags=re.S)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
