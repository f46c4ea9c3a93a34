"""The command line: `neural3d demo | train | eval | render | export | reconstruct | info`.

Each command is a dataclass: its fields are the options, its `run` the work. Heavy imports happen in `run`, so that
`--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from neural3d.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from neural3d.fields.gaussians import Gaussians
    from neural3d.render.splat_view import SplatView
    from neural3d.run import Run
    from neural3d.train import Trainer

console = Console(highlight=False)
Device = Literal["auto", "cpu", "cuda"]


def _shown(metavar: str) -> Any:
    """How an option that may be left out appears in --help; its text says what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass
class Demo:
    """Make a small scene, optimise it, score it, export a coloured mesh: the whole way in two minutes."""

    out: Path = Path("neural3d-demo")
    """Folder for everything the demo makes; becomes a run."""
    device: Device = "auto"
    seed: int = 0

    def run(self) -> None:
        from neural3d.evaluate import evaluate
        from neural3d.export import write_mesh
        from neural3d.run import configure, load, resolve_device
        from neural3d.scene.analytic import make_demo_scene
        from neural3d.train import Trainer

        if (self.out / "config.json").exists():
            raise UserError(f"{self.out}: already holds a run; choose another --out, or delete it.")
        device = resolve_device(self.device)
        console.print("Rendering the demo scene: 40 training views and 8 held-out views, 200 × 200")
        scene = make_demo_scene(self.out / "scene", seed=self.seed)
        config, loaded = configure(scene / "scene.toml", "ngp", ["horizon=1500"], seed=self.seed)
        trainer = Trainer.create(self.out, config, loaded, device)
        fit(trainer, trainer.method.config.horizon, None)
        run = load(self.out, device.type)
        print_scores(evaluate(run, sheet=self.out / "preview.png"))
        mesh = run.method.mesh(256).transformed(inverse(run.scene.scene_from_capture))
        write_mesh(mesh, self.out / "mesh.glb")
        console.print(
            f"Scores      {self.out / 'eval.json'}\nMesh        {self.out / 'mesh.glb'}\n"
            f"Picture     {self.out / 'preview.png'} (truth beside result)\n"
            f"Next        neural3d render {self.out} --path orbit --out {self.out / 'orbit.mp4'}"
        )


@dataclass
class Train:
    """Optimise a scene from a capture, a surface from a mesh or a point cloud, or continue a run."""

    scene: Annotated[str | None, tyro.conf.Positional, _shown("SCENE")] = None
    """Capture folder, JSON file, mesh, point cloud, folder of meshes, or a ready scene (scenes/NAME.toml or NAME)."""
    method: str = "ngp"
    """Photos: ngp, nerf, splat; neus, dvr for surfaces. Closed meshes: sdf, occupancy. Points, open meshes: igr.
    Folders of closed meshes: occupancy, deepsdf."""
    out: Annotated[Path | None, _shown("DIR")] = None
    """Run folder; default runs/SCENE-METHOD."""
    resume: Annotated[Path | None, _shown("RUN")] = None
    """Continue this run exactly where it stands; needs no SCENE."""
    downscale: Annotated[int | None, _shown("K")] = None
    """Shrink the photos by this factor; default: only as far as memory demands."""
    steps: Annotated[int | None, _shown("N")] = None
    """Stop at this step, counted from the run's start; default: the method's horizon."""
    minutes: Annotated[float | None, _shown("M")] = None
    """Stop after this long instead; schedules then follow the clock."""
    device: Device = "auto"
    seed: int = 0
    deterministic: bool = False
    """CUDA: ordered reductions, equal bytes for equal seeds (the CPU always is)."""
    set: Annotated[tuple[str, ...], _shown("KEY=VALUE ...")] = ()
    """Method settings as key=value, any number; `neural3d info ngp` lists them."""
    tensorboard: bool = False
    """Also write TensorBoard events to RUN/tensorboard."""

    def run(self) -> None:
        from neural3d.run import configure, resolve_device
        from neural3d.train import Trainer

        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps must be at least 1, not {self.steps}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be positive, not {self.minutes}.")
        device = resolve_device(self.device)
        if self.resume:
            if self.scene or self.set or self.out:
                raise UserError("--resume continues a run as it was set up: leave out SCENE, --out and --set.")
            trainer = Trainer.resume(self.resume, device)
        else:
            if not self.scene:
                raise UserError("train needs a SCENE (a capture folder, JSON, TOML or mesh), or --resume RUN.")
            config, scene = configure(
                self.scene, self.method, self.set,
                downscale=self.downscale, seed=self.seed, deterministic=self.deterministic,
            )  # fmt: skip
            out = self.out or Path("runs") / f"{Path(self.scene).stem}-{self.method}"
            trainer = Trainer.create(out, config, scene, device)
        steps = self.steps or trainer.method.config.horizon
        if not self.minutes and trainer.step >= steps:
            raise UserError(f"{trainer.directory}: already at step {trainer.step}; give a larger --steps to extend it.")
        for note in [*trainer.scene.notes, *trainer.method.forecast()]:
            console.print(f"note: {note}")
        fit(trainer, steps, self.minutes, self.tensorboard)


