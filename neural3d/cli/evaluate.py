"""`neural3d eval`, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.table import Table

from neural3d.cli.console import Device, Number, RunFolder, at_least, coloured, console, option, print_table
from neural3d.disk import require_writable
from neural3d.errors import UserError


@dataclass
class Eval:
    """Score a run on its held-out views or examples; writes RUN/eval.json and pictures."""

    path: RunFolder
    """The run folder."""
    split: Literal["train", "val", "test"] = "test"
    """Which views: those held out, or others to compare."""
    background: Annotated[Literal["white", "black"] | None, option("{white,black}")] = None
    """What alpha images are composited on; default: the scene's (white)."""
    lpips: Annotated[Path | None, option("FILE")] = None
    """Local LPIPS weights; see neural3d.metrics.Lpips for the format."""
    mesh: Annotated[Path | None, option("TRUTH")] = None
    """Instead of views, measure the run's surface against this mesh; writes RUN/eval_mesh.json and a picture.
    Default for runs on a mesh: that mesh."""
    resolution: Number = 256
    """Of that surface: cells along the longest side of the bounds."""
    device: Device = "auto"

    def run(self) -> None:
        from neural3d.evaluate.views import evaluate
        from neural3d.examples.examples import Examples
        from neural3d.methods.abilities import Reconstructive
        from neural3d.run import load, read_config
        from neural3d.shapes.shape import Shape

        at_least(resolution=(self.resolution, 2))
        for file in (self.mesh, self.lpips):
            if file is not None and not file.is_file():
                raise UserError(f"{file} is no file; check the path.")
        read_config(self.path)
        require_writable(self.path, folder=True)
        run = load(self.path, self.device)
        mesh = self.mesh or (run.data.path if isinstance(run.data, Shape) else None)
        if mesh is not None:
            from neural3d.evaluate.mesh import evaluate_mesh

            report = evaluate_mesh(run, mesh, resolution=self.resolution)
            print_mesh_scores(report)
            picture = self.path / "eval" / "mesh_error.png"
            return console.print(f"written to {self.path / 'eval_mesh.json'}, the error on the surfaces to {picture}")
        if isinstance(run.method, Reconstructive):
            from neural3d.evaluate.category import evaluate_category

            print_category_scores(evaluate_category(run))
            return console.print(f"written to {self.path}/eval_category*.json, a picture to {self.path}/eval")
        if isinstance(run.data, Examples):
            from neural3d.evaluate.prior import evaluate_prior

            print_prior_scores(evaluate_prior(run, split=self.split))
            return console.print(f"written to {self.path / 'eval.json'}")
        report = evaluate(run, split=self.split, background=self.background, lpips_weights=self.lpips)
        print_scores(report)
        console.print(f"written to {self.path / 'eval.json'}, pictures (truth beside result) to {self.path / 'eval'}")


def print_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    keys = [k for k in results if k != "per_image"]
    shown = Table(*["view", *(k.upper() for k in keys)])
    for row in results["per_image"]:
        shown.add_row(row["name"], *(f"{row[k]:.3f}" for k in keys))
    shown.add_section()
    shown.add_row("mean", *(f"{results[k]:.3f}" for k in keys), style="bold")
    print_table(shown)
    width, height = protocol["resolution"]
    over = f", on {protocol['background']}" if protocol["background"] else ""
    console.print(f"{protocol['views']} {protocol['split']} views at {width} × {height}{over}")


def print_prior_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    if "nats" in results:
        console.print(
            f"{results['nats']:.2f} ± {results['deviation']:.2f} nats, {results['bits_per_dim']:.4f} bits per value "
            f"({protocol['likelihood']})"
        )
    if "error" in results:
        console.print(f"mean squared error of what comes back: {results['error']:.5f}")
    binary = ", binarised" if protocol["binarised"] else ""
    of = f" of {protocol['of']:,}" if protocol["of"] > protocol["examples"] else ""
    console.print(f"{protocol['examples']:,}{of} {protocol['split']} examples, {protocol['values']:,} values{binary}")


def print_mesh_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    unit = results["diagonal"] / 100
    shown = Table("surface", "", "in the truth's unit")
    for label, key in (
        ("Chamfer distance", "chamfer"),
        ("accuracy: result to truth", "accuracy"),
        ("completeness: truth to result", "completeness"),
        ("Hausdorff distance", "hausdorff"),
    ):
        shown.add_row(label, f"{results[key]:.4f} %", f"{results[key] * unit:.3g}")
    shown.add_section()
    for threshold, score in results["f_score"].items():
        shown.add_row(f"F-score at {threshold} %", f"{score:.4f}", f"at {float(threshold) * unit:.3g}")
    shown.add_row("normal consistency", f"{results['normal_consistency']:.4f}", "")
    overlap = results["iou"]
    shown.add_row("volumetric IoU", "-" if overlap is None else f"{overlap:.4f}", results.get("iou_missing", ""))
    print_table(shown)
    console.print(
        f"distances in % of the diagonal of the truth's bounding box, {results['diagonal']:.4g}; "
        f"{protocol['samples']:,} samples of each surface, seed {protocol['seed']}; "
        f"mesh at resolution {protocol['resolution']}\n"
        f"completeness counts {protocol['completeness']} ({results['seen']:.0%} of its area)"
    )
    for note in report["notes"]:
        console.print(coloured("warning:"), note)


def print_category_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    prefixes = ["", "nearest_", *(["alike_"] if "alike_iou" in results["mean"] else [])]
    others = ["of the nearest training shape", "of the one most alike in pictures"][: len(prefixes) - 1]
    shown = Table("kind", "IoU", *others, "Chamfer", *others)
    for kind, row in [*results["kinds"].items(), ("mean of all", results["mean"])]:
        ious, chamfers = ([row[f"{prefix}{key}"] for prefix in prefixes] for key in ("iou", "chamfer"))
        shown.add_row(kind, *(f"{x:.3f}" for x in ious), *(f"{x:.2f} %" for x in chamfers))
    print_table(shown)
    console.print(
        f"{protocol['shapes']} held-out shapes; seen of each: {protocol['seen']}; Chamfer in % of that diagonal"
    )
