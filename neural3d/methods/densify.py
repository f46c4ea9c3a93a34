"""How the number and places of splats follow the photos while training.

Adc: the original's adaptive density control (Kerbl et al., "3D Gaussian Splatting", SIGGRAPH 2023, section 5): splats
whose projection is pulled about are cloned if small and split if large, transparent ones are dropped, opacities are
cut back now and then so that only what the photos ask for stays. With absolute gradients (Ye et al., "AbsGS", 2024)
pulls from both sides no longer cancel.
Mcmc: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo", NeurIPS 2024: transparent splats move to
where opaque ones are, in a way that leaves the picture about as it was, and noise lets them explore.

No step here depends on the number of threads: exponentials are taken of pieces that torch does not share out (its
vector and scalar versions differ in the last bit, and where the work is cut decides which is used).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from neural3d.fields.gaussians import Gaussians
from neural3d.geometry.rotations import rotation_from_quaternion
from neural3d.ops.adam import Adam
from neural3d.ops.splat_pull import splat_pull

MAX_COPIES = 51  # of one splat in a relocation; more would need sums that cancel beyond float64
SPLIT = 1.6  # by which the children of a split splat are smaller
OWN = 0.25  # share of a relocated splat's covariance that each copy keeps; the rest is how far they lie apart
NOISY_BELOW = 0.15  # opacity above which Mcmc's noise has faded to less than a millionth


def logit(opacity: float) -> float:
    return math.log(opacity / (1 - opacity))


def serially(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function in pieces that are never shared among threads: the same bits for any number of them."""
    return torch.cat([function(piece) for piece in x.flatten().split(1 << 14)]).view_as(x)


def rearrange(splats: Gaussians, optimizer: Adam, rows: Int[Tensor, "M"], fresh: Bool[Tensor, "M"]) -> None:
    """Splat i becomes what splat rows[i] was, and so do its moments, but that those of fresh ones are zero."""

    def moments(old: Tensor) -> Tensor:
        new = old[rows]
        new[fresh] = 0
        return new

    for name, old in list(splats.named_parameters()):
        new = nn.Parameter(old.detach()[rows])  # a new object: whatever graph still holds the old one stays valid
        setattr(splats, name, new)
        optimizer.replace(old, new, moments)


def scatter(
    splats: Gaussians, rows: slice | Tensor, generator: torch.Generator, *, spread: float, shrink: float
) -> None:
    """Some splats move to places drawn from `spread` times their own covariance, then shrink by a factor."""
    scales = serially(torch.exp, splats.log_scales[rows])
    offset = math.sqrt(spread) * scales * torch.randn(scales.shape, generator=generator, device=scales.device)
    rotation = rotation_from_quaternion(splats.quats[rows])
    splats.means[rows] += (rotation * offset[:, None, :]).sum(-1)
    splats.log_scales[rows] += math.log(shrink)


def forget(optimizer: Adam, parameter: nn.Parameter, rows: Tensor | slice = slice(None)) -> None:
    """Zeroes the moments of some rows."""
    for key in ("m", "v"):
        if key in optimizer.state[parameter]:
            optimizer.state[parameter][key][rows] = 0


