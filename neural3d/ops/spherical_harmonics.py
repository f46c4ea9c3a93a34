"""Real spherical harmonics, the usual encoding of viewing directions.

With Y_l^m the real orthonormal harmonics including the Condon-Shortley phase (−1)^m, ordered (l, m) = (0, 0), (1, −1),
(1, 0), (1, 1), (2, −2) …: the signs and the order of tiny-cuda-nn and of 3D Gaussian splatting (gsplat). nerfstudio's
plain-torch version leaves the phase out: its terms of odd m have the opposite sign.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LEVELS = 4
Y0 = 0.28209479177387814  # Y_0^0 = √(1 / 4π)


def spherical_harmonics(directions: Float[Tensor, "*batch 3"], levels: int = MAX_LEVELS) -> Float[Tensor, "*batch n"]:
    """The levels² harmonics Y_l^m(d) with l < levels, as polynomials in the components of d.

    directions: unit length, in any frame. levels: 1 to 4, what tiny-cuda-nn calls the degree; 4 gives 16 values.
    Differentiable in `directions` (of the polynomials: the derivative does not know that |d| = 1).
    Raises ValueError for other levels or shapes.
    """
    if directions.ndim < 1 or directions.shape[-1] != 3:
        raise ValueError(f"directions must have shape (..., 3), not {tuple(directions.shape)}")
    if not 1 <= levels <= MAX_LEVELS:
        raise ValueError(f"levels must be 1 to {MAX_LEVELS}, not {levels}")
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, Y0)]
    if levels > 1:
        c = 0.4886025119029199  # √(3 / 4π)
        terms += [-c * y, c * z, -c * x]
    if levels > 2:
        c = 1.0925484305920792  # √(15 / 4π)
        xx, yy, zz = x * x, y * y, z * z
        terms += [c * x * y, -c * y * z, 0.31539156525252005 * (3 * zz - 1), -c * x * z, c / 2 * (xx - yy)]
    if levels > 3:
        a, b = 0.5900435899266435, 0.4570457994644658  # √(35 / 32π), √(21 / 32π)
        terms += [
            a * y * (yy - 3 * xx),
            2.890611442640554 * x * y * z,
            b * y * (1 - 5 * zz),
            0.3731763325901154 * z * (5 * zz - 3),
            b * x * (1 - 5 * zz),
            1.445305721320277 * z * (xx - yy),
            a * x * (3 * yy - xx),
        ]
    return torch.stack(terms, -1)
