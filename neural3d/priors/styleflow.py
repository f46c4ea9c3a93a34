"""`styleflow`: codes of another run by their attributes, such as a texture's roughness: drawn anew, and changed.

Abdal, Zhu, Mitra, Wonka: "StyleFlow: Attribute-conditioned Exploration of StyleGAN-Generated Images using Conditional
Continuous Normalizing Flows", ACM Trans. Graph. 2021. A continuous flow n = f(z; a) of codes z given attributes a
(neural3d/priors/continuous.py),
    log p(z | a) = log N(f(z; a); 0, 1) + log |det ∂f/∂z|
    drawn:  z = f⁻¹(n; a), n normal            edited:  z' = f⁻¹(f(z; a); a'), for a changed in some attributes   (3.3)
There z are StyleGAN's; here they are those of a vae or ae run. Blocks are followed by ActNorm, not by normalisation of
batches. Where only some attributes are asked for, the others are those of training examples that are alike in these;
where a picture's own are not known, they are their mean under p(a | z) ∝ p(z | a) over training examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from neural3d.config import Count, Layers, Width
from neural3d.errors import UserError
from neural3d.examples.attributes import TABLE
from neural3d.examples.examples import Examples, ExampleSource
from neural3d.methods.abilities import Steered
from neural3d.priors.base import PriorConfig
from neural3d.priors.bijections import ActNorm, Bijection
from neural3d.priors.continuous import Continuous
from neural3d.priors.flow import Scales, log_normal

KEPT = 1000  # training examples at most whose attributes are remembered
ALIKE = 0.2  # deviations by which attributes differ that are still alike


@dataclass(frozen=True)
class StyleFlowConfig(PriorConfig):
    """Settings of `styleflow`."""

    horizon: Count = 4000
    lr: float = 2e-3
    lr_final: float = 2e-5
    blocks: Layers = 2  # flows in turn
    width: Width = 128  # of each one's hidden layer
    steps: Count = 6  # of its integration


class StyleFlow(Scales, Steered):
    """See the module's docstring. An example is a code with its attributes behind it."""

    Config = StyleFlowConfig
    wants = "numbers"
    known: Float[Tensor, "N A"]

    def __init__(self, config: StyleFlowConfig, scene: Examples):
        super().__init__(config, scene)
        self.likelihood = "exact but for the steps of its integral; of codes given their attributes"
        self.attributes = scene.attributes
        self.codes = scene.shape[0] - len(scene.attributes)  # numbers of a code
        self.register_buffer("known", torch.zeros(min(scene.counts["train"], KEPT), len(self.attributes)))

    @classmethod
    def prepared(cls, scene: Examples, config: StyleFlowConfig) -> Examples:
        """Codes that have all attributes, with these behind. Classes serve as attributes of 0 and 1 where no others are
        known."""
        scene = super().prepared(scene, config)
        names, measures = scene.attributes, scene.measures
        if not names and scene.labels is not None:
            names = scene.classes
            measures = {split: one_hot(x, len(names)).float() for split, x in scene.labels.items()}
        if measures is None or scene.values is None:
            raise UserError(
                f"{scene.path}: its examples have no attributes; put a table {TABLE} (name,roughness,…) beside the "
                "pictures, train a vae on them, and give its run."
            )
        values = {}
        for split, codes in scene.values.items():
            every = torch.cat([codes, measures[split]], 1)
            values[split] = every[every.isfinite().all(1)]
        counts = {split: len(x) for split, x in values.items()}
        if counts["train"] < 2:
            raise UserError(f"{scene.path}: {counts['train']} examples have all attributes; a prior needs thousands.")
        shape = [int(values["train"].shape[1])]
        return replace(scene, shape=shape, values=values, counts=counts, attributes=names, labels=None, measures=None)

    def source(self, scene: Examples, device: torch.device) -> ExampleSource:
        source = super().source(scene, device)
        some = torch.arange(len(self.known), device=device) * len(source.values) // len(self.known)
        self.known.copy_(self.continuous(source.values[some], torch.Generator())[:, self.codes :])
        return source

    def layers_of(self, shape: list[int], scale: int) -> list[Bijection]:
        c, seen = self.config, len(self.scene.attributes)
        length = shape[0] - seen
        pairs = [(Continuous(length, seen, c.width, c.steps), ActNorm(length)) for _ in range(c.blocks)]
        return [layer for pair in pairs for layer in pair]

    def log_density(self, y: Float[Tensor, "B L+A"]) -> Float[Tensor, "B"]:
        """Of the codes given the attributes."""
        z, log_det = self.to_normal(y[:, : self.codes], [y[:, self.codes :]])
        return log_det + log_normal(z)

    def log_likelihood(self, x: Float[Tensor, "B L+A"], generator: torch.Generator) -> Float[Tensor, "B"]:
        return super().log_likelihood(x, generator) + self.deviation[self.codes :].log().sum()

    @torch.no_grad()
    def draw(
        self,
        count: int,
        generator: torch.Generator,
        temperature: float = 1.0,
        asked: Mapping[str, float] | None = None,
    ) -> Float[Tensor, "count L"]:
        """Codes. temperature: deviation of n."""
        where, values = self._asked(asked or {})
        far = (self.known[:, where] - values).square().sum(1)
        rows = torch.multinomial((-far / ALIKE**2 / 2).softmax(0), count, replacement=True, generator=generator)
        given = self.known[rows]
        given[:, where] = values
        n = temperature * torch.randn(count, self.codes, generator=generator, device=given.device)
        return self._codes(n, given)

    @torch.no_grad()
    def edited(
        self, z: Float[Tensor, "B L"], asked: Mapping[str, float], own: Float[Tensor, "B A"] | None = None
    ) -> Float[Tensor, "B L"]:
        """As `Steered.edited`."""
        codes = (z - self.mean[: self.codes]) / self.deviation[: self.codes]
        behind = slice(self.codes, None)
        given = self._likely(codes) if own is None else (own - self.mean[behind]) / self.deviation[behind]
        n, _ = self.to_normal(codes, [given])
        where, values = self._asked(asked)
        given[:, where] = values
        return self._codes(n, given)

    def _asked(self, asked: Mapping[str, float]) -> tuple[list[int], Float[Tensor, "asked"]]:
        """(which attributes, their values less their mean, over their deviation)"""
        where = [self.attributes.index(name) for name in asked]
        values = torch.tensor([*asked.values()], dtype=self.mean.dtype, device=self.mean.device)
        behind = [self.codes + i for i in where]
        return where, (values - self.mean[behind]) / self.deviation[behind]

    def _codes(self, n: Float[Tensor, "B L"], given: Float[Tensor, "B A"]) -> Float[Tensor, "B L"]:
        y = torch.cat([self.from_normal(n, [given], [self.codes]), given], 1)
        return self.examples(y)[:, : self.codes]

    def _likely(self, codes: Float[Tensor, "B L"]) -> Float[Tensor, "B A"]:
        """E[a | z] over the attributes that are known."""
        means = []
        for z in codes:
            n, log_det = self.to_normal(z.expand(len(self.known), -1), [self.known])
            means.append((log_det + log_normal(n)).softmax(0) @ self.known)
        return torch.stack(means)
