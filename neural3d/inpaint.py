"""Holes of pictures filled by a prior of small ones, patch by patch from their rims inwards.

Of a picture those patches come first that have much to fill and enough around it that is known, side by side where they
do not touch. A model that goes through a patch from its upper left corner knows what comes before: so each is turned
over, to the side or upside down, until what is missing comes last. A prior of patches knows no light and shade beyond a
patch's side: what it draws is held near the smooth guess, within the contrast that the known has about its own means.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d

from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.priors.pixels import PixelPrior
from neural3d.render.retouch import Fill
from neural3d.run import Run

ENOUGH = 0.4  # of a patch: what should be known around
STRIDE = 4  # patches lie at multiples of a side over this
TURNS: list[tuple[int, ...]] = [(), (3,), (2,), (2, 3)]  # axes of (B, C, H, W) that are reversed
LOOSE = 2.0  # variances of the known's contrast within which what is drawn is held


def filler(prior: Run, seed: int = 0) -> Fill:
    """What fills holes by a prior of colour patches. Raises UserError where the run is none of these."""
    examples = prior.data
    if not isinstance(examples, Examples) or examples.kind != "images":
        raise _wrong(prior, "has not learnt pictures")
    if not isinstance(prior.method, PixelPrior) or prior.method.choices == 1:
        raise _wrong(prior, f"{prior.config.method} has not learnt the 256 levels of pixels in turn")
    if examples.shape[0] != 3 or examples.shape[1] != examples.shape[2]:
        raise _wrong(prior, f"its examples are of shape {' × '.join(map(str, examples.shape))}")
    method = prior.method.eval()
    device = next(method.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    def fill(pictures: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
        return filled(pictures, known, wanted, examples.shape[1], complete)

    def complete(x: Tensor, known: Tensor, pull: Tensor) -> Tensor:
        known = known[:, None].expand_as(x)
        return method.complete(x.to(device), known.to(device), generator, pull.to(device)).cpu()

    return fill


def _wrong(prior: Run, why: str) -> UserError:
    return UserError(
        f"{prior.directory}: {why}, but --fill needs a prior of colour patches: neural3d train PHOTOS tiles "
        "--method pixelcnn --set patch=16 values=levels"
    )


Complete = Callable[[Float[Tensor, "B 3 p p"], Bool[Tensor, "B p p"], Float[Tensor, "B"]], Float[Tensor, "B 3 p p"]]


def filled(
    pictures: Float[Tensor, "P 3 S S"],
    known: Bool[Tensor, "P S S"],
    wanted: Bool[Tensor, "P S S"],
    side: int,
    complete: Complete,
) -> Float[Tensor, "P 3 S S"]:
    """The pictures, what is wanted made. complete: of patches, what they hold, what of it is known, and how strongly
    the rest keeps to what they hold (`priors.pixels`).
    """
    pictures, known, wanted = _nothing_before(pictures, known | wanted), known.clone(), wanted & ~known
    pull = 1 / (LOOSE * contrast(pictures, known, side))
    while wanted.any():
        places = _patches(known, wanted, side)
        cut = [(p, slice(i, i + side), slice(j, j + side)) for p, i, j in places]
        x = torch.stack([pictures[p, :, rows, columns] for p, rows, columns in cut])
        here = torch.stack([known[at] for at in cut])
        turns = _turns(here)
        made = complete(_turned(x, turns), _turned(here[:, None], turns)[:, 0], pull[[p for p, _, _ in cut]])
        for (p, rows, columns), patch, old in zip(cut, _turned(made, turns), here, strict=True):
            pictures[p, :, rows, columns] = torch.where(old, pictures[p, :, rows, columns], patch)
            known[p, rows, columns] = True
            wanted[p, rows, columns] = False
    return pictures


def _nothing_before(pictures: Tensor, there: Bool[Tensor, "P S S"]) -> Tensor:
    """With the nearest colours where no surface is."""
    result = []
    for picture, inside in zip(pictures, there, strict=True):
        if inside.any():
            row, column = ndimage.distance_transform_edt(~inside.numpy(), return_distances=False, return_indices=True)
            picture = picture[:, torch.from_numpy(row).long(), torch.from_numpy(column).long()]
        result.append(picture)
    return torch.stack(result)


def contrast(pictures: Float[Tensor, "P 3 S S"], known: Bool[Tensor, "P S S"], side: int) -> Float[Tensor, "P"]:
    """Variance of what is known about its mean in each patch's square; where nothing is known, that of all pictures."""
    share = avg_pool2d(known[:, None].float(), side, side // 2)
    mean = avg_pool2d(known[:, None] * pictures, side, side // 2) / share.clamp(min=1e-6)
    square = avg_pool2d(known[:, None] * pictures.square(), side, side // 2) / share.clamp(min=1e-6)
    variance, weight = (square - mean.square()).mean(1), share[:, 0]
    each = (weight * variance).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)
    whole = (weight * variance).sum() / weight.sum().clamp(min=1e-6)
    return torch.where(weight.sum((1, 2)) > 0, each, whole).clamp(min=1 / 255**2)


def _patches(known: Bool[Tensor, "P S S"], wanted: Bool[Tensor, "P S S"], side: int) -> list[tuple[int, int, int]]:
    """(picture, row, column) of patches that do not overlap: those with most to fill of those with enough around."""
    stride = max(1, side // STRIDE)
    around, to_fill = (avg_pool2d(m[:, None].float(), side, stride)[:, 0].numpy() for m in (known, wanted))
    found: list[tuple[int, int, int]] = []
    for p in range(len(known)):
        able = to_fill[p] > 0
        rank = np.where(around[p] >= ENOUGH, 1 + to_fill[p], around[p])
        rank[~able] = -1
        while rank.max() >= 0:
            i, j = np.unravel_index(rank.argmax(), rank.shape)
            enough = rank[i, j] > 1
            if not enough and any(q == p for q, _, _ in found):
                break
            found.append((p, int(i) * stride, int(j) * stride))
            rank[max(0, i - STRIDE + 1) : i + STRIDE, max(0, j - STRIDE + 1) : j + STRIDE] = -1
    return found


def _turns(known: Bool[Tensor, "B p p"]) -> list[int]:
    """Of each patch, which of TURNS puts what is missing last."""
    order = torch.arange(known[0].numel()).view_as(known[0]).float()
    late = torch.stack([(~known * order.flip([a - 2 for a in axes])).sum((1, 2)) for axes in TURNS])
    return late.argmax(0).tolist()


def _turned(x: Float[Tensor, "B C p p"], turns: list[int]) -> Float[Tensor, "B C p p"]:
    """Its own inverse."""
    return torch.stack([one.flip([a - 1 for a in TURNS[turn]]) for one, turn in zip(x, turns, strict=True)])
