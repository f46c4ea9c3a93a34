"""Niantic's .spz: splats in about a tenth of a .ply's bytes. Reads versions 2 to 4, writes version 3.

A header, then attribute by attribute: positions (24-bit fixed point), opacities, colours, ln of the scales, rotations,
harmonics (8 bits each); all of it gzipped, or in version 4 each attribute with zstd. https://github.com/nianticlabs/spz

Frame: x right, y up, z backward. Arrays are named as the arguments of `neural3d.fields.gaussians.Gaussians`.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from neural3d.errors import UserError
from neural3d.files.quantised import (
    CUT,
    from_smallest_three,
    logits_from_bytes,
    opacity_bytes,
    smallest_three,
    to_bytes,
)

MAGIC = 0x5053474E  # "NGSP"
SH_BITS = (5, 4)  # kept of the coefficients of degree 1, and above: the format's default, for compression
COLOR = 0.15  # f_dc · 0.15 + ½ is the stored byte / 255: room for colours beyond [0, 1]


@dataclass
class Spz:
    """What a file held."""

    arrays: dict[str, np.ndarray]
    version: int
    antialiased: bool
    notes: list[str] = field(default_factory=list)


def unpack(path: Path, data: bytes) -> Spz:
    """The splats in a file's bytes; `path` is for messages. Raises UserError where it is damaged or of another kind."""
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{path} is cut off or damaged: it cannot be decompressed; copy it again.") from None
    if len(data) < 16 or struct.unpack_from("<I", data)[0] != MAGIC:
        raise UserError(f"{path} is no .spz file: it does not begin with 'NGSP'.")
    version, n, degree, fraction, flags, streams = struct.unpack_from("<IIBBBB", data, 4)
    if version not in (2, 3, 4):
        raise UserError(f"{path} is an .spz file of version {version}; versions 2, 3 and 4 can be read.")
    if degree > 4 or fraction > 30:
        raise UserError(f"{path}: its header asks for degree {degree} and {fraction} fractional bits; it is damaged.")
    coefficients = (degree + 1) ** 2 - 1
    widths = [9, 1, 3, 3, 3 if version == 2 else 4, 3 * coefficients]
    if version == 4:
        parts = _streams(path, data, [n * w for w in widths], streams)
    else:
        body = io.BytesIO(data[16:])
        parts = [body.read(n * w) for w in widths]
    if any(len(part) < n * w for part, w in zip(parts, widths)):
        raise UserError(f"{path} is cut off: it announces {n:,} splats and holds fewer; copy it again.")
    positions, alphas, colors, scales, rotations, harmonics = (
        np.frombuffer(part, np.uint8).reshape(n, w) for part, w in zip(parts, widths)
    )
    p = positions.reshape(n, 3, 3).astype(np.int32)
    fixed = (p[..., 0] << 8 | p[..., 1] << 16 | p[..., 2] << 24) >> 8  # the last shift carries the sign
    rest = (harmonics.reshape(n, coefficients, 3).astype(np.float32) - 128) / 128
    notes: list[str] = []
    if degree == 4:
        notes.append(CUT)
    arrays: dict[str, np.ndarray] = {
        "means": (fixed / np.float64(1 << fraction)).astype(np.float32),
        "log_scales": scales / np.float32(16) - np.float32(10),
        "quats": _three_bytes(rotations) if version == 2 else _smallest_three(rotations),
        "opacity_logits": logits_from_bytes(alphas[:, 0]),
        "sh_dc": (colors / np.float32(255) - np.float32(0.5)) / np.float32(COLOR),
        "sh_rest": rest[:, :15],
    }
    return Spz(arrays, version, bool(flags & 1), notes)


