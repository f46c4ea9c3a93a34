"""Which squares of an image a splat touches, by evaluating α at points of each."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA_MIN = 1 / 255


def touched(
    xy: Tensor,  # (N, 2)
    conic: Tensor,  # (N, 3) as xx, xy, yy
    opacity: Tensor,  # (N,)
    width: int,
    height: int,
    square: int,  # pixels along a side
    *,
    step: float = 1.0,  # between points, in pixels
    least: float = ALPHA_MIN,
) -> Tensor:
    """(N, rows, columns): whether α is `least` somewhere between the first and the last centre of a square's pixels.

    With step 1, the points are the centres of the image's own pixels.
    """
    points = torch.arange(0, square - 1 + step / 2, step, dtype=torch.float64) + 0.5
    rows, columns = -(-height // square), -(-width // square)
    out = torch.zeros(len(xy), rows, columns, dtype=torch.bool)
    for row in range(rows):
        for column in range(columns):
            x, y = points + column * square, points + row * square
            if step == 1:
                x, y = x[x < width], y[y < height]
            dx, dy = x - xy[:, :1], y - xy[:, 1:]
            xx, cross, yy = (q[:, None, None] for q in conic.unbind(-1))
            power = 0.5 * (xx * dx[:, None] ** 2 + yy * dy[:, :, None] ** 2) + cross * dx[:, None] * dy[:, :, None]
            out[:, row, column] = ((opacity[:, None, None] * torch.exp(-power)) >= least).flatten(1).any(1)
    return out
