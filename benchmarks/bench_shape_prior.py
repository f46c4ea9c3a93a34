"""New shapes of a category by priors of its latents, beside the normal distribution: how like held-out ones are they?

    python benchmarks/bench_shape_prior.py /tmp/category [--count 100] [--priors pca vae realnvp]

/tmp/category: what bench_category.py made, a folder of furniture and a deepsdf run of it (trained here where missing).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench_category import trained
from common import machine, table

from neural3d.evaluate.generation import clouds_of, generation_scores
from neural3d.geometry.mesh import Mesh
from neural3d.reconstruct import new_shapes
from neural3d.run import load
from neural3d.scene.objects import meshes_of
from neural3d.shapes.category import ShapeSet, load_shape_set
from neural3d.synthetic.furniture import write_furniture

SETTINGS = {
    "pca": ["latent=32"],
    "vae": ["decoder=gaussian", "latent=16", "horizon=8000"],
    "realnvp": ["horizon=4000"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--priors", nargs="+", default=[*SETTINGS])
    given = parser.parse_args()
    shapes = given.out / "shapes"
    if not shapes.exists():
        write_furniture(shapes)
    print(machine())
    print(f"deepsdf: {trained(shapes, 'deepsdf', given.out / 'deepsdf', [])}", flush=True)
    run = load(given.out / "deepsdf", "cpu")
    category = load_shape_set(shapes)
    assert isinstance(category, ShapeSet)
    back = run.capture_from_scene.numpy()
    known, held_out = (
        clouds_of([mesh.transformed(back) for mesh in evenly(meshes_of(category, split), given.count)], seed)
        for seed, split in enumerate(("train", "test"))
    )
    rows = [row("training shapes", known, held_out)]
    rows.append(row("normal (today)", clouds_of(new_shapes(run, given.count, resolution=given.resolution)), held_out))
    for name in given.priors:
        print(f"{name}: {trained(given.out / 'deepsdf', name, given.out / name, SETTINGS[name])}", flush=True)
        prior = load(given.out / name, "cpu")
        made = new_shapes(run, given.count, resolution=given.resolution, prior=prior)
        rows.append(row(name, clouds_of(made), held_out))
    print(table(["of", "coverage", "minimum matching, 10⁻⁴", "1-NN accuracy"], rows))


def evenly(meshes: list[Mesh], count: int) -> list[Mesh]:
    """So many of them: they come kind by kind."""
    return [meshes[i * len(meshes) // count] for i in range(min(count, len(meshes)))]


def row(name: str, made: list, held_out: list) -> list[str]:
    scores = generation_scores(made, held_out)
    print(name, scores, flush=True)
    matching = 1e4 * scores["minimum_matching"]
    return [name, f"{scores['coverage']:.2f}", f"{matching:.2f}", f"{scores['one_nn']:.2f}"]


if __name__ == "__main__":
    main()
