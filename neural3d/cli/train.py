"""`neural3d train`, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from neural3d.cli.console import (
    NOWHERE,
    Device,
    OutOption,
    Output,
    Seed,
    console,
    option,
    progress_bar,
    say_next,
)
from neural3d.cli.process import with_poses
from neural3d.cli.stopping import patient
from neural3d.disk import require_writable, writing
from neural3d.errors import UserError, command_line
from neural3d.priors import PRIORS

if TYPE_CHECKING:
    from neural3d.processes import Processes
    from neural3d.run import RunConfig
    from neural3d.scene import Fitted
    from neural3d.train import Trainer


Watching = Callable[[Callable[[Callable[[], None]], None], Callable[[], bool]], None]


@dataclass
class Train:
    """Optimise a scene from a capture, a surface from a mesh or a point cloud, or continue a run."""

    needs_out: ClassVar = False
    scene: Annotated[str | None, tyro.conf.Positional, option("SCENE")] = None
    """Capture folder, JSON file, mesh, point cloud, folder of meshes or of captures of many objects, or a ready scene
    (scenes/NAME.toml or NAME).
    Photos without poses, or a video: their cameras are found first, as `neural3d process` does."""
    out: Output = NOWHERE
    """Run folder; default runs/SCENE-METHOD."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    method: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto: what suits the data, told with its reason. Photos: splat, ngp, nerf; neus, dvr for surfaces. Closed meshes:
    sdf, occupancy. Points, open meshes: igr. Folders of closed meshes: occupancy, deepsdf; of captures of many objects:
    dvr. Priors, of pictures, latents, clips: see README."""
    resume: Annotated[Path | None, option("RUN")] = None
    """Continue this run exactly where it stands; needs no SCENE."""
    downscale: Annotated[int | None, option("K")] = None
    """Shrink the photos by this factor; default: to about 1600 px, and further where memory demands it."""
    steps: Annotated[int | None, option("N")] = None
    """Stop at this step, counted from the run's start; default: the method's horizon."""
    minutes: Annotated[float | None, option("M")] = None
    """Stop after this long instead; schedules then follow the clock."""
    device: Device = "auto"
    seed: Seed = 0
    deterministic: bool = False
    """CUDA: ordered reductions, equal bytes for equal seeds (the CPU always is)."""
    set: Annotated[tuple[str, ...], option("KEY=VALUE ...")] = ()
    """Method settings as key=value, any number; `neural3d info ngp` lists them."""
    tensorboard: bool = False
    """Also write TensorBoard events to RUN/tensorboard."""
    view: bool = False
    """Watch it in a window meanwhile."""
    web: Annotated[int | None, option("PORT")] = None
    """Watch it in a browser meanwhile, at http://127.0.0.1:PORT, also through an SSH tunnel."""

    address: Annotated[str | None, option("ADDRESS")] = None
    """With --set partition=true: the Ray cluster whose machines train the cells, as in `batch`."""

    def run(self) -> None:
        from neural3d.processes import join, leave

        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps must be at least 1, not {self.steps}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"--minutes must be positive, not {self.minutes}.")
        if self.view and self.web is not None:
            raise UserError("--view and --web: choose the window or the browser.")
        if self.view:
            from neural3d.viewer.screen import check_screen

            check_screen()
        processes = join(self.device)
        try:
            self.train(processes)
        finally:
            leave()

    def train(self, processes: Processes) -> None:
        """One of several processes, or the only one."""
        from neural3d.examples.examples import Examples
        from neural3d.run import read_config, resolve_device
        from neural3d.scene import Scene
        from neural3d.train import Trainer

        device = resolve_device(self.device)
        if not processes.first:
            console.quiet = True
        if self.resume:
            if self.scene or self.set or self.out != NOWHERE:
                raise UserError("--resume continues a run as it was set up: leave out SCENE, OUT and --set.")
            if read_config(self.resume).settings.get("partition"):
                return self.in_cells(self.resume, read_config(self.resume), processes)
            trainer = Trainer.resume(self.resume, device, processes)
        else:
            if not self.scene:
                raise UserError("train needs a SCENE (a capture folder, JSON, TOML or mesh), or --resume RUN.")
            if not processes.first:
                processes.wait()  # until poses have been found, and the folder is there
            out, config, scene = self.configured(processes.first)
            if config.settings.get("partition"):
                return self.in_cells(out, config, processes, scene)
            trainer = Trainer.create(out, config, scene, device, processes)
            if processes.first:
                processes.wait()
        if self.address is not None:
            raise UserError("--address is for --set partition=true; many captures go to a cluster by neural3d batch.")
        steps = self.steps or trainer.method.config.horizon
        if not self.minutes and trainer.step >= steps:
            raise UserError(f"{trainer.directory}: already at step {trainer.step}; give a larger --steps to extend it.")
        for note in [*trainer.scene.notes, *trainer.method.memory_estimate()]:
            console.print(f"note: {note}")
        fit(trainer, steps, self.minutes, self.tensorboard, self._watching(trainer))
        if isinstance(trainer.scene, Scene | Examples) and processes.first:
            say_next("eval", trainer.directory)

    def in_cells(self, folder: Path, config: RunConfig, processes: Processes, scene: Fitted | None = None) -> None:
        """partition=true. scene: None: the run is there already."""
        from neural3d.cli.cells import train_in_cells

        for name, given in (("steps", self.steps), ("minutes", self.minutes)):
            if given:
                raise UserError(f"--{name}: cells train to the horizon; say --set horizon=STEPS when the run begins.")
        if self.view or self.web is not None or self.tensorboard:
            raise UserError("--view, --web, --tensorboard: cells train in processes of their own; watch one with "
                            f"{command_line('view', folder / 'cells' / '1' / 'run', '--follow')}.")  # fmt: skip
        if processes.count > 1:
            raise UserError("partition=true starts processes of its own; start it without torchrun.")
        train_in_cells(folder, config, scene, self.device, self.address)

    def configured(self, first: bool) -> tuple[Path, RunConfig, Fitted]:
        """(the run's folder, what is asked for, the data). first: the process that looks after the folder."""
        from neural3d.run import configure
        from neural3d.train import require_no_run

        assert self.scene is not None
        folder = Path("runs") if self.out == NOWHERE else self.out.parent
        if first:
            require_writable(folder if self.out == NOWHERE else self.out, folder=True)
            if self.out != NOWHERE:
                require_no_run(self.out)
        of_examples = self.method in PRIORS  # a folder of photos has no poses to find then
        config, scene = configure(
            self.scene if of_examples else with_poses(Path(self.scene), folder, self.seed), self.method, self.set,
            downscale=self.downscale, seed=self.seed, deterministic=self.deterministic, tell=self.tell_choice,
        )  # fmt: skip
        return folder / f"{Path(self.scene).stem}-{config.method}" if self.out == NOWHERE else self.out, config, scene

    def _watching(self, trainer: Trainer) -> Watching | None:
        if self.view:
            from neural3d.viewer.live import train_in_window

            return partial(train_in_window, trainer)
        if self.web is not None:
            from neural3d.viewer.live import train_on_web

            return partial(train_on_web, trainer, self.web)
        return None

    def tell_choice(self, method: str, reason: str) -> None:
        console.print(f"method: {method}, {reason}; --method takes another")


