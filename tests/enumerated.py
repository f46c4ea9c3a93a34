"""Distributions over twelve pixels, small enough to list."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.examples.examples import Examples
from neural3d.examples.reading import made

SIDES = (3, 4)
PIXELS = 12


def every_picture() -> Float[Tensor, "4096 1 3 4"]:
    """All there are, of zeros and ones; the first pixel counts most."""
    numbers = torch.arange(2**PIXELS)
    bits = (numbers[:, None] >> torch.arange(PIXELS - 1, -1, -1)) & 1
    return bits.float().view(-1, 1, *SIDES)


def bars(count: int, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    """Pictures of rows and columns, each set with probability 0.3, some pixels flipped: (count, 1, 3, 4) uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.random((count, 3, 1)) < 0.3, rng.random((count, 1, 4)) < 0.3
    pictures = (rows | columns) ^ (rng.random((count, *SIDES)) < noise)
    return 255 * pictures[:, None].astype(np.uint8)


def examples(path, count: int = 600) -> Examples:
    return made(path, {"train": (bars(count), None), "test": (bars(200, seed=1), None)})


def number_of(pictures: Float[Tensor, "N 1 3 4"]) -> Tensor:
    """The index of each in `every_picture`."""
    powers = 2 ** torch.arange(PIXELS - 1, -1, -1)
    return (pictures.flatten(1).long() * powers).sum(1)


def variation(drawn: Float[Tensor, "N 1 3 4"], log_p: Float[Tensor, "4096"]) -> float:
    """Half the sum of the differences between the shares of what was drawn and a distribution."""
    shares = torch.bincount(number_of(drawn), minlength=2**PIXELS).double() / len(drawn)
    return float((shares - log_p.double().exp()).abs().sum() / 2)
