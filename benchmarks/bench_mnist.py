"""Priors on binarised MNIST, beside what was published: test nats, lower is better.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_mnist.py OUT [--rows NADE VAE ...] [--set KEY=VALUE ...]

Trains as `neural3d train` does, unless OUT holds the run, with default settings. 50,000 pictures to learn from, 10,000
held out for choices, 10,000 scored; each value drawn once by its brightness (another draw than the papers, which
may move figures by some tenths). --mixture: a mixture of 500 Bernoullis by these data beside.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from common import machine, table

from neural3d.evaluate.prior import evaluate_prior
from neural3d.examples.reading import read_examples
from neural3d.run import configure, load
from neural3d.train import Trainer

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "images2d/mnist_full"
ROWS: dict[str, tuple[str, list[str], str, str]] = {  # name: method, settings, published, must
    "FVSBN": ("fvsbn", [], "97.5", "99"),
    "RBM, 500 hidden": ("rbm", [], "86.3", "90"),
    "DBM, two layers": ("dbm", [], "84.6", "88"),
    "NADE, 500 hidden": ("nade", [], "88.3", "90"),
    "MADE, one mask": ("made", [], "88.4", "92"),
    "MADE, 32 masks": ("made", ["masks=32"], "88.0", "91"),
    "EoNADE": ("eonade", [], "87.7", "90"),
    "VAE, 50 latents, ELBO": ("vae", ["samples=1"], "100-106", "105"),
    "VAE, bound by 50 codes": ("vae", [], "below 90", "-"),
    "PixelCNN": ("pixelcnn", [], "81.3", "85"),
    "PixelRNN": ("pixelrnn", [], "79.2", "85"),
    "transformer": ("transformer", [], "-", "-"),
}


def measured(out: Path, name: str, more: list[str]) -> list[str]:
    method, settings, published, must = ROWS[name]
    folder = out / "-".join([method, *settings, *more]).replace("/", "_")
    took = "before"
    if not (folder / "checkpoint.safetensors").exists():
        trainer = Trainer.create(folder, *configure(DATA, method, [*settings, *more]), torch.device("cpu"))
        begin, cpu = time.perf_counter(), time.process_time()
        trainer.fit(trainer.method.config.horizon, previews=False)
        took = f"{(time.perf_counter() - begin) / 60:.1f} ({(time.process_time() - cpu) / 60:.1f} CPU)"
    run = load(folder, "cpu")
    report = evaluate_prior(run)
    results, protocol = report["results"], report["protocol"]
    nats = f"{results['nats']:.2f} ± {results['deviation']:.2f}"
    count = sum(p.numel() for p in run.method.parameters())
    return [name, published, must, nats, str(protocol["examples"]), f"{run.step:,}", f"{count:,}", took]


def mixture(count: int = 500, rounds: int = 40) -> float:
    """Test nats of a mixture of so many Bernoullis, by expectation-maximisation with Beta(1.1, 1.1) priors."""
    values = read_examples(DATA).binarised().values
    assert values is not None
    x, test = (values[split].flatten(1).float() for split in ("train", "test"))
    generator = torch.Generator().manual_seed(0)
    mean = 0.5 * x.mean(0) + 0.5 * x[torch.randperm(len(x), generator=generator)[:count]]
    share = torch.full((count,), 1 / count)

    def logs(y: torch.Tensor) -> torch.Tensor:
        p = mean.clamp(1e-3, 1 - 1e-3)
        return y @ (p.log() - (-p).log1p()).T + (-p).log1p().sum(1) + share.log()

    for _ in range(rounds):
        total, ones = torch.zeros(count), torch.zeros_like(mean)
        for part in x.split(5000):
            r = logs(part).softmax(1)
            total += r.sum(0)
            ones += r.T @ part
        mean, share = (ones + 0.1) / (total[:, None] + 0.2), (total + 1e-3) / (total + 1e-3).sum()
    return -float(logs(test).logsumexp(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=[*ROWS])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--mixture", action="store_true", help="the baseline too")
    given = parser.parse_args()
    print(machine())
    rows = []
    for name in given.rows:
        rows.append(measured(given.out, name, given.set))
        print(*rows[-1], flush=True)
    if given.mixture:
        rows.append(["mixture of 500 Bernoullis", "137.6", "-", f"{mixture():.2f}", "10000", "40 rounds", "-", "-"])
    print(table(["model", "published", "must", "test nats", "examples", "steps", "parameters", "minutes"], rows))


if __name__ == "__main__":
    main()
