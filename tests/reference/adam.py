"""Adam as the paper's algorithm 1 writes it."""

from __future__ import annotations

import torch
from torch import Tensor


def adam_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    skip_untouched: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the new (param, m, v)."""
    new_m = betas[0] * m + (1 - betas[0]) * grad
    new_v = betas[1] * v + (1 - betas[1]) * grad**2
    m_hat = new_m / (1 - betas[0] ** step)
    v_hat = new_v / (1 - betas[1] ** step)
    new_param = param - lr * m_hat / (v_hat.sqrt() + eps)
    if not skip_untouched:
        return new_param, new_m, new_v
    touched = (grad != 0).any(-1, keepdim=True)
    return torch.where(touched, new_param, param), torch.where(touched, new_m, m), torch.where(touched, new_v, v)