@dataclass
class Eval:
    """Score a run on its held-out views; writes RUN/eval.json and pictures."""

    path: RunFolder
    """The run folder."""
    split: str = "test"
    background: Annotated[Literal["white", "black"] | None, _shown("{white,black}")] = None
    """What alpha images are composited on; default: the scene's (white)."""
    lpips: Annotated[Path | None, _shown("FILE")] = None
    """Local LPIPS weights; see neural3d.metrics.Lpips for the format."""
    mesh: Annotated[Path | None, _shown("TRUTH")] = None
    """Instead of views, measure the run's surface against this mesh; writes RUN/eval_mesh.json and a picture.
    Default for runs on a mesh: that mesh."""
    resolution: int = 256
    """Of that surface: cells along the longest side of the bounds."""
    device: Device = "auto"

    def run(self) -> None:
        from neural3d.evaluate import evaluate
        from neural3d.run import load
        from neural3d.scene.category import ShapeSet
        from neural3d.scene.shape import Shape

        run = load(self.path, self.device)
        mesh = self.mesh or (run.scene.path if isinstance(run.scene, Shape) else None)
        if mesh is not None:
            from neural3d.evaluate_mesh import evaluate_mesh

            report = evaluate_mesh(run, mesh, resolution=self.resolution)
            print_mesh_scores(report)
            picture = self.path / "eval" / "mesh_error.png"
            return console.print(f"written to {self.path / 'eval_mesh.json'}, the error on the surfaces to {picture}")
        if isinstance(run.scene, ShapeSet):
            from neural3d.evaluate_category import evaluate_category

            print_category_scores(evaluate_category(run))
            picture = self.path / "eval" / "category.png"
            return console.print(f"written to {self.path / 'eval_category.json'}, a picture to {picture}")
        report = evaluate(run, split=self.split, background=self.background, lpips_weights=self.lpips)
        print_scores(report)
        console.print(f"written to {self.path / 'eval.json'}, pictures (truth beside result) to {self.path / 'eval'}")


