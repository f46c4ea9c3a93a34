"""Priors beside other packages' on the same data, steps, batches and about as many parameters, in one run.

    pip install -c constraints.txt zuko normflows x-transformers vector-quantize-pytorch scikit-learn
    NEURAL3D_DATA=../shared/data python benchmarks/bench_prior_peers.py [--rows …] [--steps 400] [--seeds 0 1 2]

All contenders of a row see the same batches, one after the other, so that a busy machine is unfair to none; all are
trained by torch's Adam with the same rate, falling by 100. Time: the median over steps of each one's processor time for
a step (loss, its gradients, Adam), over ours. Scores are of what was held out, values dequantised by the same noise.
Parameters of peers: as near to ours as their width allows, see `as_many`.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, table
from torch import Tensor, nn

from neural3d.examples.examples import ExampleBatch, Examples, as_numbers
from neural3d.examples.reading import made, read_examples
from neural3d.priors.glow import Glow, GlowConfig
from neural3d.priors.pca import Pca, PcaConfig
from neural3d.priors.realnvp import RealNvp, RealNvpConfig
from neural3d.priors.transformer import Transformer, TransformerConfig
from neural3d.priors.vqvae import VqVae, VqVaeConfig

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "images2d"
ALPHA, LEVELS = 0.05, 256
CPU = torch.device("cpu")


@dataclass
class Contender:
    """loss: of a batch of numbers, as the trainer gives it; score: of held-out examples, (B,)."""

    name: str
    modules: nn.Module
    loss: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor]
    seconds: list[float] = field(default_factory=list)
    optimiser: Any = None

    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.modules.parameters() if p.requires_grad]

    def size(self) -> int:
        return sum(p.numel() for p in self.parameters())


Row = Callable[[int], tuple[list[Contender], Examples, str]]  # of a seed: contenders, data, what scores are


def ours(make: Any, config: Any, examples: Examples, score: Callable[[Any, Tensor], Tensor]) -> Contender:
    method = make(config, examples)
    method.source(examples, CPU)
    generator = torch.Generator().manual_seed(0)

    def loss(x: Tensor) -> Tensor:
        return sum(method.loss(ExampleBatch(x, torch.zeros(len(x))), 0.0, generator)[0].values())  # type: ignore

    return Contender(f"ours, {make.__name__.lower()}", method, loss, lambda x: score(method, x))


def as_many(make: Callable[[int], Contender], of: int, start: int = 4, stop: int = 600) -> Contender:
    """The contender of the least width that has as many parameters, to within what one step of the width makes."""
    low, high = start, stop
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if make(middle).size() < of else (low, middle)
    return make(low)


def train(contenders: list[Contender], examples: Examples, steps: int, batch: int, lr: float, seed: int) -> None:
    assert examples.values is not None
    values, scale = examples.values["train"], as_numbers(examples)
    generator = torch.Generator().manual_seed(seed)
    for c in contenders:
        c.modules.train()
    for step in range(steps):
        x = values[torch.randint(len(values), (batch,), generator=generator)].float() * scale
        for c in contenders:
            begin = time.process_time()
            loss = c.loss(x)
            if c.optimiser is None:  # some make their parameters when they first see data
                c.optimiser = torch.optim.Adam(c.parameters(), lr)
            c.optimiser.zero_grad()
            loss.backward()
            c.optimiser.param_groups[0]["lr"] = lr * 0.01 ** (step / steps)
            c.optimiser.step()
            c.seconds.append(time.process_time() - begin)


@torch.no_grad()
def held_out(c: Contender, examples: Examples, count: int) -> float:
    assert examples.values is not None
    c.modules.eval()
    values = examples.values["test"][:count]
    torch.manual_seed(0)
    return float(torch.cat([c.score(x.float() * as_numbers(examples)) for x in values.split(250)]).double().mean())


# --- flows of pictures ---


def dequantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """(logits of y = (v + u) / 256 as the engine's flows take them, log |det| with that of the levels)"""
    inner = ALPHA + (1 - 2 * ALPHA) * (x * (LEVELS - 1) + torch.rand_like(x)) / LEVELS
    slopes = math.log(1 - 2 * ALPHA) - inner.log() - (-inner).log1p() - math.log(LEVELS)
    return inner.log() - (-inner).log1p(), slopes.flatten(1).sum(1)


def of_pictures(name: str, model: nn.Module, log_p: Callable[[Tensor], Tensor], shape: list[int]) -> Contender:
    def score(x: Tensor) -> Tensor:
        y, log_det = dequantised(x)
        return -(log_p(y) + log_det) / math.log(2) / math.prod(shape)

    return Contender(name, model, lambda x: score(x).mean(), score)


def zuko_realnvp(shape: list[int], width: int) -> Contender:
    """Couplings of all values in a row, as zuko has them."""
    import zuko

    flow = zuko.flows.RealNVP(math.prod(shape), transforms=6, hidden_features=(width, width))
    return of_pictures("zuko, RealNVP", flow, lambda y: flow().log_prob(y.flatten(1)), shape)


def normflows_glow(shape: list[int], scales: int, steps: int, width: int) -> Contender:
    import normflows as nf

    channels, height, _ = shape
    bases, flows, merges = [], [], []
    for i in range(scales):  # the innermost first
        halved = 2 ** (scales - i)
        now = channels * 2 ** (scales + 1 - i)
        flows.append([nf.flows.GlowBlock(now, width, split_mode="channel", scale=True) for _ in range(steps)])
        flows[-1].append(nf.flows.Squeeze())
        inner = now if i == 0 else now // 2
        bases.append(nf.distributions.DiagGaussian((inner, height // halved, height // halved), trainable=False))
        if i:
            merges.append(nf.flows.Merge())
    model = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)
    return of_pictures("normflows, Glow", model, lambda y: model.log_prob(y, None), shape)


def pictures(name: str) -> Examples:
    """8,000 of MNIST's to learn from, or CIFAR's 2,500 less those that are held out."""
    if name == "cifar":
        return read_examples(DATA / "cifar10_subset" / "data_batch_2500.bin")
    return read_examples(DATA / "mnist_full")


def flows_of(name: str) -> Row:
    def row(seed: int) -> tuple[list[Contender], Examples, str]:
        examples = pictures(name)
        torch.manual_seed(seed)
        bits = examples.length * math.log(2)
        generator = torch.Generator().manual_seed(1)
        glow, nvp = (
            ours(make, config, examples, lambda m, x: -m.score(x, generator) / bits)
            for make, config in ((Glow, GlowConfig(width=48, steps=6)), (RealNvp, RealNvpConfig(width=24, blocks=1)))
        )
        for c in (glow, nvp):
            c.loss = lambda x, inner=c.loss: inner(x) / bits  # type: ignore[misc]
        theirs = as_many(lambda w: normflows_glow(examples.shape, 2, 6, w), glow.size())
        return [glow, theirs, nvp, as_many(lambda w: zuko_realnvp(examples.shape, w), nvp.size())], examples, "bits/dim"

    return row


# --- flows of vectors ---


def codes() -> Examples:
    """MNIST's first 32 principal coordinates."""
    examples = read_examples(DATA / "mnist_full")
    pca = Pca(PcaConfig(latent=32), examples)
    pca.source(examples, CPU)
    assert examples.values is not None
    parts = {s: (pca.encode(x.float() / 255).numpy().astype(np.float32), None) for s, x in examples.values.items()}
    return made(Path("codes"), parts)


def of_vectors(seed: int) -> tuple[list[Contender], Examples, str]:
    import normflows as nf
    import zuko

    examples = codes()
    assert examples.values is not None
    mean, deviation = examples.values["train"].mean(0), examples.values["train"].std(0)
    unit = float(deviation.log().sum())
    torch.manual_seed(seed)
    generator = torch.Generator()
    mine = ours(RealNvp, RealNvpConfig(), examples, lambda m, x: -m.score(x, generator))

    def contender(name: str, model: nn.Module, log_p: Callable[[Tensor], Tensor]) -> Contender:
        def score(x: Tensor) -> Tensor:
            return unit - log_p((x - mean) / deviation)

        return Contender(name, model, lambda x: score(x).mean(), score)

    def of_zuko(width: int) -> Contender:
        flow = zuko.flows.RealNVP(examples.length, transforms=6, hidden_features=(width, width))
        return contender("zuko, RealNVP", flow, lambda y: flow().log_prob(y))

    def of_normflows(width: int) -> Contender:
        half, layers = examples.length // 2, []
        for _ in range(6):
            net = nf.nets.MLP([half, width, width, 2 * half], init_zeros=True)
            layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(examples.length, mode="swap")]
            layers += [nf.flows.ActNorm(examples.length)]
        flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(examples.length, trainable=False), layers)
        return contender("normflows, RealNVP", flow, flow.log_prob)

    return [mine, as_many(of_zuko, mine.size()), as_many(of_normflows, mine.size())], examples, "nats"


# --- transformer, vector quantisation ---


def of_sequences(seed: int) -> tuple[list[Contender], Examples, str]:
    """MNIST at 14 × 14, binarised."""
    from x_transformers import Decoder, TransformerWrapper

    full = read_examples(DATA / "mnist_full")
    assert full.values is not None
    small = {s: (nn.functional.avg_pool2d(x.float(), 2).round().byte().numpy(), None) for s, x in full.values.items()}
    examples = made(Path("small"), small).binarised()
    torch.manual_seed(seed)
    mine = ours(Transformer, TransformerConfig(), examples, lambda m, x: -m.score(x, torch.Generator()))
    layers = Decoder(dim=64, depth=4, heads=4, attn_dim_head=16, attn_flash=True, use_layernorm=True)
    model = TransformerWrapper(num_tokens=3, max_seq_len=196, logits_dim=1, attn_layers=layers)

    def score(x: Tensor) -> Tensor:
        tokens = x.flatten(1).long()
        before = torch.cat([torch.full_like(tokens[:, :1], 2), tokens[:, :-1]], 1)
        told = model(before).view_as(tokens)
        return nn.functional.binary_cross_entropy_with_logits(told, x.flatten(1), reduction="none").sum(1)

    return [mine, Contender("x-transformers", model, lambda x: score(x).mean(), score)], examples, "nats"


def of_books(seed: int) -> tuple[list[Contender], Examples, str]:
    """The same encoder and decoder, from the same start, around either book."""
    from vector_quantize_pytorch import VectorQuantize

    examples = read_examples(DATA / "mnist_full")
    torch.manual_seed(seed)
    c = VqVaeConfig()

    def error(back: Tensor, x: Tensor) -> Tensor:
        return (back - x).square().flatten(1).mean(1)

    mine = ours(VqVae, c, examples, lambda m, x: error(m.decode(m.encode(x)), x))
    method = mine.modules
    encoder, decoder = copy.deepcopy(method.encoder), copy.deepcopy(method.decoder)
    book = VectorQuantize(
        dim=c.length,
        codebook_size=c.entries,
        decay=c.decay,
        commitment_weight=c.commitment,
        threshold_ema_dead_code=2,
        kmeans_init=True,
        accept_image_fmap=True,
        rotation_trick=False,
    )
    theirs = nn.ModuleList([encoder, decoder, book])

    def loss(x: Tensor) -> Tensor:
        z, _, commitment = book(encoder(x))
        return (decoder(z) - x).square().mean() / method.variance + commitment.sum()

    def score(x: Tensor) -> Tensor:
        return error(decoder(book(encoder(x))[0]).clamp(0, 1), x)

    return [mine, Contender("vector-quantize-pytorch", theirs, loss, score)], examples, "mean square error"


ROWS: dict[str, tuple[Row, int, float]] = {  # contenders, batch, rate
    "vectors": (of_vectors, 100, 1e-3),
    "mnist": (flows_of("mnist"), 32, 1e-3),
    "cifar": (flows_of("cifar"), 32, 1e-3),
    "transformer": (of_sequences, 16, 1e-3),
    "book": (of_books, 32, 1e-3),
}


def principal(examples: Examples, name: str, rounds: int = 5) -> list[list[str]]:
    """scikit-learn's components beside ours, 32 of them: held-out error of what comes back, and time to find them."""
    from sklearn.decomposition import PCA

    assert examples.values is not None
    # As ours sees pictures: levels with their noise.
    generator = torch.Generator().manual_seed(0)
    train, test = examples.values["train"].float() / 255, examples.values["test"].float() / 255
    method, theirs = Pca(PcaConfig(latent=32), examples), PCA(32)
    noisy = method.continuous(train, generator).flatten(1).numpy()
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        begin = time.process_time()
        method.source(examples, CPU)
        middle = time.process_time()
        theirs.fit(noisy)
        times["ours"].append(middle - begin)
        times["theirs"].append(time.process_time() - middle)
    back = method.decode(method.encode(test)).flatten(1)
    y = ((test * 255 + 0.5) / 256).flatten(1).numpy()
    other = (torch.from_numpy(theirs.inverse_transform(theirs.transform(y))) * 256 - 0.5) / 255
    flat = test.flatten(1)
    rows = []
    for label, of, took in (("ours, pca", back, "ours"), ("scikit-learn, PCA", other, "theirs")):
        ratio = statistics.median(a / b for a, b in zip(times[took], times["ours"]))
        error = float((of - flat).square().mean())
        median = f"{statistics.median(times[took]):.2f} s in all"
        rows.append([f"pca of {name}", label, "-", "mean square error", f"{error:.6f}", median, f"{ratio:.2f}"])
    return rows


def gaussian(name: str) -> list[str]:
    """The normal distribution of the first principal components, as many as the validation split likes best."""
    examples = pictures(name)
    assert examples.values is not None
    best: tuple[float, int, float] = (math.inf, 0, 0.0)
    for count in (32, 128, 512):
        pca = Pca(PcaConfig(latent=count), examples)
        pca.source(examples, CPU)
        val, test = (
            -float(pca.score(examples.values[s].float() / 255, torch.Generator().manual_seed(0)).double().mean())
            / examples.length / math.log(2) for s in ("val", "test")
        )  # fmt: skip
        best = min(best, (val, count, test))
    return [name, f"ours, pca, {best[1]} components (normal)", "-", "bits/dim", f"{best[2]:.3f}", "-", "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "pca"], default=[*ROWS, "pca"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--count", type=int, default=2000, help="held-out examples that are scored")
    given = parser.parse_args()
    print(machine(), f"{given.steps} steps", flush=True)
    lines = []
    for name in given.rows:
        if name == "pca":
            lines += principal(pictures("mnist"), "mnist") + principal(pictures("cifar"), "cifar")
            continue
        row, batch, lr = ROWS[name]
        scores: dict[str, list[float]] = {}
        for seed in given.seeds:
            contenders, examples, unit = row(seed)
            train(contenders, examples, given.steps, batch, lr, seed)
            for c in contenders:
                scores.setdefault(c.name, []).append(held_out(c, examples, given.count))
                print(
                    name, seed, c.name, f"{scores[c.name][-1]:.4f}", f"{statistics.median(c.seconds):.4f} s", flush=True
                )
        first = contenders[0]
        for c in contenders:
            ratio = statistics.median(a / b for a, b in zip(c.seconds, first.seconds))
            score = f"{np.mean(scores[c.name]):.4f} ± {np.std(scores[c.name]):.4f}"
            took = f"{1000 * statistics.median(c.seconds):.1f} ms"
            lines.append([name, c.name, f"{c.size():,}", unit, score, took, f"{ratio:.2f}"])
        if name in ("mnist", "cifar"):
            lines.append(gaussian(name))
    print(table(["data", "model", "parameters", "unit", "held out", "CPU per step", "over the first"], lines))


if __name__ == "__main__":
    main()
