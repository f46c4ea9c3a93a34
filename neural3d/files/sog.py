"""PlayCanvas' SOG: splats as lossless WebP pictures, one texel a splat, beside or zipped with a meta.json.

Positions: 16 bits of sign(x) ln(1 + |x|) between limits, low and high bytes in two pictures. Rotations: the largest of
w, x, y, z is left out (alpha says which), the others have 8 bits. ln scales and colours: places in a codebook of 256
numbers, opacity a byte. Harmonics: a palette of up to 65,536 sets, whose numbers are places in a codebook, and one of
these sets a splat. Version 1 has linear limits instead of codebooks, and opacity as logits.
https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/sog

That page says y is up; the files of SplatTransform, which are nearly all there are, have the frame of the .ply they
were made of, and so have these. Arrays are named as the arguments of `neural3d.fields.gaussians.Gaussians`.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from neural3d.errors import UserError
from neural3d.files.quantised import (
    from_smallest_three,
    logits_from_bytes,
    morton_order,
    opacity_bytes,
    smallest_three,
    to_bytes,
)

LEVELS = 256  # of a codebook
PALETTE = 1 << 16  # sets of harmonics
ROW = 64  # sets in a row of the palette's picture
ROUNDS = 60  # of Lloyd's method
UP = "neural3d_up"  # what we add to meta.json
LARGEST_W = 252  # alpha of a rotation whose largest component is w; x, y and z follow


@dataclass
class Sog:
    """What a file held. up: what our own files say of it."""

    arrays: dict[str, np.ndarray]
    version: int
    antialiased: bool
    up: Any = None
    notes: list[str] = field(default_factory=list)


def is_meta(path: Path) -> bool:
    """Whether a .json file describes splats: captures have such files too."""
    try:
        meta = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(meta, dict) and {"means", "scales", "quats", "sh0"} <= set(meta)


def unpack(path: Path, file: BinaryIO) -> Sog:
    """The splats of a .sog, or of a meta.json with its pictures beside it. Raises UserError where it is damaged."""
    try:
        if path.suffix.lower() == ".json":
            return _unpack(path, json.load(file), lambda name: (path.parent / name).read_bytes())
        with zipfile.ZipFile(file) as bundle:
            return _unpack(path, json.loads(bundle.read("meta.json")), bundle.read)
    except UserError:
        raise
    except Exception as error:  # Pillow, zipfile and json raise what they raise
        raise UserError(f"{path} is no whole SOG file ({error or type(error).__name__}); copy it again.") from None


def _unpack(path: Path, meta: dict[str, Any], load: Callable[[str], bytes]) -> Sog:
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise UserError(f"{path} is a SOG file of version {version}; versions 1 and 2 can be read.")
    n = int(meta["count"] if version == 2 else meta["means"]["shape"][0])

    def picture(name: str, k: int = 0) -> UInt8[np.ndarray, "h w 4"]:
        with Image.open(io.BytesIO(load(meta[name]["files"][k]))) as image:
            return np.asarray(image.convert("RGBA"))

    def texels(name: str, k: int = 0) -> UInt8[np.ndarray, "n 4"]:
        table = picture(name, k).reshape(-1, 4)
        if not 0 <= n <= len(table):
            raise ValueError(f"{meta[name]['files'][k]} has room for {len(table):,} of {n:,} splats")
        return table[:n]

    def numbers(name: str, stored: UInt8[np.ndarray, "... k"]) -> Float[np.ndarray, "... k"]:
        if version == 2:
            return np.asarray(meta[name]["codebook"], np.float32)[stored]
        low, high = (np.asarray(meta[name][end], np.float64) for end in ("mins", "maxs"))
        return (low + (high - low) * (stored / 255)).astype(np.float32)

    low, high = (np.asarray(meta["means"][end], np.float64) for end in ("mins", "maxs"))
    bits = texels("means")[:, :3] + 256 * texels("means", 1)[:, :3].astype(np.int64)
    logarithm = low + (high - low) * (bits / 65535)
    quats, sh0 = texels("quats"), texels("sh0")
    known = quats[:, 3] >= LARGEST_W  # of others no rotation is known; they are left out by whoever called
    rotation = from_smallest_three((quats[:, :3] / 255 - 0.5) * np.sqrt(2), np.where(known, quats[:, 3] - LARGEST_W, 0))
    color = numbers("sh0", sh0 if version == 1 else sh0[:, :3])
    rest = np.zeros((n, 0, 3), np.float32)
    if meta.get("shN"):
        palette, label = picture("shN")[..., :3], texels("shN", 1)[:, :2] @ np.array([1, 256])
        rest = numbers("shN", palette).reshape(-1, palette.shape[1] // ROW, 3)[label]
    return Sog(
        arrays={
            "means": (np.sign(logarithm) * np.expm1(np.abs(logarithm))).astype(np.float32),
            "log_scales": numbers("scales", texels("scales")[:, :3]),
            "quats": rotation * known[:, None].astype(np.float32),
            "opacity_logits": color[:, 3] if version == 1 else logits_from_bytes(sh0[:, 3]),
            "sh_dc": color[:, :3],
            "sh_rest": rest,
        },
        version=version,
        antialiased=bool(meta.get("antialias")) or meta.get("model") == "antialiased",
        up=meta.get(UP),
    )


def pack(arrays: dict[str, np.ndarray], file: BinaryIO, antialiased: bool, up: Sequence[float]) -> None:
    """Writes a .sog of version 2. up: what is up in the splats' frame, of which SOG itself says nothing."""
    order = morton_order(arrays["means"])
    arrays = {name: values[order] for name, values in arrays.items()}
    n, rest = len(order), arrays["sh_rest"]
    width = 4 * max(1, math.ceil(math.sqrt(n) / 4))  # as SplatTransform has it: graphics cards like multiples of 4
    height = 4 * max(1, math.ceil(n / width / 4))
    logarithm = np.sign(arrays["means"]) * np.log1p(np.abs(arrays["means"].astype(np.float64)))
    low, high = (logarithm.min(0), logarithm.max(0)) if n else (np.zeros(3), np.zeros(3))
    bits = np.floor((logarithm - low) / np.where(high > low, high - low, 1) * 65535 + 0.5).astype(np.int64)
    three, largest = smallest_three(arrays["quats"])
    scales, scale_places = codebook(arrays["log_scales"])
    colors, color_places = codebook(arrays["sh_dc"])
    alpha = opacity_bytes(arrays["opacity_logits"])[:, None]
    tables = {
        "means_l.webp": bits & 255,
        "means_u.webp": bits >> 8,
        "scales.webp": scale_places,
        "quats.webp": np.hstack([to_bytes(255 * (three / np.sqrt(2) + 0.5)), LARGEST_W + largest[:, None]]),
        "sh0.webp": np.hstack([color_places, alpha]),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "neural3d"},
        "count": n,
        "antialias": antialiased,
        **({"model": "antialiased"} if antialiased else {}),  # the newer name of the same
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scales, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colors, "files": ["sh0.webp"]},
        UP: list(map(float, up)),
    }
    pictures = {name: _picture(table, width, height) for name, table in tables.items()}
    if rest.shape[1]:
        sets, label = palette(rest.reshape(n, 3 * rest.shape[1]))
        numbers, places = codebook(sets)
        files = ["shN_centroids.webp", "shN_labels.webp"]
        bands = math.isqrt(rest.shape[1] + 1) - 1
        meta["shN"] = {"count": len(sets), "bands": bands, "codebook": numbers, "files": files}
        rows = max(1, math.ceil(len(sets) / ROW))
        pictures[files[0]] = _picture(places.reshape(-1, 3), ROW * rest.shape[1], rows)
        pictures[files[1]] = _picture(np.stack([label & 255, label >> 8, 0 * label], 1), width, height)
    with zipfile.ZipFile(file, "w") as bundle:  # stored: WebP is compressed already; dated 1980, so that bytes repeat
        for name, content in [("meta.json", json.dumps(meta).encode()), *pictures.items()]:
            bundle.writestr(zipfile.ZipInfo(name), content)