@dataclass
class Render:
    """Pictures or a film along a camera path: colours, depth and normals."""

    path_: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE")]
    """The run folder, or a file of splats (.ply, .splat, .spz)."""
    out: Path
    """A folder for PNGs, or FILE.mp4."""
    path: str = "orbit"
    """test, train, orbit, spiral, or a camera path in nerfstudio's JSON layout."""
    frames: int = 120
    """Frames of an orbit or spiral."""
    fps: Annotated[float | None, _shown("F")] = None
    """Frames per second of a film; default: the path's own, 24 for an orbit."""
    show: tuple[Literal["rgb", "depth", "normal"], ...] = ("rgb",)
    """What a film shows, side by side; folders get all three, and depth as 16-bit PNG."""
    background: Annotated[Literal["white", "black"] | None, _shown("{white,black}")] = None
    up: Literal["x", "-x", "y", "-y", "z", "-z"] | None = None
    """Of a file of splats, which axis points up; default: what the file says, else -y. Runs know."""
    device: Device = "auto"

    def run(self) -> None:
        import numpy as np
        import torch

        from neural3d.evaluate import background_color
        from neural3d.fields.splat_files import is_splat_file
        from neural3d.render.images import depth_picture, normal_picture, save_film, save_render, to_bytes
        from neural3d.render.paths import camera_path, depth_span
        from neural3d.render.splat_view import open_splats
        from neural3d.run import load, resolve_device
        from neural3d.scene.category import ShapeSet

        if is_splat_file(self.path_):
            run: Run | SplatView = open_splats(self.path_, resolve_device(self.device), self.up)
        else:
            run = load(self.path_, self.device)
        if isinstance(run.scene, ShapeSet):
            raise UserError(f"{self.path_} knows a category, not one shape; make meshes of it by neural3d reconstruct.")
        path = camera_path(run.scene, self.path, count=self.frames)
        color = background_color(run.scene, self.background)
        unit = 1 / float(torch.linalg.det(run.scene.scene_from_capture[:3, :3])) ** (1 / 3)
        span = depth_span(run.scene)

        def frames() -> Iterator[Any]:
            with progress_bar() as bar:
                for camera in bar.track(path.cameras, description="rendering"):
                    out = run.render(camera, color)
                    yield out

        if self.out.suffix == ".mp4":
            pictures = {
                "rgb": lambda o: to_bytes(o.rgb.cpu()),
                "depth": lambda o: depth_picture(o.depth.cpu(), span),
                "normal": lambda o: normal_picture(o.normal.cpu()),
            }
            rows = (np.concatenate([pictures[k](out) for k in self.show], 1) for out in frames())
            save_film(self.out, rows, self.fps or path.fps)
        else:
            for name, out in zip(path.names, frames()):
                save_render(out, self.out, name, unit)
        console.print(f"{len(path.cameras)} frames written to {self.out}")


@dataclass
class Export:
    """A mesh with vertex colours, or the splats of a splat run, in the capture's own frame and units."""

    path: RunFolder
    """The run folder."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Mesh: FILE.glb, .ply, .obj or .stl. Splats: FILE.ply (INRIA's layout), .splat or .spz."""
    resolution: int = 256
    """Cells along the longest side of the bounds."""
    crop: Annotated[tuple[float, float, float, float, float, float] | None, _shown("x0 y0 z0 x1 y1 z1")] = None
    """Box to keep, x0 y0 z0 x1 y1 z1 in the capture's frame; default: the scene's bounds."""
    up: Literal["native", "y", "z"] = "native"
    """native: the capture's axes as they are; y or z: turned so that the scene's up is +Y (DCC tools) or +Z."""
    device: Device = "auto"

    def run(self) -> None:
        import torch

        from neural3d.export import write_mesh
        from neural3d.run import load

        run = load(self.path, self.device)
        crop = None if self.crop is None else torch.tensor(self.crop).reshape(2, 3)
        splats = getattr(run.method, "splats", None)
        if self.out.suffix.lower() in (".splat", ".spz") or (splats and self.out.suffix.lower() == ".ply"):
            return self.write_splats(run, splats, crop)
        mesh = run.method.mesh(self.resolution, crop).transformed(inverse(run.scene.scene_from_capture))
        write_mesh(mesh, self.out, up=self.up, native_up=up_in_capture(run))
        console.print(f"{self.out}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces")

    def write_splats(self, run: Run, splats: Gaussians | None, crop: Tensor | None) -> None:
        from neural3d.export import upright
        from neural3d.fields.splat_files import write_splats

        if splats is None:
            raise UserError(
                f"{self.path}: {run.config.method} makes no splats; export a mesh (.glb, .ply, .obj, .stl)."
            )
        splats = splats.transformed(inverse(run.scene.scene_from_capture))
        if crop is not None:
            low, high = crop.to(splats.means)
            splats = splats.selected(((splats.means >= low) & (splats.means <= high)).all(1))
        turn = upright(self.up, up_in_capture(run))
        up = (turn[:3, :3] @ turn.new_tensor(up_in_capture(run))).tolist()
        antialiased = getattr(run.method.config, "antialiased", False)
        notes = write_splats(splats.transformed(turn), self.out, antialiased=antialiased, up=up)
        console.print(f"{self.out}: {len(splats):,} splats")
        for note in notes:
            console.print(f"note: {note}")