class Adc(nn.Module):
    """Clone, split, prune, reset. config: SplatConfig; extent: the cameras' radius in scene units."""

    pull: Tensor  # (N,) sum over views of |∂L/∂xy| in halves of the picture's width and height
    views: Tensor  # (N,) how many views drew the splat since the last refinement

    def __init__(self, config: Any, extent: float, count: int):
        super().__init__()
        self.config, self.extent = config, extent
        self.register_buffer("pull", torch.zeros(count))
        self.register_buffer("views", torch.zeros(count))

    def resize(self, count: int) -> None:
        """Zero statistics for `count` splats."""
        self.pull, self.views = self.pull.new_zeros(count), self.views.new_zeros(count)

    @torch.no_grad()
    def observe(self, pull: Float[Tensor, "N 2"], radius: Float[Tensor, "N"], width: float, height: float) -> None:
        """After each backward pass. pull: ∂L/∂xy per pixel, or its absolute sum. radius > 0: was drawn."""
        splat_pull(pull, radius, self.pull, self.views, width, height)

    @torch.no_grad()
    def refine(
        self,
        splats: Gaussians,
        optimizer: Adam,
        step: int,
        generator: torch.Generator,
        within: Bool[Tensor, "N"] | None = None,
    ) -> None:
        """Every `densify_every` steps. step: finished ones. within: of which splats more may be made; None: of all."""
        c = self.config
        threshold = c.grow_gradient or (0.0008 if c.absgrad else 0.0002)
        mean_pull = self.pull / self.views.clamp(min=1)
        size = splats.log_scales.amax(1)  # ln of the longest standard deviation
        if within is not None:
            size, mean_pull = size.masked_fill(~within, -math.inf), mean_pull * within
        large = size > math.log(c.split_size * self.extent)
        clear = splats.opacity_logits < logit(c.prune_opacity)
        # Before the first reset everything is still finding its size.
        too_big = math.log(c.prune_size * self.extent) if step > c.reset_every else math.inf
        pulled = (mean_pull >= threshold) & ~clear & ~(large & (size - math.log(SPLIT) > too_big))
        drop = clear | ((size > too_big) & ~(pulled & large))

        room = c.max_splats - int((~drop).sum())
        grow = pulled.nonzero()[:, 0]
        if len(grow) > room:  # those most in need of company; the earlier of equals
            order = torch.sort(mean_pull[grow], descending=True, stable=True).indices
            grow = grow[order[: max(0, room)]].sort().values
        grown = torch.zeros_like(pulled).index_fill_(0, grow, True)
        drop |= (size > too_big) & ~grown  # found no room to split
        clone, split = (grown & ~large).nonzero()[:, 0], (grown & large).nonzero()[:, 0]
        keep = (~drop & ~(grown & large)).nonzero()[:, 0]

        rows = torch.cat([keep, clone, split, split])
        fresh = torch.arange(len(rows), device=rows.device) >= len(keep)
        rearrange(splats, optimizer, rows, fresh)
        if c.share_opacity and len(clone):
            # Both of a cloned pair together as opaque as the one was (Bulò et al., "Revising Densification", 2024).
            pair = torch.cat(
                [torch.searchsorted(keep, clone), torch.arange(len(clone), device=keep.device) + len(keep)]
            )
            clear_share = serially(torch.sigmoid, -splats.opacity_logits[pair]).double().sqrt()
            splats.opacity_logits[pair] = serially(torch.log, (1 - clear_share) / clear_share).float()
        scatter(splats, slice(len(keep) + len(clone), None), generator, spread=1.0, shrink=1 / SPLIT)
        self.resize(len(splats))

        if step >= c.reset_every and step % c.reset_every < c.densify_every:
            splats.opacity_logits.clamp_(max=logit(2 * c.prune_opacity))
            forget(optimizer, splats.opacity_logits)


