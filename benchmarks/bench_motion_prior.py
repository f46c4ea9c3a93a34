"""What follows a second of motion: priors of clips beside the last pose repeated, on clips that were held out.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_motion_prior.py OUT [--clips FOLDER] [--methods wavenet ...]

Clips are few, so each is held out once: the i-th is tested by what learnt from those of other i modulo FOLDS. Errors:
the angle between a joint's rotation, relative to its parent (the root's to the world), and the true one, in degrees,
the mean over joints and windows; of the root's place in cm. After 80, 160, 320 and 400 ms, as in the field. Repeating
the last pose is the baseline that naive models fail to beat (Martinez, Black, Romero, CVPR 2017).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, table

from neural3d.body.motion import Motion
from neural3d.body.tracks import MOVES, RATE, followed
from neural3d.body.windows import about, clips_of, windows
from neural3d.config import override, parse_assignments
from neural3d.examples.examples import Examples
from neural3d.examples.reading import made
from neural3d.geometry.rotations import conjugate, quaternion_from_axis_angle, quaternion_product
from neural3d.methods import method_class
from neural3d.methods.abilities import Foretelling
from neural3d.run import RunConfig, load
from neural3d.train import Trainer

CLIPS = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "motion"
FOLDS = 4
SEEN = 25  # frames, a second
AFTER = {ms: round(ms / 1000 * RATE) for ms in (80, 160, 320, 400)}  # frames


def split(clips: list[Motion], fold: int) -> tuple[list[Motion], list[Motion]]:
    """(to learn from, held out)"""
    return [c for i, c in enumerate(clips) if i % FOLDS != fold], clips[fold::FOLDS]


def examples_of(folder: Path, learnt: list[Motion], test: list[Motion], varied: bool = True) -> Examples:
    parts: dict[str, Any] = {"train": (windows(learnt, varied), None), "test": (windows(test), None)}
    return dataclasses.replace(made(folder.resolve(), parts), about=about(learnt[0].skeleton))


def trained(examples: Examples, method: str, out: Path, settings: list[str]) -> str:
    """Trains a run if there is none; says what it took."""
    if (out / "checkpoint.safetensors").exists():
        return "trained before"
    values = override(method_class(method).Config(), parse_assignments(settings), "--set")
    config = RunConfig(str(examples.path), {}, method, dataclasses.asdict(values))
    trainer = Trainer.create(out, config, examples, torch.device("cpu"))
    start = time.process_time()
    trainer.fit(values.horizon, previews=False)
    return f"{trainer.step} steps, {(time.process_time() - start) / 60:.1f} CPU minutes"


def joint_angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Degrees between the rotations of tracks, (…, J)."""
    q, p = (quaternion_from_axis_angle(x[..., :-3].unflatten(-1, (-1, 3))) for x in (a, b))
    turn = quaternion_product(conjugate(q), p)
    return 2 * torch.rad2deg(torch.atan2(turn[..., 1:].norm(dim=-1), turn[..., 0].abs()))


def errors(foretold: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """Of tracks (N, T, ·) after the frames of AFTER: degrees and cm, (4, 2, N)."""
    angle = joint_angles(foretold, true).mean(-1)
    apart = 100 * (foretold - true)[..., -3:].norm(dim=-1)
    both = torch.stack([angle, apart], 1)  # (N, 2, T)
    return both[..., [frames - 1 for frames in AFTER.values()]].permute(2, 1, 0).numpy()


def tracks(x: torch.Tensor, foretold: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(what is foretold, the truth) after SEEN frames, from one place; with the two simple ways to go on."""
    seen, true = x[:, :SEEN], x[:, SEEN : SEEN + max(AFTER.values())]
    start = torch.cat([x.new_zeros(len(x), 3), seen[:, -1, MOVES:], x.new_zeros(len(x), 3)], -1)
    ahead = torch.arange(1, true.shape[1] + 1)[None, :, None]
    speed = seen[:, -1:].clone().expand_as(true).clone()
    speed[..., MOVES:] += ahead * (seen[:, -1:, MOVES:] - seen[:, -2:-1, MOVES:])
    found = {"the last pose": start[:, None].expand(-1, true.shape[1], -1), "the last speed": followed(start, speed)}
    return found | {name: followed(start, f) for name, f in foretold.items()}, followed(start, true)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--methods", nargs="+", default=["wavenet", "lstm", "vrnn"])
    parser.add_argument("--folds", type=int, nargs="+", default=[*range(FOLDS)])
    parser.add_argument("--validate", action="store_true", help="hold out of what is learnt, and test on that")
    parser.add_argument("--plain", action="store_true", help="clips to learn from are neither mirrored nor sped up")
    parser.add_argument("--set", nargs="*", default=[])
    given = parser.parse_args()
    print(machine())
    clips, notes = clips_of(given.clips)
    print(*notes, sep="\n")
    print(f"{len(clips)} clips, {sum(c.seconds for c in clips):.0f} s: {', '.join(c.name for c in clips)}", flush=True)
    found: dict[str, list[np.ndarray]] = {}
    nats: dict[str, list[float]] = {}
    took: dict[str, str] = {}
    for fold in given.folds:
        learnt, test = split(clips, fold)
        if given.validate:
            learnt, test = split(learnt, 0)
        examples = examples_of(given.clips, learnt, test, not given.plain)
        assert examples.values is not None
        x = examples.values["test"]
        foretold = {}
        for method in given.methods:
            out = given.out / f"fold{fold}" / method
            took[method] = trained(examples, method, out, given.set)
            run = load(out, "cpu")
            foretold[method] = run.able(Foretelling).foretell(x[:, :SEEN], max(AFTER.values()))
            score = run.method.score(x, torch.Generator().manual_seed(0))  # type: ignore[operator]
            nats.setdefault(method, []).extend((-score / examples.length).tolist())
        made_tracks, true = tracks(x, foretold)
        for name, track in made_tracks.items():
            found.setdefault(name, []).append(errors(track, true))
        print(
            f"fold {fold}: {examples.counts}",
            {n: e[-1].mean(-1).round(2).tolist() for n, e in found.items()},
            flush=True,
        )
    rows = []
    for name, several in found.items():
        whole = np.concatenate(several, -1).mean(-1)
        own = f"{np.mean(nats[name]):.2f}" if name in nats else "-"
        rows.append([name, *(f"{angle:.2f} / {apart:.1f}" for angle, apart in whole), own, took.get(name, "-")])
    print(table(["", *(f"{ms} ms, ° / cm" for ms in AFTER), "nats a number", "training, of the last fold"], rows))


if __name__ == "__main__":
    main()