@dataclass
class Reconstruct:
    """Shapes from a run that has learnt a category: of an unseen cloud, between two shapes, or new ones."""

    path: RunFolder
    """The run folder, of a folder of shapes."""
    out: Path
    """FILE.glb, .ply, .obj or .stl; with --between or --samples a folder for numbered .glb files."""
    file: Annotated[Path | None, tyro.conf.Positional, _shown("FILE")] = None
    """Point cloud (may be noisy and partial) or mesh of one shape, in the frame and units of the category."""
    between: Annotated[tuple[Path, Path] | None, _shown("A B")] = None
    """Instead of FILE, two: shapes between them, both ends included (needs --method deepsdf)."""
    count: int = 5
    """How many between."""
    samples: Annotated[int | None, _shown("N")] = None
    """Instead of FILE: so many new shapes (needs --method deepsdf)."""
    seed: int = 0
    resolution: int = 128
    """Cells along the longest side of the category's box."""
    device: Device = "auto"

    def run(self) -> None:
        from neural3d.export import write_mesh
        from neural3d.reconstruct import between, new_shapes, reconstruct
        from neural3d.run import load

        if (self.file is not None) + (self.between is not None) + (self.samples is not None) != 1:
            raise UserError("reconstruct takes one of FILE, --between A B and --samples N.")
        run = load(self.path, self.device)
        if self.file is not None:
            mesh = reconstruct(run, self.file, resolution=self.resolution, seed=self.seed)
            write_mesh(mesh, self.out)
            return console.print(f"{self.out}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces")
        if self.between is not None:
            a, b = self.between
            meshes = between(run, a, b, self.count, resolution=self.resolution, seed=self.seed)
        else:
            meshes = new_shapes(run, self.samples or 0, resolution=self.resolution, seed=self.seed)
        for i, mesh in enumerate(meshes):
            write_mesh(mesh, self.out / f"{i:03d}.glb")
        console.print(f"{len(meshes)} meshes written to {self.out}")


