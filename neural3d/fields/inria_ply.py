"""Splats in a .ply as INRIA's 3D Gaussian splatting writes them (the layout is in `splat_files`), and as others do.

Flat splats have two scales (2D Gaussian splatting); some tools write plain colours in the place of f_dc, as bytes or as
shares of 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neural3d.errors import UserError
from neural3d.fields.ply import Ply
from neural3d.fields.quantised import C0, FLAT, harmonics


def unpack(path: Path, ply: Ply, notes: list[str]) -> dict[str, np.ndarray]:
    """The splats of a file's tables. Raises UserError where these lack what makes a splat."""
    table = ply.tables.get("vertex", np.zeros(0, np.dtype([])))
    names = set(table.dtype.names or ())
    rest = [f"f_rest_{k}" for k in range(sum(name.startswith("f_rest_") for name in names))]
    base = ["f_dc_0", "f_dc_1", "f_dc_2"]
    if "f_dc_0" not in names and {"red", "green", "blue"} <= names:
        base = ["red", "green", "blue"]
    scales = [f"scale_{k}" for k in range(3 if "scale_2" in names else 2)]
    wanted = [*"xyz", *base, *rest, "opacity", *scales, *(f"rot_{k}" for k in range(4))]
    if missing := [name for name in wanted if name not in names]:
        raise UserError(f"{path} is no splat file in INRIA's layout: its vertices lack '{missing[0]}'.")
    if len(rest) not in (0, 9, 24, 45, 72):
        raise UserError(f"{path} has {len(rest)} numbers f_rest a splat; expected 0, 9, 24, 45 or 72 (degree 0 to 4).")

    def columns(*names: str) -> np.ndarray:
        stacked = np.empty((len(table), len(names)), np.float32)
        for k, name in enumerate(names):
            stacked[:, k] = table[name]
        return stacked

    color = columns(*base)
    if base[0] == "red":
        full = 255 if table.dtype["red"].kind in "iu" else 1
        color = (color / np.float32(full) - np.float32(0.5)) / np.float32(C0)
    log_scales = columns(*scales)
    if len(scales) == 2:
        notes.append("Flat splats of two scales: given a thickness of 1/1000 of their smaller width.")
        log_scales = np.concatenate([log_scales, log_scales.min(1, keepdims=True) + np.float32(np.log(FLAT))], 1)
    return {
        "means": columns("x", "y", "z"),
        "log_scales": log_scales,
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "opacity_logits": columns("opacity")[:, 0],
        "sh_dc": color,
        "sh_rest": harmonics(columns(*rest), notes),
    }
