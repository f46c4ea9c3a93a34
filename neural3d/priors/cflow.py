"""`cflow`: pairs of pictures, such as a texture's normals and colours: one given the other, and styles carried over.

Pumarola, Popov, Moreno-Noguer, Ferrari: "C-Flow: Conditional Generative Flow Models for Images and 3D Point Clouds",
CVPR 2020. Two flows as Glow's side by side, n_a = f(a) and n_b = g(b; a), each coupling of the second sees what the
same step has made of a:
    log p(a, b) = log N(n_a; 0, 1) + log |det ∂f/∂a| + log N(n_b; 0, 1) + log |det ∂g/∂b|
    an answer to a:  b = g⁻¹(n; a), n normal            a pair's style on another layout:  b = g⁻¹(g(b'; a'); a)
Both learn together by likelihood alone; the paper's loss of a cycle (its weight is their λ) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.config import Count, Layers, Width
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.methods.abilities import Paired
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Beside, Bijection, Mixing, Regroup, Squeeze, coupling
from neural3d.priors.flow import Flow, halvings


@dataclass(frozen=True)
class CFlowConfig(PriorConfig):
    """Settings of `cflow`."""

    scales: Count = 2  # each of half the size
    steps: Count = 6  # of each scale
    width: Width = 48  # of the couplings' networks
    blocks: Layers = 1  # residual blocks of each


class CFlow(Flow, Paired):
    """See the module's docstring. An example is a pair, a before b in the channels."""

    Config = CFlowConfig
    wants = "images"
    pairs = True

    @classmethod
    def prepared(cls, scene: Examples, config: CFlowConfig) -> Examples:
        scene = super().prepared(scene, config)
        if scene.shape[0] not in (2, 6):
            raise UserError(f"{scene.path}: holds no pairs; give a folder of pictures NAME_a.png and NAME_b.png.")
        return scene

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c = self.config
        half = [2 * shape[0], shape[1] // 2, shape[2] // 2]

        def step(seen: int) -> list[Bijection]:
            among = coupling(half, c.width, c.blocks, "halves", False, seen=seen)
            return [ActNorm(half[0]), Mixing(half[0]), among]

        layers: list[Bijection] = [Squeeze(), *(Beside(step(0), step(half[0])) for _ in range(c.steps))]
        last = scale + 1 == halvings(self.scene.shape, c.scales)
        return layers if last else [*layers, Regroup()]  # so that half of a and half of b go on

    def of_second(self, shape: list[int]) -> Bool[Tensor, "D"]:
        """Which values of n belong to b, of pairs of this shape."""
        parts = [torch.arange(s[0]) >= s[0] // 2 for s in self._shapes(shape)]
        places = [s[1] * s[2] for s in self._shapes(shape)]
        return torch.cat([part.repeat_interleave(n) for part, n in zip(parts, places)]).to(self.mean.device)

    @torch.no_grad()
    def answers(
        self, a: Float[Tensor, "B C h w"], generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "B C h w"]:
        """As `Paired.answers`. temperature: deviation of n."""
        noise = torch.randn(len(a), 2 * a[0].numel(), generator=generator, device=a.device)
        return self._second(a, temperature * noise)

    @torch.no_grad()
    def restyled(
        self, a: Float[Tensor, "B C h w"], pair: tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]
    ) -> Float[Tensor, "B C h w"]:
        """As `Paired.restyled`; all three of one size."""
        return self._second(a, self._codes(*pair))

    def _codes(self, a: Tensor, b: Tensor) -> Float[Tensor, "B D"]:
        halved = 1 << len(self.scales)
        if a.shape != b.shape or 2 * a.shape[1] != self.scene.shape[0] or any(side % halved for side in a.shape[2:]):
            raise UserError(
                f"it learnt pairs of {'grey' if self.scene.shape[0] == 2 else 'coloured'} pictures; all must have one "
                f"size, with sides that are multiples of {halved}."
            )
        return self.encode(torch.cat([a, b], 1))

    def _second(self, a: Tensor, n: Float[Tensor, "B D"]) -> Float[Tensor, "B C h w"]:
        """b of a, with the values of n that belong to it."""
        shape = [2 * a.shape[1], *a.shape[2:]]
        both = torch.where(self.of_second(shape), n, self._codes(a, a))  # what n_a is, no b has a part in
        return self.examples(self.from_normal(both, shape=shape)).chunk(2, 1)[1]