def codebook(values: Float[np.ndarray, "..."]) -> tuple[list[float], UInt8[np.ndarray, "..."]]:
    """256 ascending numbers that stand for the values with little squared error, and the place of each value's.

    Lloyd's method ("Least squares quantization in PCM", 1982) on sorted values, begun half way between even steps and
    equal shares of the values. Up to 256 different values stand for themselves.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    levels = np.unique(ordered)
    if len(levels) > LEVELS:
        share = np.linspace(0, 1, LEVELS)
        levels = (np.quantile(ordered, share) + ordered[0] + (ordered[-1] - ordered[0]) * share) / 2
        sums = np.concatenate([[0], np.cumsum(ordered)])
        for _ in range(ROUNDS):
            ends = np.concatenate([[0], np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2), [len(ordered)]])
            count = np.diff(ends)
            levels = np.where(count > 0, np.diff(sums[ends]) / np.maximum(count, 1), levels)
    levels = levels.astype(np.float32).astype(np.float64)  # as whoever reads them will have them
    places = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    return [*levels.tolist(), *[0.0] * (LEVELS - len(levels))], places.astype(np.uint8)


def palette(sets: Float[np.ndarray, "N d"]) -> tuple[Float[np.ndarray, "M d"], Int[np.ndarray, "N"]]:
    """At most 65,536 sets of numbers that stand for the given ones, and which one for each.

    Where there are more, all are halved 16 times, each part at the mean of its most varied number (a k-d tree): k-means
    would be a little nearer, in minutes.
    """
    n = len(sets)
    if n <= PALETTE:
        return sets, np.arange(n)
    part = np.zeros(n, np.int64)
    for level in range(PALETTE.bit_length() - 1):
        mean, square = _moments(sets, part, 1 << level)
        axis = (square - mean**2).argmax(1)
        part = 2 * part + (sets[np.arange(n), axis[part]] > mean[part, axis[part]])
    _, part = np.unique(part, return_inverse=True)
    return _moments(sets, part, part.max() + 1)[0].astype(np.float32), part


def _moments(sets: Float[np.ndarray, "N d"], part: Int[np.ndarray, "N"], parts: int) -> list[np.ndarray]:
    """Of each part the means of its numbers and of their squares."""
    count = np.maximum(np.bincount(part, minlength=parts), 1)[:, None]
    return [np.stack([np.bincount(part, x, parts) for x in power.T], 1) / count for power in (sets, sets**2)]


def _picture(table: np.ndarray, width: int, height: int) -> bytes:
    """Rows of 3 or 4 bytes as lossless WebP; `exact`, since colours under alpha 0 count too."""
    pixels = np.zeros((height * width, table.shape[1]), np.uint8)
    pixels[: len(table)] = table
    content = io.BytesIO()
    Image.fromarray(pixels.reshape(height, width, -1)).save(content, "WEBP", lossless=True, exact=True)
    return content.getvalue()
