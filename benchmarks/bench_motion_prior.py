"""What follows a second of motion: priors of clips beside the last pose repeated, on clips that were held out.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_motion_prior.py OUT [--clips FOLDER] [--methods wavenet ...]

Errors: the angle between a joint's rotation, relative to its parent, and the true one, in degrees, the mean over joints
and windows; of the root's place in cm. After 80, 160, 320 and 400 ms, as in the field. Repeating the last pose is the
baseline that naive models fail to beat (Martinez, Black, Romero, CVPR 2017).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from bench_category import trained
from common import machine, table

from neural3d.body.windows import RATE
from neural3d.evaluate.prior import evaluate_prior
from neural3d.examples.examples import Examples
from neural3d.geometry.rotations import axis_angle_from_rotation, rotation_from_axis_angle
from neural3d.methods.abilities import Foretelling
from neural3d.run import load, load_examples

CLIPS = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "motion"
SEEN = 25  # frames, a second
AFTER = {ms: round(ms / 1000 * RATE) for ms in (80, 160, 320, 400)}  # frames


def errors(foretold: torch.Tensor, true: torch.Tensor) -> list[str]:
    """Of (N, T, D) after the frames of AFTER: degrees / cm."""
    rows = []
    for frames in AFTER.values():
        a, b = (x[:, frames - 1] for x in (foretold, true))
        turn = [rotation_from_axis_angle(x[:, :-3].reshape(len(x), -1, 3)) for x in (a, b)]
        angle = axis_angle_from_rotation(turn[0].mT @ turn[1]).norm(dim=-1)
        apart = (a[:, -3:] - b[:, -3:]).norm(dim=-1)
        rows.append(f"{float(angle.rad2deg().mean()):.2f} / {100 * float(apart.mean()):.1f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--methods", nargs="+", default=["wavenet", "lstm", "vrnn"])
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    print(machine())
    examples = load_examples(given.clips)
    assert isinstance(examples, Examples) and examples.values is not None
    print(*examples.notes, sep="\n")
    x = examples.values["test"]
    seen, true = x[:, :SEEN], x[:, SEEN:]
    rows = [["the last pose", *errors(seen[:, -1:].expand_as(true), true), "-", "-"]]
    speed = seen[:, -1:] - seen[:, -2:-1]
    going_on = seen[:, -1:] + speed * torch.arange(1, true.shape[1] + 1)[:, None]
    rows.append(["the last speed", *errors(going_on, true), "-", "-"])
    for method in given.methods:
        took = trained(given.clips, method, given.out / method, given.set)
        run = load(given.out / method, "cpu")
        foretold = run.able(Foretelling).foretell(seen, max(AFTER.values()))
        results = evaluate_prior(run)["results"]
        rows.append([method, *errors(foretold, true), f"{results['nats'] / examples.length:.3f}", took])
        print(*rows[-1], flush=True)
    print(table(["", *(f"{ms} ms, ° / cm" for ms in AFTER), "nats a number", "training"], rows))


if __name__ == "__main__":
    main()
