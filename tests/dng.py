"""A camera raw file written by hand: a DNG of one uncompressed mosaic whose camera sees linear sRGB."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
LAYOUT = {BYTE: "B", SHORT: "H", LONG: "L", RATIONAL: "2L", SRATIONAL: "2l"}
CAMERA_FROM_XYZ = (3.2404542, -1.5371385, -0.4985314, -0.969266, 1.8760108, 0.041556, 0.0556434, -0.2040259, 1.0572252)


def write_dng(path: Path, srgb: UInt8[np.ndarray, "height width 3"], orientation: int = 1) -> Path:
    """The picture as an RGGB mosaic of 16 bits, taken at 24 mm (36 mm on film), 1/50 s, f/4, ISO 200, by a Test Raw."""
    height, width = srgb.shape[:2]
    v = srgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    mosaic = linear[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = linear[::2, ::2, 0], linear[1::2, 1::2, 2]
    data = (mosaic * 65535 + 0.5).astype("<u2").tobytes()
    shot = [
        (0x829A, RATIONAL, [(1, 50)]), (0x829D, RATIONAL, [(4, 1)]), (0x8827, SHORT, [200]),
        (0x920A, RATIONAL, [(24, 1)]), (0xA405, SHORT, [36]),
    ]  # fmt: skip
    colour = [(round(c * 10**6), 10**6) for c in CAMERA_FROM_XYZ]
    tags = [
        (254, LONG, [0]), (256, LONG, [width]), (257, LONG, [height]), (258, SHORT, [16]), (259, SHORT, [1]),
        (262, SHORT, [32803]), (271, ASCII, b"Test\0"), (272, ASCII, b"Raw\0"), (273, LONG, [0]),
        (274, SHORT, [orientation]), (277, SHORT, [1]), (278, LONG, [height]), (279, LONG, [len(data)]),
        (33421, SHORT, [2, 2]), (33422, BYTE, [0, 1, 1, 2]), (34665, LONG, [0]),
        (50706, BYTE, [1, 4, 0, 0]), (50708, ASCII, b"Test Raw\0"), (50717, LONG, [65535]),
        (50721, SRATIONAL, colour), (50728, RATIONAL, [(1, 1)] * 3), (50778, SHORT, [21]),
    ]  # fmt: skip
    at_shot = 8 + len(_directory(tags, 8))
    at_data = at_shot + len(_directory(shot, at_shot))
    places = {273: at_data, 34665: at_shot}
    tags = [(tag, kind, [places[tag]] if tag in places else values) for tag, kind, values in tags]
    path.write_bytes(b"II*\0" + struct.pack("<L", 8) + _directory(tags, 8) + _directory(shot, at_shot) + data)
    return path


def _directory(tags: list, start: int) -> bytes:
    """A TIFF directory that begins at byte `start`, what does not fit into its entries behind it."""
    entries, behind = b"", b""
    free = start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        flat = np.ravel(values).tolist() if kind != ASCII else []
        packed = values if kind == ASCII else struct.pack(f"<{len(flat)}{LAYOUT[kind][-1]}", *flat)
        entries += struct.pack("<HHL", tag, kind, len(values))
        if len(packed) <= 4:
            entries += packed.ljust(4, b"\0")
        else:
            entries += struct.pack("<L", free + len(behind))
            behind += packed + b"\0" * (len(packed) % 2)
    return struct.pack("<H", len(tags)) + entries + b"\0" * 4 + behind
