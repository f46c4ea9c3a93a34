"""Lists of the splats that touch each tile of an image, by depth: what `splat_raster` walks.

Splat i touches the pixels where o_i exp(−½ dᵀ Q_i d) ≥ 1/255, d from its centre: an ellipse. Tiles are squares of
`splat_tile` pixels; on the CPU one has 8 × 8 cells of 4 × 4 pixels, and an entry, a splat in a tile's list, has a bit
for each cell. Splats are sorted by depth once, by radix, and then dealt out to tiles: that moves far less than sorting
all entries. csrc/ops/splat_bin.h has the formulas.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.ops.native import native, served_by_cpu, stream

RECORD = 16  # scalars of a splat's record and of a row of gradients (kSplatScalars in csrc/ops/splat_bin.h)
_kept = threading.local()


class Bins(NamedTuple):
    """Entries in the order of their tiles, and there by depth; of equal depths the earlier splat is first."""

    splats: Float[Tensor, "N 16"]  # records: what blending needs of a splat, side by side
    tile_begin: Int[Tensor, "tiles+1"]  # int32: a tile's first entry
    entry: Int[Tensor, "slots"]  # int32: its splat; from tile_begin[-1] on nothing is meant
    cells: Int[Tensor, "slots"]  # int64, on the CPU: which cells of its tile it touches, x fastest, lowest bit first
    place: Int[Tensor, "slots"]  # int32: its row among those of gradients


def splat_bin(
    xy: Float[Tensor, "N 2"],
    conic: Float[Tensor, "N 3"],
    depth: Float[Tensor, "N"],
    opacity: Float[Tensor, "N"],
    features: Float[Tensor, "N C"],
    width: int,
    height: int,
) -> Bins:
    """The lists for an image of width × height pixels. Arguments as in `splat_raster`, checked and contiguous.

    No pixel is missed; rounding may add one whose α is a hair below 1/255. Splats that touch nothing, or whose numbers
    are not finite, have no entries. Not differentiable. On CUDA, synchronises once, to learn how much room they need.
    Raises RuntimeError where splats touch 2³¹ tiles.
    """
    kernels, where = native(features.device), stream(features.device)
    splats = features.new_empty(len(features), RECORD)
    image = dict(width=width, height=height)
    bytes_to_bin, _ = kernels.splat_scratch(opacity=opacity, slots=0, **image)
    scratch = kept_memory("bin", features, bytes_to_bin, torch.uint8)
    seen, slots = kernels.splat_bin(
        xy=xy, conic=conic, depth=depth, opacity=opacity, features=features, splats=splats, scratch=scratch, **image,
        stream=where,
    )  # fmt: skip
    if slots >= 1 << 31:
        raise RuntimeError(f"splats touch {slots} tiles, 2³¹ or more: they are too many or too large")
    tiles = -(-width // kernels.splat_tile) * -(-height // kernels.splat_tile)
    tile_begin, entry, place = (splats.new_empty(k, dtype=torch.int32) for k in (tiles + 1, slots, slots))
    cells = splats.new_empty(slots, dtype=torch.int64)
    _, bytes_to_fill = kernels.splat_scratch(opacity=opacity, slots=slots, **image)
    kernels.splat_fill(
        splats=splats, scratch=scratch, tile_begin=tile_begin, entry=entry, cells=cells, place=place,
        fill_scratch=kept_memory("fill", features, bytes_to_fill, torch.uint8), seen=seen, **image, stream=where,
    )  # fmt: skip
    return Bins(splats, tile_begin, entry, cells, place)


def kept_memory(name: str, like: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Memory for use within a call; on the CPU kept for the next, as fresh pages would cost more than using them."""
    if not served_by_cpu(like.device):
        return like.new_empty(size, dtype=dtype)
    key = f"{name} {dtype}"
    kept: Tensor | None = getattr(_kept, key, None)
    if kept is None or kept.numel() < size:
        kept = like.new_empty(size + size // 4, dtype=dtype)
        setattr(_kept, key, kept)
    return kept[:size]
