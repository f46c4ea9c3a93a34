"""Splats in a .ply as INRIA's 3D Gaussian splatting writes them (the layout is in `splat_files`), and as others do.

Flat splats have two scales (2D Gaussian splatting); some tools write plain colours in the place of f_dc, as bytes or as
shares of 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.files.ply import Ply
from neural3d.files.quantised import C0, FLAT, harmonics
from neural3d.geometry.offset import as_text, from_text

UP, OFFSET = "neural3d up ", "offset "  # beginnings of comments
MIP = "SplatRenderMode: mip"  # a comment of Brush, which SplatTransform writes too: made for Mip-Splatting's filter
Direction = tuple[float, float, float]


def unpack(path: Path, ply: Ply, notes: list[str]) -> dict[str, np.ndarray]:
    """The splats of a file's tables; means in double. Raises UserError where these lack what makes a splat."""
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
        "means": np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1),
        "log_scales": log_scales,
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "opacity_logits": columns("opacity")[:, 0],
        "sh_dc": color,
        "sh_rest": harmonics(columns(*rest), notes),
    }


def pack(arrays: dict[str, np.ndarray], comments: list[str]) -> bytes:
    n = len(arrays["means"])
    rest = arrays["sh_rest"].swapaxes(1, 2).reshape(n, 3 * arrays["sh_rest"].shape[1])
    names = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{k}" for k in range(3)), *(f"f_rest_{k}" for k in range(rest.shape[1]))]
    names += ["opacity", *(f"scale_{k}" for k in range(3)), *(f"rot_{k}" for k in range(4))]
    header = [
        *("ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)),
        *(f"element vertex {n}", *(f"property float {name}" for name in names), "end_header", ""),
    ]
    normals, opacity = np.zeros((n, 3)), arrays["opacity_logits"][:, None]
    blocks = [arrays["means"], normals, arrays["sh_dc"], rest, opacity, arrays["log_scales"], arrays["quats"]]
    return "\n".join(header).encode() + np.concatenate(blocks, axis=1, dtype="<f4").tobytes()


def comments(*, up: Sequence[float], offset: Float[np.ndarray, "3"], antialiased: bool) -> list[str]:
    """What the numbers do not say: lines of a .ply's header."""
    said = [f"{UP}{up[0]:.9g} {up[1]:.9g} {up[2]:.9g}"]
    return said + [f"{OFFSET}{as_text(offset)}"] * bool(offset.any()) + [MIP] * antialiased


def said_in(comments: list[str]) -> tuple[Direction | None, Float[np.ndarray, "3"], bool]:
    """What is up, the offset and whether antialiased, as far as comments say so, of our own files and others'."""
    ups = (direction(c.removeprefix(UP).split()) for c in comments if c.startswith(UP))
    offsets = (from_text(c.removeprefix(OFFSET)) for c in comments if c.startswith(OFFSET))
    up = next((up for up in ups if up is not None), None)
    return up, next((offset for offset in offsets if offset is not None), np.zeros(3)), MIP in comments


def direction(values: Iterable | None) -> Direction | None:
    """Three numbers, or words of such, where they are that and no zero vector."""
    with contextlib.suppress(ValueError, TypeError):
        x, y, z = (float(value) for value in values or ())
        if 0 < x * x + y * y + z * z < np.inf:
            return x, y, z
    return None
