"""PlayCanvas' compressed .ply, which SuperSplat writes as .compressed.ply: 16 bytes a splat, and one per harmonic.

Chunks of 256 splats along Morton's curve, each with the least and greatest position, ln scale and colour in it; of a
splat, four words of 32 bits, highest bits first: position and scale x 11, y 10, z 11 bits between those limits;
rotation 2 bits for the largest of w, x, y, z and 10 for each of the others (√½ is full scale); colour and opacity 8
bits each.
Older files have no limits for colours: these are 0 and 1. A third element holds the harmonics, [-4, 4] in 8 bits.
https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/ply

Arrays are named as the arguments of `neural3d.fields.gaussians.Gaussians`, means in double; the frame is that of .ply.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt32

from neural3d.errors import UserError
from neural3d.files.ply import Ply
from neural3d.files.quantised import (
    C0,
    from_smallest_three,
    harmonics,
    logits_from_bytes,
    morton_order,
    opacity_bytes,
    smallest_three,
)

CHUNK = 256
WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
LIMITS = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
THIRDS = ((21, 11), (11, 10), (0, 11))  # of x, y, z in their word: lowest bit, bits
COLORS = ((24, 8), (16, 8), (8, 8), (0, 8))
QUARTERS = ((20, 10), (10, 10), (0, 10))
WIDEST = 20.0  # ln scales beyond ±20 are held there, as PlayCanvas does, so that one splat does not coarsen its chunk
REACH = 4.0  # of harmonics


def is_compressed(ply: Ply) -> bool:
    return "chunk" in ply.tables and set(WORDS) <= set(_names(ply.tables.get("vertex")))


def unpack(path: Path, ply: Ply, notes: list[str]) -> dict[str, np.ndarray]:
    """The splats of a file's tables. Raises UserError where these do not fit each other."""
    chunks, vertex, sh = ply.tables["chunk"], ply.tables["vertex"], ply.tables.get("sh")
    n = len(vertex)
    wanted = [f"{end}_{axis}" for axes in LIMITS[:2] for end in ("min", "max") for axis in axes]
    columns = len(_names(sh))
    if (
        not set(wanted) <= set(_names(chunks))
        or len(chunks) != -(-n // CHUNK)
        or columns % 3
        or any(f"f_rest_{k}" not in _names(sh) for k in range(columns))
        or (sh is not None and len(sh) != n)
    ):
        raise UserError(f"{path}: its chunks do not fit its {n:,} splats; export the file again.")
    chunk = np.arange(n) // CHUNK

    def between(axes: tuple[str, ...], shares: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        if f"min_{axes[0]}" not in _names(chunks):
            return shares
        low, high = (np.stack([chunks[f"{end}_{axis}"] for axis in axes], 1)[chunk] for end in ("min", "max"))
        return low * (1 - shares) + high * shares

    words = {name: np.asarray(vertex[name], np.uint32) for name in WORDS}
    position, scale = (_shares(words[name], THIRDS) for name in ("packed_position", "packed_scale"))
    color = _shares(words["packed_color"], COLORS)
    rotation = (_shares(words["packed_rotation"], QUARTERS) - 0.5) * np.sqrt(2)
    planes = np.zeros((n, 0), np.float32)
    if sh is not None:
        stored = np.stack([sh[f"f_rest_{k}"] for k in range(columns)], 1).astype(np.float32)
        middle = (stored + 0.5) / 256  # 0 and 255 stand for the ends themselves
        share = np.where(stored == 0, 0, np.where(stored == 255, 1, middle))
        planes = ((share - 0.5) * 2 * REACH).astype(np.float32)
    return {
        "means": between(LIMITS[0], position).astype(np.float64),
        "log_scales": between(LIMITS[1], scale).astype(np.float32),
        "quats": from_smallest_three(rotation, (words["packed_rotation"] >> np.uint32(30)).astype(np.int64)),
        "opacity_logits": logits_from_bytes((words["packed_color"] & np.uint32(255)).astype(np.uint8)),
        "sh_dc": ((between(LIMITS[2], color[:, :3]) - 0.5) / C0).astype(np.float32),
        "sh_rest": harmonics(planes, notes),
    }


def pack(arrays: dict[str, np.ndarray], comments: list[str]) -> tuple[bytes, list[str]]:
    """The bytes of a file, and what it could not hold, in words."""
    order = morton_order(arrays["means"])
    arrays = {name: values[order].astype(np.float64) for name, values in arrays.items()}
    n = len(order)
    starts = np.arange(0, n, CHUNK)
    scale = arrays["log_scales"].clip(-WIDEST, WIDEST)
    values = (arrays["means"], scale, 0.5 + C0 * arrays["sh_dc"])
    limits, shares = [], []
    for value in values:
        ends = [end.reduceat(value, starts).astype(np.float32) if n else value for end in (np.minimum, np.maximum)]
        low, high = (end.astype(np.float64)[np.arange(n) // CHUNK] for end in ends)
        limits += ends
        shares.append(((value - low) / np.where(high > low, high - low, 1)).clip(0, 1))
    three, largest = smallest_three(arrays["quats"])
    rotation = largest.astype(np.uint32) << np.uint32(30) | _word(three / np.sqrt(2) + 0.5, QUARTERS)
    alpha = opacity_bytes(arrays["opacity_logits"])[:, None] / 255
    words = [_word(shares[0], THIRDS), rotation, _word(shares[1], THIRDS), _word(np.hstack([shares[2], alpha]), COLORS)]
    rest = arrays["sh_rest"].swapaxes(1, 2).reshape(n, 3 * arrays["sh_rest"].shape[1])
    header = [
        *("ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)),
        f"element chunk {len(starts)}",
        *(f"property float {end}_{axis}" for axes in LIMITS for end in ("min", "max") for axis in axes),
        *(f"element vertex {n}", *(f"property uint {name}" for name in WORDS)),
        *([f"element sh {n}", *(f"property uchar f_rest_{k}" for k in range(rest.shape[1]))] if rest.shape[1] else []),
        *("end_header", ""),
    ]
    parts = [np.hstack(limits).astype("<f4"), np.stack(words, 1).astype("<u4")]
    parts.append(np.floor((rest / (2 * REACH) + 0.5) * 256).clip(0, 255).astype(np.uint8))
    beyond = float((np.abs(rest) > REACH).any(1).mean()) if rest.size else 0.0
    lost = f"{beyond:.1%} of the splats have harmonics beyond ±4, which a .compressed.ply cannot say."
    return "\n".join(header).encode() + b"".join(part.tobytes() for part in parts), [lost] if beyond > 0.001 else []


def _names(table: np.ndarray | None) -> tuple[str, ...]:
    return () if table is None else table.dtype.names or ()


def _shares(word: UInt32[np.ndarray, "N"], parts: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "N k"]:
    """Each part of a word as a share of the greatest number it can hold."""
    return np.stack([(word >> np.uint32(low) & np.uint32(2**bits - 1)) / (2**bits - 1) for low, bits in parts], 1)


def _word(shares: Float[np.ndarray, "N k"], parts: tuple[tuple[int, int], ...]) -> UInt32[np.ndarray, "N"]:
    word = np.zeros(len(shares), np.uint32)
    for k, (low, bits) in enumerate(parts):
        word |= np.floor(shares[:, k].clip(0, 1) * (2**bits - 1) + 0.5).astype(np.uint32) << np.uint32(low)
    return word
