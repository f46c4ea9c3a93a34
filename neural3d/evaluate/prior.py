"""How likely a prior finds examples that it has not seen, and how well its codes keep them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neural3d.errors import UserError
from neural3d.examples.examples import Examples, as_numbers
from neural3d.methods.abilities import Classifying, Coding, Denoising, Likelihood, cannot
from neural3d.run import Run, write_json

AT_ONCE = 500  # examples that are scored together


@torch.no_grad()
def evaluate_prior(run: Run, *, split: str = "test", limit: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Scores the examples of a split and writes RUN/eval.json.

    Of a likelihood: nats, the mean of −log p(x); bits_per_dim, the same per value of an example, in bits; deviation,
    the standard error of nats, from the spread between examples. Of what denoises or codes: error, the mean square of
    the difference between examples and what comes back of them. Of what tells classes: accuracy, how many are right.
    limit: how many examples, evenly spread over the split, since those of a file may grow harder; None: all, or as many
    as the method says where each takes long.
    Raises UserError where the run can do none of these, or nothing is in the split.
    """
    method = run.method
    if not isinstance(method, Likelihood | Denoising | Coding):
        raise cannot(run.directory, method, Likelihood)
    examples = run.config.load_data()
    assert isinstance(examples, Examples)
    examples = type(method).prepared(examples, method.config)
    assert examples.values is not None
    if split not in examples.values:
        raise UserError(f"{examples.path}: has no {split} examples; there are {', '.join(examples.values)}.")
    device = next(method.parameters()).device
    values = examples.values[split]
    enough = method.scored if isinstance(method, Likelihood) else None
    count = min(limit or enough or len(values), len(values))
    chosen = torch.arange(count) * len(values) // count
    values = values[chosen]
    batches = [x.to(device).float() * as_numbers(examples) for x in values.split(AT_ONCE)]
    results: dict[str, float] = {}
    if isinstance(method, Likelihood):
        generator = torch.Generator(device).manual_seed(seed)
        scores = torch.cat([method.score(x, generator).cpu() for x in batches]).double()
        nats = -float(scores.mean())
        spread = float(scores.std()) if len(scores) > 1 else 0.0
        results |= {"nats": nats, "bits_per_dim": nats / examples.length / math.log(2)}
        results |= {"deviation": spread / math.sqrt(len(scores))}
    if isinstance(method, Classifying) and examples.labels is not None:
        told = torch.cat([method.classify(x).argmax(1).cpu() for x in batches])
        results["accuracy"] = float((told == examples.labels[split][chosen]).double().mean())
    back = _back(method)
    if back is not None:
        results["error"] = float(torch.cat([(back(x) - x).square().flatten(1).mean(1).cpu() for x in batches]).mean())
    report = {
        "method": run.config.method,
        "checkpoint": {"step": run.step},
        "protocol": {
            "split": split,
            "examples": len(values),
            "of": len(examples.values[split]),
            "likelihood": method.likelihood if isinstance(method, Likelihood) else None,
            "values": examples.length,
            "binarised": "each value by its probability, once, seed 0" if examples.binary else None,
            "seed": seed,
        },
        "results": results,
    }
    write_json(run.directory / "eval.json", report)
    return report


def _back(method: Any) -> Callable[[Tensor], Tensor] | None:
    """Examples as they come back of what was made of them."""
    if isinstance(method, Denoising):
        return method.denoise
    return (lambda x: method.decode(method.encode(x))) if isinstance(method, Coding) else None