@dataclass
class Info:
    """The import doctor: what a capture, a run, a mesh or splat file holds, and what looks suspicious."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE|RUN|FILE")]
    """Capture, run, mesh or splat file; or a method's name, for its settings."""
    downscale: Annotated[int | None, _shown("K")] = None

    def run(self) -> None:
        from neural3d.fields.splat_files import describe_splats, is_splat_file, read_splats
        from neural3d.methods import METHODS
        from neural3d.scene import load_scene
        from neural3d.scene.category import holds_shapes, load_shape_set
        from neural3d.scene.doctor import describe, describe_mesh, suspicions

        path = Path(self.path)
        if self.path in METHODS and not path.exists():
            return print_settings(self.path)
        if is_splat_file(path):
            return print_pairs(str(path), describe_splats(path, read_splats(path)))
        if path.suffix.lower() in {".ply", ".glb", ".gltf", ".obj", ".stl", ".off"}:
            return print_pairs(str(path), describe_mesh(path))
        if (path / "config.json").exists():
            return describe_run(path)
        if holds_shapes(path):
            shapes = load_shape_set(path.resolve())
            return print_pairs(str(path), [(f"{s} shapes", f"{len(names)}") for s, names in shapes.members.items()])
        scene = load_scene(self.path, downscale=self.downscale)
        print_pairs(str(path), describe(scene))
        for note in scene.notes:
            console.print(f"note: {note}")
        for doubt in suspicions(scene):
            console.print(f"[yellow]suspicious:[/] {doubt}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `neural3d` command; exits with 2 on bad input."""
    arguments = merge_settings(sys.argv[1:] if arguments is None else arguments)
    commands: Any = Annotated[Demo, tyro.conf.subcommand("demo")]
    for name, command in {
        "train": Train, "eval": Eval, "render": Render, "export": Export, "reconstruct": Reconstruct, "info": Info,
    }.items():  # fmt: skip
        commands = commands | Annotated[command, tyro.conf.subcommand(name)]
    command = tyro.cli(commands, prog="neural3d", args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    try:
        command.run()
    except UserError as error:
        Console(stderr=True, highlight=False).print(f"[red]error:[/] {error}", soft_wrap=True)
        sys.exit(2)


def merge_settings(arguments: list[str]) -> list[str]:
    """`--set a=1 b=2 … --set c=3` → one `--set a=1 b=2 c=3` at the end: it may stand anywhere, any number of times."""
    rest: list[str] = []
    settings: list[str] = []
    taking = False
    for word in arguments:
        if word == "--set":
            taking = True
        elif taking and "=" in word and not word.startswith("-"):
            settings.append(word)
        else:
            taking = False
            rest.append(word)
    return [*rest, "--set", *settings] if settings else rest


def inverse(matrix: Any) -> Any:
    import torch

    return torch.linalg.inv(matrix)


def up_in_capture(run: Run) -> list[float]:
    """What is up in the capture's own frame, as far as its reader knew."""
    return inverse(run.scene.scene_from_capture)[:3, 2].tolist()


def fit(trainer: Trainer, steps: int, minutes: float | None, tensorboard: bool = False) -> None:
    """Trains with progress shown: a live line on a terminal, plain lines elsewhere. Ctrl-C saves and stops."""
    interrupted = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    writer = None
    if tensorboard:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "--tensorboard needs the tensorboard package: pip install 'neural3d[tensorboard]'."
            ) from None
        writer = SummaryWriter(str(trainer.directory / "tensorboard"))
    previous = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ProgressReport(steps, minutes, trainer.step) as shown:

            def report(line: dict[str, Any]) -> None:
                shown.update(line)
                if writer is not None:
                    for key in line.keys() - {"step", "progress", "seconds"}:
                        writer.add_scalar(key, line[key], line["step"])

            trainer.fit(steps, minutes, report, stop=lambda: interrupted)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if writer is not None:
            writer.close()
    where = trainer.directory
    if interrupted:
        console.print(f"stopped and saved at step {trainer.step}; continue with: neural3d train --resume {where}")
    else:
        console.print(f"done: step {trainer.step} in {trainer.seconds:.0f} s; run folder {where}")


FIGURES = {  # of metrics.jsonl, as they are shown while training
    "psnr": "  PSNR {:.2f}",
    "error": "  error {:.5f}",
    "accuracy": "  accuracy {:.4f}",
    "rays_per_s": "  {:,} rays/s",
    "points_per_s": "  {:,} points/s",
    "samples_per_ray": "  {:.1f} samples/ray",
    "splats": "  {:,.0f} splats",
}


class ProgressReport:
    """Training progress: a bar with figures on a terminal, a line every few seconds elsewhere."""

    def __init__(self, steps: int, minutes: float | None, first: int):
        self.steps, self.minutes, self.first = steps, minutes, first
        self.last_line = -1e9
        self.bar = progress_bar() if console.is_terminal else None

    def __enter__(self) -> ProgressReport:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("training", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, line: dict[str, Any]) -> None:
        done = (
            (line["seconds"] / (60 * self.minutes))
            if self.minutes
            else (line["step"] - self.first) / max(1, self.steps - self.first)
        )
        text = f"step {line['step']}  loss {line['loss']:.5f}"
        text += "".join(shown.format(line[key]) for key, shown in FIGURES.items() if key in line)
        if self.bar is not None:
            self.bar.update(self.task, completed=min(done, 1.0), description=text)
        elif line["seconds"] - self.last_line >= 5:
            self.last_line = line["seconds"]
            left = line["seconds"] / max(done, 1e-6) * max(0.0, 1 - done)
            print(f"{text}  {left:.0f} s left", flush=True)


def progress_bar() -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )


def print_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    keys = [k for k in results if k != "per_image"]
    shown = Table(*["view", *(k.upper() for k in keys)])
    for row in results["per_image"]:
        shown.add_row(row["name"], *(f"{row[k]:.3f}" for k in keys))
    shown.add_section()
    shown.add_row("mean", *(f"{results[k]:.3f}" for k in keys), style="bold")
    console.print(shown)
    width, height = protocol["resolution"]
    over = f", on {protocol['background']}" if protocol["background"] else ""
    console.print(f"{protocol['views']} {protocol['split']} views at {width} × {height}{over}")


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
    console.print(shown)
    console.print(
        f"distances in % of the diagonal of the truth's bounding box, {results['diagonal']:.4g}; "
        f"{protocol['samples']:,} samples of each surface, seed {protocol['seed']}; "
        f"mesh at resolution {protocol['resolution']}\n"
        f"completeness counts {protocol['completeness']} ({results['seen']:.0%} of its area)"
    )
    for note in report["notes"]:
        console.print(f"[yellow]suspicious:[/] {note}")


def print_category_scores(report: dict[str, Any]) -> None:
    results, protocol = report["results"], report["protocol"]
    shown = Table("kind", "IoU", "of the nearest training shape", "Chamfer", "of the nearest training shape")
    for kind, row in [*results["kinds"].items(), ("mean of all", results["mean"])]:
        ious, chamfers = ([row[f"{prefix}{key}"] for prefix in ("", "nearest_")] for key in ("iou", "chamfer"))
        shown.add_row(kind, *(f"{x:.3f}" for x in ious), *(f"{x:.2f} %" for x in chamfers))
    console.print(shown)
    console.print(
        f"{protocol['shapes']} held-out shapes; seen of each: {protocol['seen']}; Chamfer in % of that diagonal"
    )


def print_pairs(title: str, pairs: list[tuple[str, str]]) -> None:
    shown = Table(title=title, show_header=False, title_justify="left")
    for label, value in pairs:
        shown.add_row(label, str(value))
    console.print(shown)


def print_settings(method: str) -> None:
    """Every setting of a method with its default and meaning (the comment beside the field)."""
    import inspect
    import re

    from neural3d.methods import method_class

    config = method_class(method).Config
    shown = Table("setting", "default", "meaning", title=f"--set for --method {method}", title_justify="left")
    source = inspect.getsource(config)
    for field in dataclasses.fields(config):
        comment = re.search(rf"^\s+{field.name}:.*?#\s*(.*)$", source, re.MULTILINE)
        shown.add_row(field.name, str(field.default), comment.group(1) if comment else "")
    console.print(shown)


def describe_run(path: Path) -> None:
    """`info RUN`: what was asked for and what was reached."""
    import json

    from neural3d.checkpoint import load_state
    from neural3d.run import read_config

    config = read_config(path)
    pairs = [("scene", config.scene), ("method", config.method), ("seed", str(config.seed))]
    if (path / "checkpoint.safetensors").exists():
        state = load_state(path / "checkpoint.safetensors")
        count = sum(v.numel() for v in state["method"].values())
        pairs += [("step", str(state["step"])), ("numbers in the model", f"{count:,}")]
    if (path / "eval.json").exists():
        results = json.loads((path / "eval.json").read_text())["results"]
        pairs += [(k, f"{v:.3f}") for k, v in results.items() if k != "per_image"]
    print_pairs(str(path), pairs + [(k, str(v)) for k, v in config.settings.items()])


if __name__ == "__main__":
    main()
