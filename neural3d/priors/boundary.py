"""The direction of an attribute among codes: the normal of a plane between those that have it and those that do not.

    perceptron  Rosenblatt 1958: w ← w + y z for each z on the wrong side, until there is none; where the classes cannot
                be separated that never ends, and it is said
    logistic    max Σ log σ(y (wᵀz + b)), maximum likelihood
    map         the same with a normal prior of w, max … − ‖w‖² / 2
(scikit-learn's.) As Shen et al., "Interpreting the Latent Space of GANs", CVPR 2020, move codes: along w / ‖w‖.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.errors import UserError

Way = Literal["perceptron", "logistic", "map"]
ROUNDS = 1000  # of the perceptron, after which classes are taken for inseparable


@dataclass
class Boundary:
    """nᵀz = offset, ‖n‖ = 1. deviation: of nᵀz among the codes that it was found by."""

    normal: Float[Tensor, "L"]
    offset: float
    deviation: float

    def moved(self, z: Float[Tensor, "B L"], value: float) -> Float[Tensor, "B L"]:
        """Codes at `value` deviations from the boundary, above 0 on the side with the attribute; else as they were."""
        now = z @ self.normal - self.offset
        return z + (value * self.deviation - now)[:, None] * self.normal


def find_boundary(z: Float[np.ndarray, "N L"], has: Bool[np.ndarray, "N"], way: Way) -> Boundary:
    """Raises UserError where all codes are of one side, or the perceptron finds that no plane separates them."""
    try:
        from sklearn.linear_model import LogisticRegression, Perceptron
    except ImportError:
        raise UserError("directions of attributes need scikit-learn: pip install 'neural3d[attributes]'.") from None
    if not 0 < has.sum() < len(has):
        raise UserError("an attribute's direction takes examples that have it and examples that do not.")
    middle, scale = z.mean(0), max(float(z.std()), 1e-9)
    seen = (z - middle) / scale
    if way == "perceptron":
        model = Perceptron(max_iter=ROUNDS, tol=None, shuffle=True, random_state=0).fit(seen, has)
        if wrong := int((model.predict(seen) != has).sum()):
            raise UserError(
                f"no plane was found that separates the examples ({wrong} of {len(has)} stay on the wrong side after "
                f"{ROUNDS} rounds); take --boundary logistic or map."
            )
    else:
        model = LogisticRegression(C=1.0 if way == "map" else np.inf, max_iter=10_000).fit(seen, has)
    w = model.coef_[0]
    length = float(np.linalg.norm(w))
    if not length > 0:
        raise UserError("the examples that have the attribute are like those that do not; no direction follows.")
    normal = w / length
    offset = float(normal @ middle - scale * model.intercept_[0] / length)
    return Boundary(torch.from_numpy(normal).float(), offset, float((z @ normal).std()))
