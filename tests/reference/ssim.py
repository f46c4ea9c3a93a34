"""Structural similarity as Wang et al. 2004 write it: the weights applied pixel by pixel, padded with zeros."""

from __future__ import annotations

import torch
from torch import Tensor


def ssim(
    image: Tensor,  # (H, W, C)
    truth: Tensor,  # (H, W, C)
) -> Tensor:
    """Returns the mean over pixels and channels; autograd does the rest."""
    offsets = torch.arange(-5, 6, dtype=image.dtype, device=image.device)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    height, width, _ = image.shape

    def blur(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (0, 0, 5, 5, 5, 5))
        total = torch.zeros_like(x)
        for i in range(11):
            for j in range(11):
                total = total + window[i, j] * padded[i : i + height, j : j + width]
        return total

    mean_x, mean_y = blur(image), blur(truth)
    variance_x, variance_y = blur(image**2) - mean_x**2, blur(truth**2) - mean_y**2
    covariance = blur(image * truth) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similar / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean()
