"""Mark Kellogg's .ksplat (GaussianSplats3D), read: sections of splats, plain or compressed, in buckets of places.

A header of 4,096 bytes, then one of 1,024 for each section; then, section by section, how many splats the partly filled
buckets hold, the buckets' centres, and the splats: position, scale (linear), rotation (wxyz), colour, harmonics.
Compression 0 has float32, 1 has halves, 2 also harmonics in 8 bits; both store positions as 16 bits within a bucket's
cube. https://github.com/mkkellogg/GaussianSplats3D (MIT); the frame is that of the .ply it was made of.

Arrays are named as the arguments of `neural3d.fields.gaussians.Gaussians`.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from neural3d.errors import UserError
from neural3d.files.quantised import C0, COEFFICIENTS, log_scales, logits_from_bytes, same_degree

HEADER, SECTION = 4096, 1024
FULL_SCALE = 32767  # of 16-bit positions, to either side of a bucket's centre, where a section does not say
SH_RANGE = (-1.5, 1.5)  # of 8-bit harmonics, where a file does not say


def unpack(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """The splats in a file's bytes; `path` is for messages. Raises UserError where it is damaged or of another kind."""
    if len(data) < HEADER or data[0] != 0 or data[1] < 1:
        raise UserError(f"{path} is no .ksplat file of version 0.1; export it again, or as .ply.")
    count, announced = struct.unpack_from("<I", data, 4)[0], struct.unpack_from("<I", data, 16)[0]
    compression = struct.unpack_from("<H", data, 20)[0]
    low, high = struct.unpack_from("<ff", data, 36)
    sh_range = (low, high) if high > low else SH_RANGE
    if compression > 2:
        raise UserError(f"{path}: its header asks for compression {compression}; 0, 1 and 2 are known.")
    at, parts = HEADER + count * SECTION, []
    try:
        for k in range(count):
            arrays, at = _section(data, HEADER + k * SECTION, at, compression, sh_range)
            parts.append(arrays)
    except (struct.error, ValueError, KeyError, IndexError):
        raise UserError(f"{path} is cut off or damaged: its section {k + 1} is not whole; copy it again.") from None
    if not parts or sum(len(part["means"]) for part in parts) < announced:
        raise UserError(f"{path} is cut off: it announces {announced:,} splats and holds fewer; copy it again.")
    same_degree(parts)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _section(
    data: bytes, header: int, at: int, compression: int, sh_range: tuple[float, float]
) -> tuple[dict[str, np.ndarray], int]:
    """The splats of a section whose data begin at `at`, and where they end."""
    n, room, capacity, buckets = struct.unpack_from("<IIII", data, header)
    side, bucket_bytes = struct.unpack_from("<fH", data, header + 16)
    scale, full, partial, degree = struct.unpack_from("<I4xIIH", data, header + 24)
    real = "<f4" if compression == 0 else "<f2"
    place, sh = ("<f4", "<f4") if compression == 0 else ("<u2", "<f2" if compression == 1 else "u1")
    coefficients = COEFFICIENTS[degree]
    layout = np.dtype([
        ("position", place, 3), ("scale", real, 3), ("rotation", real, 4), ("color", "u1", 4),
        ("sh", sh, 3 * coefficients),
    ])  # fmt: skip
    sizes = np.frombuffer(data, "<u4", partial, at)
    centres = np.frombuffer(data, "<f4", buckets * (bucket_bytes // 4), at + 4 * partial)
    start = at + 4 * partial + buckets * bucket_bytes
    table = np.frombuffer(data, layout, n, start)
    means = table["position"].astype(np.float64)
    if compression:
        ends = full * capacity + np.cumsum(sizes, dtype=np.int64)
        splat = np.arange(n)
        in_partial = full + np.searchsorted(ends, splat, "right")
        bucket = np.where(splat < full * capacity, splat // max(1, capacity), in_partial)
        scale = scale or FULL_SCALE
        means = (table["position"] - np.float64(scale)) * (side / 2 / scale) + centres.reshape(buckets, -1)[bucket, :3]
    stored = table["sh"].astype(np.float32)
    if compression == 2:
        stored = (sh_range[0] + stored / 255 * (sh_range[1] - sh_range[0])).astype(np.float32)
    bands = [np.zeros((n, 0, 3), np.float32)]
    for lower, upper in ((0, 3), (3, 8), (8, 15)):  # of each degree all of red, then green, blue
        if lower < coefficients:
            bands.append(stored[:, 3 * lower : 3 * upper].reshape(n, 3, upper - lower).swapaxes(1, 2))
    arrays = {
        "means": means.astype(np.float32),
        "log_scales": log_scales(table["scale"].astype(np.float32)),
        "quats": table["rotation"].astype(np.float32),
        "opacity_logits": logits_from_bytes(table["color"][:, 3]),
        "sh_dc": ((table["color"][:, :3] / 255.0 - 0.5) / C0).astype(np.float32),
        "sh_rest": np.concatenate(bands, 1),
    }
    return arrays, start + room * layout.itemsize
