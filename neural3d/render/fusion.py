"""Depth pictures of many views, fused into one surface (Curless & Levoy, "A volumetric method for building complex
models from range images", SIGGRAPH 1996), for what renders well and has no surface of its own, such as splats.

A pixel with depth and normal n is a piece of a plane. Of a point x that it shows, at least as near as τ behind the
plane, it says that x lies s = nᵀ(x − plane) before it; what is further behind is hidden. The signed distance at x is
the mean of what the views say, each with the weight (cos θ / footprint)², the inverse variance of s: depths err by
multiples of the pixel's width there, and more on what is seen aslant. Pixels that see nothing (alpha under a half), or
something more than τ behind x, say τ: they carve. It is a function of x, asked for only where the extraction of the
mesh looks; there is no volume in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from neural3d.errors import UserError
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import BATCH, Colors, Field, Mesh, remove_floaters
from neural3d.progress import Progress, silent
from neural3d.render import RenderOut

MOST_VIEWS, LONGEST = 120, 640  # pictures that are fused, and their longer side in pixels
NEIGHBOURS, CONFIRM = 8, 3  # views that check another one's depth, and how many must agree
CARVING = 0.2  # cos θ as if of pixels that see nothing


@dataclass
class _Look:
    """One view. planes: each pixel's normal and nᵀ(plane − eye), which is negative; (0, −Inf) where nothing is seen,
    not a number where what is seen is not to be trusted. footprint: of a pixel at distance 1.
    """

    camera: Camera
    planes: Float[Tensor, "H W 4"]
    rgb: UInt8[Tensor, "H W 3"]
    footprint: float


@dataclass
class _Told:
    """What a view says of points. before: s, NaN where it has no word. deep: how far x is behind, along the ray.
    weight: 0 outside the picture."""

    before: Float[Tensor, "N"]
    behind: Float[Tensor, "N"]
    weight: Float[Tensor, "N"]
    inside: Bool[Tensor, "N"]
