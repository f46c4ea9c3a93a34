"""Signed distances rendered as a volume: where light is lost along rays, and which samples that takes.

Wang, Liu, Liu, Theobalt, Komura, Wang: "NeuS: Learning Neural Implicit Surfaces by Volume Rendering for Multi-view
Reconstruction", NeurIPS 2021. With Φ_s(f) = sigmoid(s f), a ray that passes from f₀ to f₁ loses the share
    α = max(0, (Φ_s(f₀) − Φ_s(f₁)) / Φ_s(f₀))
of its light: its weight peaks where f = 0 however the ray meets the surface, and the sharpness s, in 1 / unit, narrows
the peak. As optical thickness −log(1 − α) this is softplus(−s f₁) − softplus(−s f₀), which `composite` takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neural3d.geometry.rays import crossing
from neural3d.ops.composite import used_samples
from neural3d.ops.ray_march import Samples, compact, ray_march
from neural3d.render.packed import first_of_rays, kept

EARLY_STOP = 1e-3  # transmittance at which a ray ends
MAX_SAMPLES = 512  # per ray
BAND = 6.0  # samples are taken where |f| < BAND / s: beyond, less than e⁻⁶ of the light is lost, or left

Distance = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]


@torch.no_grad()
def surface_samples(
    distance: Distance,
    sharpness: float,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    *,
    box: Float[Tensor, "2 3"],
    bits: Tensor,
    step: float,
    jitter: Float[Tensor, "R"] | None = None,
) -> tuple[Samples, int, Float[Tensor, "R"]]:
    """Samples near the surface that light still reaches, how many there were before these tests, and the distances
    at which rays leave the box, infinite for those that are lost in it.

    The distance alone is cheap: gradients and colours are spared for all that is hidden or empty. Between
    neighbours on a ray the light goes from f_i to f_{i+1}, also across gaps, where f is large; to the first it
    comes from f = ∞, so that solids which reach out of the box are seen where it cuts them.
    bits: of the occupancy grid (`in_band`). step: from sample to sample.
    """
    enter, leave = crossing(origins, directions, box)
    marched = ray_march(
        origins, directions, enter, leave, bits, step_min=step, step_max=step,
        jitter=jitter, max_samples_per_ray=MAX_SAMPLES,
    )  # fmt: skip
    if len(marched) == 0:
        return marched, 0, leave
    value = distance(marched.positions)
    log_light = softplus(-sharpness * value)
    lost = (log_light[1:] - log_light[:-1]).clamp_min(0) * (marched.ray[1:] == marched.ray[:-1])
    thickness = nn.functional.pad(lost, (0, 1))
    first = first_of_rays(marched)
    thickness[first] += log_light[first]
    used = used_samples(thickness, torch.ones_like(thickness), marched.offsets, EARLY_STOP)
    samples, index = compact(marched, used)
    total = torch.zeros_like(leave).index_add_(0, marched.ray, thickness)
    leave = torch.where(total > -math.log(EARLY_STOP), math.inf, leave)
    return kept(samples, value[index] < BAND / sharpness), len(marched), leave


def thickness_along(
    samples: Samples,
    directions: Float[Tensor, "R 3"],
    value: Float[Tensor, "S"],
    gradient: Float[Tensor, "S 3"],
    sharpness: Float[Tensor, ""],
) -> Float[Tensor, "S"]:
    """−log(1 − α) of each sample's interval, from f and its slope along the ray at the middle.

    NeuS's cos annealing, by which surfaces seen from behind and along count too while training starts, is left out:
    here f is a distance from the start, and rays that graze a plain face would dig it away.
    directions: of the rays, unit length. Differentiable in value, gradient and sharpness.
    """
    drop = 0.5 * samples.dt * (-(gradient * directions.index_select(0, samples.ray)).sum(-1)).clamp_min(0)
    before = softplus(-sharpness * (drop + value))
    before = before.index_fill(0, first_of_rays(samples), 0.0)  # light comes from where f = ∞
    return softplus(sharpness * (drop - value)) - before


def in_band(
    x: Float[Tensor, "N 3"], value: Float[Tensor, "N"], sharpness: float, box: Float[Tensor, "2 3"], cell: float
) -> Float[Tensor, "N"]:
    """1 for cells of this size about x where rays are sampled, else 0: in the band about the surface, and where the box
    cuts a solid. value: f(x)."""
    band = BAND / sharpness + 0.75 * math.sqrt(3) * cell
    cut = torch.minimum(x - box[0], box[1] - x).amin(-1) < cell
    return ((value.abs() < band) | (cut & (value < 0))).float()


def softplus(x: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """log(1 + eˣ), the same bytes whatever the threads.

    torch splits what is longer than this among them, and takes other instructions, which round differently, where a
    part's length is no multiple of the vector's.
    """
    return torch.cat([nn.functional.softplus(part) for part in x.split(1 << 15)])
