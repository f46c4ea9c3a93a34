"""The neural autoregressive distribution estimator as Larochelle & Murray 2011 write it: a value after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def nade(
    x: Tensor,  # (B, D) bool
    w: Tensor,  # (D, H)
    v: Tensor,  # (D, H)
    b: Tensor,  # (D,)
    c: Tensor,  # (H,)
) -> Tensor:
    """Returns the logits (B, D); autograd does the rest."""
    logits = []
    for d in range(x.shape[1]):
        h = torch.sigmoid(c + x[:, :d].to(w.dtype) @ w[:d])
        logits.append(b[d] + h @ v[d])
    return torch.stack(logits, 1)
