"""Do pictures have the attributes that were asked of styleflow? On held-out examples.

    NEURAL3D_DATA=../shared/data python benchmarks/bench_styleflow.py OUT [--data textures mnist] [--seeds 0 1 2]

textures: tiles of 16 × 16 pixels of Poly Haven's three colour maps (CC0) at 512²; roughness is the mean of the
material's roughness map there, and is told of a new tile by the mean of the nearest five training tiles (pixels), which
is itself measured on held-out tiles. mnist: the first 8,000 digits; slant and thickness by moments, see `moments`.
Of each held-out example's attributes (every 8th), all set at once, one picture is drawn and measured: r, the
correlation of asked and measured; error, the mean absolute difference, beside that where nothing is asked ("freely").
Edited: each held-out picture gets one attribute of the next one; kept: the error of the attributes that were to stay.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
import torch
from common import machine, table
from PIL import Image

from neural3d.examples.reading import read_examples
from neural3d.examples.sheet import contact_sheet
from neural3d.methods.abilities import Coding, Steered
from neural3d.render.images import save_png
from neural3d.run import configure, load
from neural3d.train import Trainer

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data"))
MATERIALS = {"painted_wooden_stool": "arm", "sofa_03": "rough", "wooden_bookshelf_worn": "arm"}
TILE, SIDE = 16, 512
VAE = {
    "textures": ["decoder=gaussian", "latent=32", "width=400", "horizon=8000", "lr=1e-3"],
    "mnist": ["latent=16", "width=300", "horizon=8000", "lr=2e-3"],
}


def luminance(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) of 0 to 1 → (N, H, W)"""
    return x[:, 0] if x.shape[1] == 1 else np.einsum("nchw,c->nhw", x, [0.2126, 0.7152, 0.0722])


def of_colours(x: np.ndarray) -> dict[str, np.ndarray]:
    y = luminance(x)
    return {"brightness": y.mean((1, 2)), "redness": (x[:, 0] - x[:, 2]).mean((1, 2)), "contrast": y.std((1, 2))}


def moments(x: np.ndarray) -> dict[str, np.ndarray]:
    """slant: by how many columns ink moves to the right for each row upwards, its covariance over the rows' variance;
    thickness: twice the ink's area over its outline, in pixels."""
    y = luminance(x)
    rows, columns = np.mgrid[: y.shape[1], : y.shape[2]]
    mass = y.sum((1, 2)) + 1e-6
    mean_r, mean_c = (y * rows).sum((1, 2)) / mass, (y * columns).sum((1, 2)) / mass
    r, c = rows[None] - mean_r[:, None, None], columns[None] - mean_c[:, None, None]
    slant = -(y * r * c).sum((1, 2)) / ((y * r * r).sum((1, 2)) + 1e-6)
    edges = np.abs(np.diff(y, axis=1)).sum((1, 2)) + np.abs(np.diff(y, axis=2)).sum((1, 2))
    return {"slant": slant, "thickness": 2 * mass / (edges + 1e-6) * 1.27}


