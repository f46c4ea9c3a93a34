"""Colour profiles written by hand."""

from __future__ import annotations

import struct

import numpy as np
from PIL import ImageCms

P3_COLORANTS = {
    b"rXYZ": (0.51512, 0.24120, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.15710, 0.06657, 0.78407),
}  # fmt: skip
P3_FROM_SRGB = np.array(
    [[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]]
)  # linear light, both D65


def display_p3() -> bytes:
    """sRGB's curve and Display P3's colorants (adapted to D50, as profiles hold them)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">L", data, 128)
    for k in range(count):
        name, start, _ = struct.unpack_from(">4sLL", data, 132 + 12 * k)
        if name in P3_COLORANTS:
            struct.pack_into(">3l", data, start + 8, *(round(v * 65536) for v in P3_COLORANTS[name]))
    return bytes(data)


def in_p3(srgb: np.ndarray) -> np.ndarray:
    """The bytes by which Display P3 says a colour of sRGB."""
    v = srgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) @ P3_FROM_SRGB.T
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def inks(lightness: list[float]) -> bytes:
    """A CMYK profile of greys: L* of each of the 16 full or missing inks, black changing first; linear between."""
    straight = bytes(range(256))
    corners = b"".join(struct.pack("3B", round(2.55 * v), 128, 128) for v in lightness)
    identity = struct.pack(">9l", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table = b"mft1" + bytes(4) + struct.pack("4B", 4, 3, 2, 0) + identity + 4 * straight + corners + 3 * straight
    header = struct.pack(
        ">LLL4s4s4s12x4s", 128 + 4 + 12 + len(table), 0, 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    header += struct.pack(">28x3l", 63190, 65536, 54061)  # D50
    return header.ljust(128, b"\0") + struct.pack(">L4sLL", 1, b"A2B0", 144, len(table)) + table
