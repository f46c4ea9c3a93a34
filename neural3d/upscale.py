"""Textures made twice as large by a prior of large pictures given small ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8

from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Upscaling
from neural3d.run import Run

Upscale = Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "H W 3"]]


def upscaler(prior: Run, temperature: float, seed: int = 0) -> tuple[Upscale, int]:
    """(what makes a texture larger, each time another way; by what the smaller one's sides must be divisible)

    Raises UserError where the run is no prior that does.
    """
    method, examples = prior.method, prior.data
    if not isinstance(method, Upscaling) or not isinstance(examples, Examples) or examples.shape[0] != 3:
        what = "pictures that are grey" if isinstance(method, Upscaling) else f"by {prior.config.method}"
        raise UserError(
            f"{prior.directory}: has learnt {what}, but --upscale needs a prior of large colour pictures given small "
            "ones: neural3d train PHOTOS tiles --method srflow --set patch=32"
        )
    device = next(prior.method.eval().parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    def upscale(texture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        low = torch.from_numpy(texture).to(device).movedim(-1, 0)[None].float() / 255
        large = method.upscale(low, generator, temperature)
        return (255 * large[0].movedim(0, -1)).round().byte().cpu().numpy()

    return upscale, method.unit