def write(folder: Path, pictures: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """Pictures (N, C, H, W) uint8 and their table."""
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)).save(folder / f"{i:05d}.png")
    with open(folder / "attributes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *columns])
        writer.writerows([f"{i:05d}.png", *(f"{c[i]:.5f}" for c in columns.values())] for i in range(len(pictures)))


def textures(folder: Path) -> None:
    tiles, rough = [], []
    for name, kind in MATERIALS.items():
        maps = [
            np.asarray(Image.open(DATA / f"polyhaven_pbr/textures/{name}_{which}_1k.jpg").convert("RGB").reduce(2))
            for which in ("diff", kind)
        ]  # fmt: skip
        colour, other = (m.reshape(SIDE // TILE, TILE, SIDE // TILE, TILE, 3).transpose(0, 2, 4, 1, 3) for m in maps)
        tiles.append(colour.reshape(-1, 3, TILE, TILE))
        rough.append(other.reshape(-1, 3, TILE, TILE)[:, 1].mean((1, 2)) / 255)
    every, roughness = np.concatenate(tiles), np.concatenate(rough)
    painted = every.reshape(len(every), -1).std(1) > 2  # without what lies between the charts
    mixed = np.random.default_rng(0).permutation(np.flatnonzero(painted))
    columns = {"roughness": roughness[mixed], **{k: v[mixed] for k, v in of_colours(every / 255).items()}}
    write(folder, every[mixed], columns)


def mnist(folder: Path) -> None:
    examples = read_examples(DATA / "images2d/mnist_full")
    assert examples.values is not None
    pictures = examples.values["train"][:8000].numpy()
    write(folder, pictures, moments(pictures / 255))


class Measure:
    """Attributes as a program sees them in pictures."""

    def __init__(self, data: str, folder: Path):
        self.data = data
        examples = read_examples(folder)
        assert examples.values is not None and examples.measures is not None
        self.names, self.test = examples.attributes, examples.measures["test"].numpy()
        self.pictures = examples.values["test"].float() / 255
        self.known = examples.values["train"].flatten(1).float() / 255
        self.rough = examples.measures["train"][:, 0]

    def __call__(self, x: torch.Tensor) -> np.ndarray:
        """(N, attributes)"""
        if self.data == "mnist":
            return np.stack([*moments(x.numpy()).values()], 1)
        near = torch.cdist(x.flatten(1), self.known).topk(5, largest=False).indices
        return np.stack([self.rough[near].mean(1).numpy(), *of_colours(x.numpy()).values()], 1)


def trained(folder: Path, data: Path, method: str, settings: list[str], seed: int) -> float:
    """Processor seconds, 0 where the run is there."""
    if (folder / "checkpoint.safetensors").exists():
        return 0.0
    trainer = Trainer.create(folder, *configure(data, method, settings, seed=seed), torch.device("cpu"))
    begin = time.process_time()
    trainer.fit(trainer.method.config.horizon, previews=False)
    return time.process_time() - begin


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def measured(out: Path, data: str, seed: int, settings: list[str]) -> dict[str, list[float]]:
    pictures, coder, look = out / data, out / f"{data}-vae-{seed}", out / f"{data}-look-{seed}"
    if not pictures.exists():
        {"textures": textures, "mnist": mnist}[data](pictures)
    took = [trained(coder, pictures, "vae", VAE[data], seed), trained(look, coder, "styleflow", settings, seed)]
    print(f"{data}, seed {seed}: vae {took[0]:.0f} s, styleflow {took[1]:.0f} s of processor time", flush=True)
    measure, vae, run = Measure(data, pictures), load(coder, "cpu").able(Coding), load(look, "cpu")
    flow = run.able(Steered)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        kept = measure(vae.decode(vae.encode(measure.pictures)))
        read = measure(measure.pictures)
        drawn = [flow.draw(1, generator, asked=dict(zip(measure.names, map(float, row)))) for row in measure.test]
        of_asked = vae.decode(torch.cat(drawn))
        got, free = measure(of_asked), measure(vae.decode(flow.draw(len(measure.test), generator)))
        codes, own = vae.encode(measure.pictures), torch.from_numpy(measure.test)
        rows: dict[str, list[float]] = {}
        for i, name in enumerate(measure.names):
            wanted, others = np.roll(measure.test[:, i], 1), [j for j in range(len(measure.names)) if j != i]
            alone = [flow.draw(1, generator, asked={name: float(v)}) for v in measure.test[:, i]]
            edited = [flow.edited(z[None], {name: float(v)}, a[None]) for z, v, a in zip(codes, wanted, own)]
            guessed = [flow.edited(z[None], {name: float(v)}) for z, v in zip(codes[:100], wanted)]
            one, changed, blind = (measure(vae.decode(torch.cat(z))) for z in (alone, edited, guessed))
            scale = read.std(0)
            rows[name] = [
                correlation(read[:, i], measure.test[:, i]),
                correlation(kept[:, i], measure.test[:, i]),
                correlation(got[:, i], measure.test[:, i]),
                correlation(one[:, i], measure.test[:, i]),
                np.abs(got[:, i] - measure.test[:, i]).mean() / scale[i],
                np.abs(free[:, i] - measure.test[:, i]).mean() / scale[i],
                correlation(changed[:, i], wanted),
                correlation(blind[:, i], wanted[:100]),
                float(np.mean(np.abs(changed - kept)[:, others] / scale[others])),
            ]
    save_png(out / f"{data}-asked-{seed}.png", contact_sheet(torch.cat([measure.pictures[:12], of_asked[:12]]), 12))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", choices=VAE, default=[*VAE])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="of styleflow")
    given = parser.parse_args()
    print(machine())
    lines = []
    for data in given.data:
        every = [measured(given.out, data, seed, given.set) for seed in given.seeds]
        for name in every[0]:
            values = np.array([rows[name] for rows in every])
            cells = [
                f"{m:.2f} ± {s:.2f}" if len(every) > 1 else f"{m:.2f}" for m, s in zip(values.mean(0), values.std(0))
            ]
            lines.append([data, name, *cells])
            print(*lines[-1], flush=True)
    head = ["pictures themselves, r", "through the vae, r", "all set: r", "this set: r", "all set: error, deviations"]
    head += ["drawn freely: error", "edited: r", "edited, own not given: r", "edited, the others: error"]
    print(table(["data", "attribute", *head], lines))


if __name__ == "__main__":
    main()
