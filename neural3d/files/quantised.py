"""Splats' numbers as few bits, as compressed splat files have them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from neural3d.ops.spherical_harmonics import Y0

C0 = Y0  # by which f_dc becomes a colour
COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}  # per channel, by degree
CUT = "Of the harmonics of degree 4, those up to degree 3 were read."
FLAT = 1e-3  # thickness of a splat that has none, as a share of its smaller width
HALF_A_BYTE = 0.25 / 255  # opacities of 8 bits stay this far from 0 and 1, and so come back as the same byte


def to_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    return np.floor(values + 0.5).clip(0, 255).astype(np.uint8)


def logits(opacity: Float[np.ndarray, "N"], margin: float = 1e-7) -> Float[np.ndarray, "N"]:
    """ln(o / (1 − o)) of opacities kept `margin` away from 0 and 1, where it is infinite."""
    opacity = np.clip(np.asarray(opacity, np.float64), margin, 1 - margin)
    return np.log(opacity / (1 - opacity)).astype(np.float32)


def logits_from_bytes(bytes_: UInt8[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return logits(bytes_ / 255.0, HALF_A_BYTE)


def opacities(logits: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    return 1 / (1 + np.exp(-logits.astype(np.float64).clip(-50, 50)))


def opacity_bytes(logits: Float[np.ndarray, "N"]) -> UInt8[np.ndarray, "N"]:
    return to_bytes(255 * opacities(logits))


def log_scales(scales: Float[np.ndarray, "N k"]) -> Float[np.ndarray, "N 3"]:
    """ln of linear deviations; where one is missing (k = 2) or 0, the splat is flat: it is FLAT of the next wider."""
    wide = np.zeros((len(scales), 3), np.float64)
    wide[:, : scales.shape[1]] = np.maximum(scales, 0)
    thin = FLAT * np.where(wide > 0, wide, np.inf).min(1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(np.where(wide > 0, wide, np.where(np.isfinite(thin), thin, 0))).astype(np.float32)


def harmonics(planes: Float[np.ndarray, "N 3*K"], notes: list[str]) -> Float[np.ndarray, "N K 3"]:
    """Coefficients of degree 1 up, given all of red first, then green, blue; what is above degree 3 is left out."""
    rest = planes.reshape(len(planes), 3, planes.shape[1] // 3).swapaxes(1, 2)
    if rest.shape[1] > COEFFICIENTS[3]:
        notes.append(CUT)
    return rest[:, : COEFFICIENTS[3]]


def same_degree(parts: list[dict[str, np.ndarray]]) -> None:
    """Gives all parts of a file as many harmonics as that with most has; what they lack is 0."""
    most = max(part["sh_rest"].shape[1] for part in parts)
    for part in parts:
        part["sh_rest"] = np.pad(part["sh_rest"], ((0, 0), (0, most - part["sh_rest"].shape[1]), (0, 0)))


def from_smallest_three(three: Float[np.ndarray, "N 3"], largest: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions by which component is largest (and taken to be positive) and the other three in their order."""
    full = np.zeros((len(three), 4))
    full[np.arange(4) != largest[:, None]] = three.reshape(-1)
    full[np.arange(len(three)), largest] = np.sqrt(np.maximum(0, 1 - (three**2).sum(1)))
    return full.astype(np.float32)


def smallest_three(quats: Float[np.ndarray, "N 4"]) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "N"]]:
    """The inverse: three components of at most √½ each, and the place of the largest, which is left out."""
    unit = quats.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-300)
    largest = np.abs(unit).argmax(1)
    unit *= np.where(np.take_along_axis(unit, largest[:, None], 1) < 0, -1, 1)
    return unit[np.arange(4) != largest[:, None]].reshape(-1, 3), largest


def morton_order(points: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "N"]:
    """Along Morton's curve, on which what is near in space is near in the file: 21 bits of x, y, z, interleaved."""
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(3), np.ones(3))
    cells = ((points - low) / np.where(high > low, high - low, 1) * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(points), np.uint64)
    for bit in range(21):
        for axis in range(3):
            code |= (cells[:, axis] >> np.uint64(bit) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(code, kind="stable")