def _streams(path: Path, data: bytes, sizes: list[int], streams: int) -> list[bytes]:
    """Version 4: a table of (compressed, plain) sizes, then each attribute by itself, compressed with zstd."""
    try:
        import zstandard
    except ImportError:
        raise UserError(
            f"{path} is an .spz file of version 4, which needs zstandard: pip install 'neural3d[spz4]'."
        ) from None
    wanted = [size for size in sizes if size]
    try:
        table = struct.unpack_from("<I", data, 16)[0]
        entries = [struct.unpack_from("<QQ", data, table + 16 * k) for k in range(streams)]
        if [plain for _, plain in entries] != wanted:
            raise UserError(f"{path}: its {streams} streams do not fit the number of its splats; it is damaged.")
        at, parts = table + 16 * streams, []
        for packed, plain in entries:
            parts.append(zstandard.ZstdDecompressor().decompress(data[at : at + packed], max_output_size=plain))
            at += packed
    except (struct.error, zstandard.ZstdError):
        raise UserError(f"{path} is cut off or damaged: it cannot be decompressed; copy it again.") from None
    found = iter(parts)
    return [next(found) if size else b"" for size in sizes]


def _three_bytes(packed: UInt8[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 4"]:
    """Version 2: x, y, z of a unit quaternion with w ≥ 0, as wxyz."""
    xyz = packed / np.float32(127.5) - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1)


def _smallest_three(packed: UInt8[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """Version 3: which of x, y, z, w is largest (2 bits, and it is positive), then the others: sign, 9 bits of √½."""
    bits = packed.reshape(-1, 4).astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16, 1 << 24], np.uint32)
    fields = np.stack([bits >> np.uint32(low) & np.uint32(1023) for low in (20, 10, 0)], 1)
    three = np.where(fields & 512, -1, 1) * (fields & 511) * (np.sqrt(0.5) / 511)
    return np.roll(from_smallest_three(three, bits >> np.uint32(30)), 1, axis=1)


def _pack_smallest_three(wxyz: Float[np.ndarray, "N 4"]) -> UInt8[np.ndarray, "N 4"]:
    three, largest = smallest_three(np.roll(wxyz, -1, axis=1))
    fields = np.floor(np.abs(three) * (511 / np.sqrt(0.5)) + 0.5).clip(0, 511).astype(np.uint32)
    fields |= (three < 0).astype(np.uint32) << np.uint32(9)
    bits = largest.astype(np.uint32)
    for field_ in fields.T:
        bits = bits << np.uint32(10) | field_
    return bits.astype("<u4").view(np.uint8).reshape(-1, 4)


def pack(path: Path, arrays: dict[str, np.ndarray], antialiased: bool) -> tuple[bytes, list[str]]:
    """The bytes of a file of version 3, and what it could not hold, in words."""
    n = len(arrays["means"])
    reach = float(np.abs(arrays["means"]).max(initial=0.01))
    if not reach < 1 << 23:
        raise UserError(f"{path}: splats as far as {reach:.3g} from the origin do not fit .spz; write .ply instead.")
    # Steps of 1/4096 or finer, the scene at least 2¹⁷ of them wide, as far as 24 bits hold it.
    fraction = min(max(12, 17 - int(np.log2(reach))), int(np.log2(((1 << 23) - 1) / reach)))
    fixed = np.floor(arrays["means"].astype(np.float64) * (1 << fraction) + 0.5).astype("<i4")
    scales = (arrays["log_scales"] + 10) * 16
    harmonics = np.floor(arrays["sh_rest"].astype(np.float64) * 128 + 0.5) + 128
    degree = {0: 0, 3: 1, 8: 2, 15: 3}[harmonics.shape[1]]
    step = np.array([1 << (8 - SH_BITS[k >= 3]) for k in range(harmonics.shape[1])]).reshape(1, -1, 1)
    payload = [
        struct.pack("<IIIBBBB", MAGIC, 3, n, degree, fraction, int(antialiased), 0),
        np.ascontiguousarray(fixed[..., None].view(np.uint8)[..., :3]).tobytes(),
        opacity_bytes(arrays["opacity_logits"]).tobytes(),
        to_bytes((COLOR * arrays["sh_dc"].astype(np.float64) + 0.5) * 255).tobytes(),
        to_bytes(scales).tobytes(),
        _pack_smallest_three(arrays["quats"]).tobytes(),
        (np.floor((harmonics + step / 2) / step) * step).clip(0, 255).astype(np.uint8).tobytes(),
    ]
    outside = float(((scales < 0) | (scales > 255)).any(1).mean()) if n else 0.0
    lost = f"{outside:.1%} of the splats are thinner or wider than .spz can say (4.5e-5 to 380 units)."
    return gzip.compress(b"".join(payload), 6, mtime=0), [lost] if outside > 0.001 else []
