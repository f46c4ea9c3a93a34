"""What density control sums over views, splat by splat."""

import math

from torch import Tensor


def splat_pull(v_xy: Tensor, radius: Tensor, pull: Tensor, views: Tensor, width: float, height: float) -> None:
    for i, (x, y) in enumerate(v_xy.tolist()):
        pull[i] += math.hypot(x * width / 2, y * height / 2)
        views[i] += 1 if radius[i] > 0 else 0
