"""m2 on MNIST with few labels: error of its classifier, and how much of the class its codes still know.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_m2.py OUT [--labels 100 1000] [--set KEY=VALUE ...]

Published (Kingma et al. 2014, table 1): error of M2 11.97 % with 100 labels, 3.60 % with 1,000. leak: how often
logistic regression tells the digit from z alone (trained on z of 5,000 training pictures; chance is about 11 %); error:
mean square of what comes back of z and q(y | x). Classes, errors and nats of 2,000 test pictures, binarised once.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from common import machine, table

from neural3d.evaluate.prior import evaluate_prior
from neural3d.run import configure, load
from neural3d.train import Trainer

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "images2d/mnist_full"


def measured(folder: Path, labels: int, settings: list[str]) -> list[str]:
    from sklearn.linear_model import LogisticRegression

    config, examples = configure(DATA, "m2", [f"labelled={labels}", "samples=1", *settings])
    if not (folder / "checkpoint.safetensors").exists():
        trainer = Trainer.create(folder, config, examples, torch.device("cpu"))
        trainer.fit(trainer.method.config.horizon, previews=False)
    run = load(folder, "cpu")
    results = evaluate_prior(run, limit=2000)["results"]
    binary = examples.binarised()
    assert binary.values is not None and binary.labels is not None
    length = run.method.config.latent
    z, test = (run.method.encode(binary.values[s][:5000].float())[:, :length].numpy() for s in ("train", "test"))
    told = LogisticRegression(max_iter=300).fit(z, binary.labels["train"][:5000])
    leak = told.score(test, binary.labels["test"][:5000])
    wrong = f"{100 * (1 - results['accuracy']):.1f} %"
    return [
        str(labels),
        f"{run.step:,}",
        wrong,
        f"{100 * leak:.1f} %",
        f"{results['error']:.4f}",
        f"{results['nats']:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    print(machine())
    rows = [measured(given.out / str(labels), labels, given.set) for labels in given.labels]
    print(table(["labels", "steps", "error of the class", "leak", "error", "nats"], rows))


if __name__ == "__main__":
    main()