def fit(
    trainer: Trainer,
    steps: int,
    minutes: float | None,
    tensorboard: bool = False,
    watching: Watching | None = None,
) -> None:
    """Trains with progress shown: a live line on a terminal, plain lines elsewhere.

    Ctrl-C saves; the KeyboardInterrupt that is then raised says how to go on.
    watching: does the work while somebody looks on; its second argument says whether Ctrl-C was pressed.
    """
    writer, events = None, trainer.directory / "tensorboard"
    if tensorboard:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "--tensorboard needs the tensorboard package: pip install 'neural3d[tensorboard]'."
            ) from None
        with writing(events):
            writer = SummaryWriter(str(events))

    def work(between_steps: Callable[[], None] = lambda: None) -> None:
        with ProgressReport(steps, minutes, trainer.step) as shown:

            def report(line: dict[str, Any]) -> None:
                shown.update(line)
                if writer is not None:
                    with writing(events):
                        for key in line.keys() - {"step", "progress", "seconds"}:
                            writer.add_scalar(key, line[key], line["step"])

            trainer.fit(steps, minutes, report, stop=stopped, between_steps=between_steps)
        where = trainer.directory
        if stopped():
            raise KeyboardInterrupt(f"saved at step {trainer.step}; next: {command_line('train', '--resume', where)}")
        console.print(f"done: step {trainer.step} in {trainer.seconds:.0f} s; run folder {where}", soft_wrap=True)

    with patient() as stopped:
        try:
            if watching is None:
                work()
            else:
                watching(work, stopped)
        finally:
            if writer is not None:
                with writing(events):
                    writer.close()


FIGURES = {  # of metrics.jsonl, as they are shown while training
    "psnr": "  PSNR {:.2f}",
    "error": "  error {:.5f}",
    "accuracy": "  accuracy {:.4f}",
    "nats": "  {:.2f} nats",
    "rays_per_s": "  {:,} rays/s",
    "points_per_s": "  {:,} points/s",
    "examples_per_s": "  {:,} examples/s",
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
