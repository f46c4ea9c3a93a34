"""Many small pictures as one."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, pad

LEAST, GAP = 56, 2  # pixels: below, pictures are drawn larger by whole factors; between them


def _seen(values: Float[Tensor, "... C H W"]) -> Float[Tensor, "... c H width"]:
    """Pairs of pictures, one behind the other in the channels, beside each other; others as they are."""
    return torch.cat(values.chunk(2, -3), -1) if values.shape[-3] in (2, 6) else values


def picture(values: Float[Tensor, "C H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """One example of its own size."""
    return (255 * _seen(values).float().clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3) + 0.5).byte().cpu().numpy()


def contact_sheet(pictures: Float[Tensor, "N C H W"], columns: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """In rows of `columns` (0: about as many rows as columns), values from 0 to 1; white between."""
    pictures = _seen(pictures)
    count, channels, height, width = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = max(1, math.ceil(LEAST / max(height, width)))
    large = interpolate(pictures.float().clamp(0, 1), scale_factor=scale, mode="nearest")
    large = pad(large, (0, GAP, 0, GAP), value=1.0)
    rows = math.ceil(count / columns)
    large = pad(large, (0, 0, 0, 0, 0, 0, 0, rows * columns - count), value=1.0)
    tiles = large.view(rows, columns, channels, *large.shape[2:])
    return picture(tiles.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
