"""Half-hidden silhouettes of furniture, completed by Boltzmann machines and a GSN, beside the most similar ones known.

    OMP_NUM_THREADS=1 python benchmarks/bench_silhouettes.py /tmp/silhouettes

Photographs procedural furniture (`neural3d.scene.objects`), keeps the silhouettes, trains each prior on those of the
training pieces as `neural3d train` does unless OUT holds the run, and hides a half of silhouettes of held-out pieces:
in turn left, right, top and bottom. What a prior draws given the rest, several times, is compared with what was there,
by the intersection over union of the hidden half alone: of each answer, and of what most answers say. Beside it the
training silhouette that differs in the fewest pixels of the half that is seen.
OUT/sheet.png: what is seen, four answers of each prior, the most similar known one, the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from bench_category import trained
from common import machine, table
from PIL import Image
from torch import Tensor

from neural3d.examples.reading import read_examples
from neural3d.examples.sheet import contact_sheet
from neural3d.methods.abilities import Completing
from neural3d.run import load
from neural3d.scene.objects import shots_of
from neural3d.shapes.category import load_shape_set
from neural3d.synthetic.furniture import write_furniture

SIDE = 32  # pixels
SAMPLES = 8
SHOWN = 8
HALVES = ("left", "right", "top", "bottom")


def write_silhouettes(shapes: Path, out: Path) -> None:
    """OUT/SPLIT/NAME_VIEW.png"""
    known = load_shape_set(shapes)
    for split in ("train", "test"):
        masks = shots_of(known, split, SIDE).pixels[..., 3]
        (out / split).mkdir(parents=True)
        for name, views in zip(known.members[split], masks):
            for i, mask in enumerate(views):
                pixels = ((mask.numpy() > 127) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(out / split / f"{Path(name).stem}_{i:02}.png")


def half(side: str) -> Tensor:
    """(1, S, S): what is hidden."""
    hidden = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    {
        "left": hidden[..., : SIDE // 2],
        "right": hidden[..., SIDE // 2 :],
        "top": hidden[:, : SIDE // 2],
        "bottom": hidden[:, SIDE // 2 :],
    }[side].fill_(True)
    return hidden


def iou(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """(B,) of the pixels `where`; NaN where there is nothing to find."""
    a, b = (x.bool() & where for x in (a, b))
    union = (a | b).flatten(1).sum(1).float()
    return torch.where(union > 0, (a & b).flatten(1).sum(1) / union, torch.nan)


def nearest(known: Tensor, x: Tensor, where: Tensor) -> Tensor:
    """Of the known ones, those that differ least from each of x in the pixels `where`."""
    seen = where.expand(x.shape[1:]).flatten()
    a, b = (y.flatten(1)[:, seen].float() for y in (x, known))
    differ = a.sum(1)[:, None] + b.sum(1) - 2 * a @ b.T
    return known[differ.argmin(1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", nargs="+", default=["rbm", "dbm", "gsn"])
    parser.add_argument("--set", nargs="*", default=[], help="settings for all methods")
    parser.add_argument("--count", type=int, default=200, help="silhouettes measured for each half")
    parser.add_argument("--split", default="test", choices=("val", "test"), help="val: the last of the training pieces")
    given = parser.parse_args()
    pictures = given.out / "pictures"
    if not pictures.exists():
        if not (given.out / "shapes").exists():
            write_furniture(given.out / "shapes")
        write_silhouettes(given.out / "shapes", pictures)
    print(machine())
    runs = {}
    for method in given.methods:
        print(f"{method}: {trained(pictures, method, given.out / method, given.set)}", flush=True)
        runs[method] = load(given.out / method, "cpu")
    data = read_examples(pictures)
    examples = data.binarised()  # of zeros and ones already: as they are
    assert examples.values is not None
    known, held = (examples.values[split].float() for split in ("train", given.split))
    every = torch.arange(0, len(held), max(1, len(held) // given.count))[: given.count]
    truth = held[every]
    rows, shown = [], []
    for side in HALVES:
        hidden = half(side)
        alike = nearest(known, truth, ~hidden)
        row, pictures_of = [side, f"{iou(alike, truth, hidden).nanmean():.3f}"], [torch.where(hidden, 0.5, truth)]
        for run in runs.values():
            prior, generator = run.able(Completing), torch.Generator().manual_seed(0)
            where = (~hidden).expand_as(truth)
            answers = torch.stack([prior.complete(truth, where, generator) for _ in range(SAMPLES)])
            each = torch.stack([iou(a, truth, hidden) for a in answers]).nanmean()
            row += [f"{iou(answers.mean(0) > 0.5, truth, hidden).nanmean():.3f}", f"{each:.3f}"]
            pictures_of += list(answers[:4])
        rows.append(row)
        shown += [x[i] for i in range(SHOWN // len(HALVES)) for x in (*pictures_of, alike, truth)]
    mean = [f"{np.mean([float(row[i]) for row in rows]):.3f}" for i in range(1, len(rows[0]))]
    heads = [head for method in runs for head in (f"{method}: most say", f"{method}: each")]
    print(table(["hidden", "most similar known", *heads], [*rows, ["mean", *mean]]))
    sheet = contact_sheet(torch.stack(shown), columns=len(shown) // SHOWN)
    Image.fromarray(sheet).save(given.out / "sheet.png")


if __name__ == "__main__":
    main()