class Mcmc(nn.Module):
    """Relocation, growth towards the budget, and noise. config: SplatConfig, whose max_splats is the budget.

    Beyond the paper, copies of a splat part at once: each keeps OWN of the covariance Σ of eq. 9, its place is drawn
    with the rest, (1 − OWN) Σ, so that together they cover what one did. In one place they would get nearly the same
    gradients and take the same steps; only noise would part them, which opaque splats do not feel. And besides the
    transparent ones, those `relocate` of all that are the least opaque move too.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def resize(self, count: int) -> None:
        """Nothing is counted here."""

    @torch.no_grad()
    def refine(
        self,
        splats: Gaussians,
        optimizer: Adam,
        step: int,
        generator: torch.Generator,
        within: Bool[Tensor, "N"] | None = None,
    ) -> None:
        """Every `densify_every` steps: transparent splats move, and some are added while there is room.

        within: which splats may, and to which others may move; None: all.
        """
        c = self.config
        opacity = serially(torch.sigmoid, splats.opacity_logits)
        dead = splats.opacity_logits <= logit(c.prune_opacity)
        dead[torch.sort(splats.opacity_logits, stable=True).indices[: int(c.relocate * len(splats))]] = True
        alive = ~dead
        if within is not None:
            alive, dead = alive & within, dead & within
        alive = alive.nonzero()[:, 0]
        if len(alive) == 0:
            return
        gone = dead.nonzero()[:, 0]
        budget = max(len(splats), min(c.max_splats, int((1 + c.growth) * len(splats))))
        wanted = len(gone) + budget - len(splats)
        if wanted == 0:
            return
        chance = opacity[alive].cpu()
        chosen = alive[multinomial(chance, wanted, generator).to(alive.device)]
        # The first of the chosen replace the dead in place, the others are appended.
        rows = torch.arange(budget, device=alive.device)
        rows[torch.cat([gone, torch.arange(len(splats), budget, device=alive.device)])] = chosen
        copies = torch.bincount(rows, minlength=len(splats)).clamp(max=MAX_COPIES)[rows]
        changed = copies > 1
        rearrange(splats, optimizer, rows, changed)
        shared, shrink = relocated(opacity[rows[changed]], copies[changed])
        shared = shared.clamp(c.prune_opacity, 1 - 1e-6)  # 1e-6: the logit stays finite
        splats.opacity_logits[changed] = serially(torch.log, shared / (1 - shared)).float()
        splats.log_scales[changed] += serially(torch.log, shrink).float()[:, None]
        scatter(splats, changed, generator, spread=1 - OWN, shrink=math.sqrt(OWN))

    @torch.no_grad()
    def explore(self, splats: Gaussians, rate: float, generator: torch.Generator) -> None:
        """Moves nearly transparent splats at random within their own extent; rate: the means' learning rate."""
        faint = (splats.opacity_logits < logit(NOISY_BELOW)).nonzero()[:, 0]
        if len(faint) == 0:
            return
        opacity = serially(torch.sigmoid, splats.opacity_logits[faint])
        gate = serially(lambda o: torch.sigmoid(-100 * (o - 0.005)), opacity)
        scales = serially(torch.exp, splats.log_scales[faint])
        rotation = rotation_from_quaternion(splats.quats[faint])
        noise = torch.randn(scales.shape, generator=generator, device=scales.device)
        local = (rotation.mT * noise[:, None, :]).sum(-1) * scales * scales  # Σ ε = R S² Rᵀ ε
        moved = (rotation * local[:, None, :]).sum(-1)
        splats.means.index_add_(0, faint, moved * (self.config.noise * rate * gate)[:, None])


def multinomial(weights: Float[Tensor, "N"], count: int, generator: torch.Generator) -> Int[Tensor, "count"]:
    """`count` indices drawn with replacement, each with a chance in proportion to its weight; on the CPU.

    By hand, since torch.multinomial takes at most 2²⁴ weights and sums them in float32.
    """
    cumulative = torch.cumsum(weights.double(), 0)
    u = torch.rand(count, generator=generator, device=generator.device).cpu().double() * cumulative[-1]
    return torch.searchsorted(cumulative, u, right=True).clamp(max=len(weights) - 1)


def relocated(opacity: Float[Tensor, "M"], copies: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """Opacity of each of n equal splats that together look like one of opacity o, and the factor on its scales.

    Kheradmand et al. eq. 9: o' = 1 − (1 − o)^(1/n), and with the inner sums over binomials contracted
    (Σ_{i=k}^n C(i−1, k−1) = C(n, k)) the scale's factor is o / Σ_{k=1}^n (−1)^(k−1) C(n, k) o'^k / √k. float64.
    """
    o, n = opacity.double(), copies.double()
    shared = 1 - serially(torch.exp, serially(torch.log, 1 - o) / n)
    total = torch.zeros_like(o)
    term = -torch.ones_like(o)  # (−1)^(k−1) C(n, k) o'^k, from its predecessor
    for k in range(1, int(copies.max()) + 1 if len(copies) else 1):
        term = -term * shared * ((n - k + 1).clamp(min=0) / k)
        total += term / math.sqrt(k)
    return shared, o / total


class Pull(torch.autograd.Function):
    """weight · mean f(x) for f = sigmoid or exp: the terms by which Mcmc asks for less opacity and smaller splats."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float, kind: str) -> Tensor:
        y = serially(torch.sigmoid if kind == "sigmoid" else torch.exp, x.detach())
        ctx.save_for_backward(y)
        ctx.weight, ctx.kind = weight / max(1, x.numel()), kind
        return y.sum() * ctx.weight

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        slope = y - y * y if ctx.kind == "sigmoid" else y
        return slope * (v * ctx.weight), None, None
