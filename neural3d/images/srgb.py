"""sRGB's transfer function (IEC 61966-2-1), of values in [0, 1]."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def srgb_to_linear(color: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(color: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.where(color <= 0.0031308, 12.92 * color, 1.055 * color ** (1 / 2.4) - 0.055)
