"""How likely a prior finds examples that it has not seen."""

from __future__ import annotations

import math
from typing import Any

import torch

from neural3d.errors import UserError
from neural3d.examples.examples import Examples, as_numbers
from neural3d.methods.abilities import Likelihood
from neural3d.run import Run, write_json

AT_ONCE = 500  # examples that are scored together


@torch.no_grad()
def evaluate_likelihood(run: Run, *, split: str = "test", limit: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Scores the examples of a split and writes RUN/eval.json.

    nats: the mean of −log p(x). bits_per_dim: the same per value of an example, in bits. deviation: the standard error
    of nats, from the spread between examples. limit: how many of them, evenly spread; of a method that takes long for
    each, as many as it says.
    Raises UserError where the run has no likelihood, or nothing is in the split.
    """
    method = run.able(Likelihood)
    examples = run.config.load_data()
    assert isinstance(examples, Examples)
    examples = type(run.method).prepared(examples, run.method.config)
    assert examples.values is not None
    if split not in examples.values:
        raise UserError(f"{examples.path}: has no {split} examples; there are {', '.join(examples.values)}.")
    device = next(run.method.parameters()).device
    values = examples.values[split]
    available = len(values)
    if (limit := limit or method.scored) and limit < available:
        values = values[torch.arange(limit) * available // limit]
    generator = torch.Generator(device).manual_seed(seed)
    scores = torch.cat(
        [method.score(x.to(device).float() * as_numbers(examples), generator).cpu() for x in values.split(AT_ONCE)]
    ).double()
    nats = -float(scores.mean())
    report = {
        "method": run.config.method,
        "checkpoint": {"step": run.step},
        "protocol": {
            "split": split,
            "examples": len(values),
            "of": available,
            "likelihood": method.likelihood,
            "values": examples.length,
            "binarised": "each value by its probability, once, seed 0" if examples.binary else None,
            "seed": seed,
        },
        "results": {
            "nats": nats,
            "bits_per_dim": nats / examples.length / math.log(2),
            "deviation": float(scores.std()) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0,
        },
    }
    write_json(run.directory / "eval.json", report)
    return report
