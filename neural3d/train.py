"""The one training loop, for one player or several."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural3d.checkpoint import load_state
from neural3d.disk import remove_parts, require_room, write_whole, writing
from neural3d.errors import UserError, command_line
from neural3d.examples.examples import Examples
from neural3d.examples.sheet import contact_sheet
from neural3d.lock import Lock
from neural3d.methods import method_class
from neural3d.methods.abilities import Guided, Guiding, Renderable, Sampling
from neural3d.methods.players import Player, load_moments, moments, only, require_names
from neural3d.ops.memory import keep_memory
from neural3d.processes import ALONE, Processes
from neural3d.run import RunConfig, build_method, load, load_method, read_config, write_json
from neural3d.saving import Saver
from neural3d.scene import Fitted, Scene
from neural3d.scene.stored import write_scene

CHECKPOINT, LOCK = "checkpoint.safetensors", ".lock"
REPORT_EVERY = 50  # steps between lines of metrics.jsonl
ASK_EVERY = 8  # rounds between those in which the first process tells others to save or to stop
FIRST_PREVIEW = 500  # then at every doubling
PREVIEWED = 16  # samples of a prior


class Trainer:
    """A run in memory: scene, method, players, random state and step; saves to and resumes from its folder.

    On the CPU, N + M steps give the same bytes as N, save, load, M: all randomness flows from one generator whose state
    is saved, and schedules depend on the step alone. Nor does a result depend on the number of threads, except where
    torch's own layers make it (`occupancy` and `dvr` of categories; see ARCHITECTURE, decision 4).
    From `create` or `resume` to the end of `fit` no other process can train in the folder, but those that train with
    it. Of these the first alone writes. Each draws from a generator of its own; with as many, resume is exact, too.
    """

    def __init__(
        self, directory: Path, config: RunConfig, scene: Fitted, device: torch.device, processes: Processes = ALONE
    ):
        if device.type == "cpu":
            keep_memory()
        torch.use_deterministic_algorithms(config.deterministic)
        scene = method_class(config.method).prepared(scene, config.method_config())
        self.directory, self.config, self.scene, self.device = directory, config, scene, device
        self.processes = processes
        self.method = build_method(config, scene, device)
        if processes.count > 1 and not self.method.together:
            raise UserError(f"{config.method} trains in one process alone; start it without torchrun.")
        for module in self.method.modules():
            if hasattr(module, "processes"):
                setattr(module, "processes", processes)  # noqa: B010 (mypy knows of modules and tensors alone)
        self._open_prior()
        self.source = self.method.source(scene, device)
        self.players = self.method.players()
        require_names(self.players)
        self.generator = self._generator(0)
        self.step = 0
        self.saved: int | None = None  # step of the checkpoint in the folder
        self._lock = Lock(directory / LOCK, directory)
        self.seconds = 0.0  # spent training in this process

    def _generator(self, step: int) -> torch.Generator:
        """Of the first process the run's seed, of others numbers of their own, which begin anew where they join."""
        seed = self.config.seed if self.processes.first else hash((self.config.seed, self.processes.rank, step)) % 2**63
        return torch.Generator(self.device).manual_seed(seed)

    def _common(self) -> torch.Generator:
        """Random numbers that all processes draw alike after each step, without a message. Of one alone, its own."""
        if self.processes.count == 1:
            return self.generator
        return torch.Generator(self.device).manual_seed(hash((self.config.seed, self.step)) % 2**63)

    @classmethod
    def create(
        cls, directory: Path, config: RunConfig, scene: Fitted, device: torch.device, processes: Processes = ALONE
    ) -> Trainer:
        """Starts a run in a new or empty folder. Raises UserError where one is there already, or somebody writes it."""
        if not processes.first:
            trainer = cls(directory, config, scene, device, processes)
            trainer.method.begin()
            return trainer
        with _held_from_now_on(directory) as lock:
            require_no_run(directory)
            trainer = cls(directory, config, scene, device, processes)
            trainer.method.begin()
            trainer._lock = lock
            write_json(directory / "config.json", vars(config))
            write_scene(directory / "scene.json", trainer.scene)
            trainer.metrics.unlink(missing_ok=True)
            return trainer

    @classmethod
    def resume(cls, directory: Path, device: torch.device, processes: Processes = ALONE) -> Trainer:
        """Continues a run exactly where its checkpoint stands. Raises UserError where somebody else writes it."""
        config = read_config(directory)
        with _held_from_now_on(directory) if processes.first else contextlib.nullcontext() as lock:
            state = load_state(directory / CHECKPOINT, device)
            trainer = cls(directory, config, config.load_data(), device, processes)
            trainer.step = trainer.saved = load_method(trainer.method, state)
            load_moments(trainer.players, state.get("optimizer", {}), directory)
            trainer._load_own(state)
            if lock is not None:
                trainer._lock = lock
                trainer._drop_metrics_after(trainer.step)
            return trainer

    def _own(self) -> dict[str, Any]:
        """What each process has of its own: where it is in its data, its random numbers, what it has counted."""
        buffers = dict(self.method.named_buffers())
        return {
            "source": self.source.state(),
            "random": self.generator.get_state(),
            "counted": {name: buffers[name] for name in self.method.counted if name in buffers},
        }

    def _load_own(self, state: dict[str, Any]) -> None:
        """As `_own` was. Where processes were more or fewer, they begin their data anew; counts go to the first."""
        first, others = self.processes.first, state.get("others", {})
        own = state if first else others.get(str(self.processes.rank))
        if own is None:
            self.generator = self._generator(self.step)
        else:
            self.source.load_state(own.get("source", {}))
            self.generator.set_state(own["random"].cpu())
        as_many = len(others) + 1 == self.processes.count
        for name, buffer in self.method.named_buffers():
            if name not in self.method.counted or (first and as_many):
                continue  # the method's state is the first one's
            if first:
                for other in others.values():
                    buffer += other["counted"][name]
            elif own is not None and as_many:
                buffer.copy_(own["counted"][name])
            else:
                buffer.zero_()

    def _open_prior(self) -> None:
        """Of a method that is to follow one: it is no part of the run, and renders are made without it."""
        if isinstance(self.method, Guided) and (path := self.method.config.prior):
            prior = load(path, self.device.type)
            for p in prior.method.parameters():
                p.requires_grad_(False)
            if not isinstance(prior.data, Examples) or prior.data.kind != "images":
                raise UserError(f"{path}: has not learnt pictures; a prior of photos is wanted.")
            self.method.guided(prior.able(Guiding).energy, prior.data.shape)

    def save(self, saver: Saver) -> None:
        """Begins to write the checkpoint; the earlier one stays until the new one is whole.

        Raises UserError, and writes nothing, where training has diverged.
        """
        if broken := self._broken():
            raise self._diverged(broken, saver)
        own = self._own()
        state = {
            "step": self.step,
            "method": self.method.state_dict(),
            "extra": self.method.extra_state(),
            "optimizer": moments(self.players),
            "source": own["source"],
            "random": own["random"],
        }
        if self.processes.count > 1:
            shared = {name: t for name, t in state["method"].items() if name not in self.method.counted}
            self.processes.require_equal(shared, self.step)
            others = self.processes.gathered(own)
            state["others"] = {str(rank): other for rank, other in enumerate(others) if rank}
        if self.processes.first:
            saver.save(self.step, state)

    @torch.no_grad()
    def _broken(self) -> str | None:
        """The first parameter or moment that is not finite, in words. Buffers may be infinite: grids begin so."""
        named: dict[str, Tensor] = dict(self.method.named_parameters())
        for player in self.players:
            of = f"{player.name} optimizer's".lstrip()
            for i, kept in player.optimizer.moments().items():
                named |= {f"{of} {m} {i}": x for m, x in kept.items() if isinstance(x, Tensor)}
        for name, tensor in named.items():
            if (
                tensor.numel()
                and tensor.is_floating_point()
                and not math.isfinite(sum(float(x) for x in tensor.aminmax()))
            ):
                return f"{name} is not finite"
        buffers = (name for name, b in self.method.named_buffers() if b.is_floating_point() and b.isnan().any())
        return next((f"{name} holds NaN" for name in buffers), None)

    def _diverged(self, what: str, saver: Saver) -> UserError:
        saver.wait()
        kept = f"{self.directory} keeps the checkpoint of step {saver.saved}, from before"
        if saver.saved is None:
            kept = "nothing had been saved yet"
        return UserError(
            f"training diverged by step {self.step} ({what}); {kept}. Train anew with a lower learning rate (--set, "
            f"see neural3d info {self.config.method}), or check the cameras with neural3d info."
        )

    def fit(
        self,
        steps: int,
        minutes: float | None = None,
        report: Callable[[dict[str, Any]], None] = lambda line: None,
        stop: Callable[[], bool] = lambda: False,
        previews: bool = True,
        between_steps: Callable[[], None] = lambda: None,
    ) -> None:
        """Trains until `steps` in total, or for `minutes` more; saves at the end, and when `stop()` turns true.

        between_steps: called after each step; it may look at the method, but must leave it as it was.
        With `minutes`, schedules follow the elapsed time instead of the step, so the result depends on the machine.
        """
        self.method.train()
        begin = last_report = time.perf_counter() - self.seconds
        drawn = 0
        size = 3 * sum(p.nbytes for p in self.method.parameters())  # with their moments
        require_room(self.directory / CHECKPOINT, size)
        first, stride = self.processes.first, self.processes.count if self.method.together == "whole" else 1
        with self._lock if first else contextlib.nullcontext(), Saver(self.directory / CHECKPOINT, self.saved) as saver:
            while True:
                self.seconds = time.perf_counter() - begin
                share = self.seconds / (60 * minutes) if minutes else self.step / self.method.config.horizon
                progress, stopped, due = min(1.0, share), float(stop()), float(first and saver.due())
                if self.processes.count > 1:
                    if minutes or self.step % (ASK_EVERY * stride) < stride:  # by the first one's clock
                        progress, stopped, due = self.processes.of_first(progress, stopped, due)
                    else:
                        stopped = due = 0.0
                if stopped or (progress >= 1.0 if minutes else self.step >= steps):
                    break
                if due:
                    self.save(saver)
                losses: dict[str, Tensor] = {}
                metrics: dict[str, Any] = {}
                for player in self.players:
                    losses[player.name], told, count = self._turn(player, progress)
                    metrics |= told
                    drawn += count
                self.method.after_step(self.step, progress, self._common(), self.players)
                self.step += stride

                if first and self.step % REPORT_EVERY < stride:
                    now = time.perf_counter()
                    each = {f"{name}_loss": float(loss.detach()) for name, loss in losses.items()}
                    line = {"step": self.step, "progress": round(progress, 4), "loss": sum(each.values())}
                    line |= each if len(each) > 1 else {}
                    line |= {name: float(value() if callable(value) else value) for name, value in metrics.items()}
                    rate = round(drawn / (now - last_report))
                    line |= {f"{self.source.unit}_per_s": rate, "seconds": round(self.seconds, 2)}
                    if not math.isfinite(line["loss"]):
                        raise self._diverged(f"loss {line['loss']}", saver)
                    with writing(self.metrics), open(self.metrics, "a") as f:
                        f.write(json.dumps(line) + "\n")
                    report(line)
                    last_report, drawn = now, 0
                if first and previews and _previewed(self.step, stride):
                    self.preview()
                between_steps()
            self.save(saver)
            saver.wait()
        self.processes.wait()
        self.saved = saver.saved

    def _turn(self, player: Player, progress: float) -> tuple[Tensor, dict[str, Any], int]:
        """(loss and metrics of the last of the player's updates, how much all of them drew)"""
        if len(self.players) > 1:
            only(player, self.players)
        for group in player.optimizer.param_groups:
            group["lr"] = learning_rate(group, progress, self.step)
        drawn = 0
        for _ in range(player.updates):
            count, weight = self.method.batch_size, 1 / self.processes.count
            if self.method.together == "divided":
                count, whole = self.processes.share(count), count
                weight = count / whole
            batch = self.source.draw(count, self.generator)
            terms, metrics = player.loss(batch, progress, self.generator)
            loss: Tensor = sum(terms.values())  # type: ignore[assignment]
            loss.backward()
            if not player.clip:  # the norm is of all rows
                self.processes.divide(player.optimizer)
            self.processes.sum_gradients(player.parameters(), weight)
            if player.clip:
                torch.nn.utils.clip_grad_norm_(player.parameters(), player.clip)
            player.optimizer.step(partial(self._again, player, batch, progress))
            self.processes.together()
            drawn += len(batch) * self.processes.count
        return loss, metrics, drawn

    def _again(self, player: Player, batch: Any, progress: float) -> Tensor:
        """The loss of a batch once more, with its gradients, for optimisers that search along a line."""
        player.optimizer.zero_grad(set_to_none=False)
        loss: Tensor = sum(player.loss(batch, progress, self.generator)[0].values())  # type: ignore[assignment]
        with torch.enable_grad():
            loss.backward()
        return loss

    def preview(self) -> None:
        """RUN/previews/STEP.png: the first held-out photo beside the present result; of a shape, a picture of it.

        Of priors of pictures, new ones. None of what cannot be shown.
        """
        from neural3d.evaluate.views import LABELS, truth
        from neural3d.render.images import comparison, save_png, to_bytes
        from neural3d.render.paths import orbit

        path = self.directory / "previews" / f"{self.step:06d}.png"
        if isinstance(self.scene, Examples):
            return self._preview_samples(path, self.scene)
        if not isinstance(self.method, Renderable):
            return
        method = self.method.eval()
        if not isinstance(self.scene, Scene):
            picture = method.render(orbit(self.scene, 1)[0]).rgb
            self.method.train()
            return save_png(path, to_bytes(picture.cpu()))
        view = self.scene.views[(self.scene.split.get("test") or self.scene.split["train"])[0]]
        shrink = max(1, math.ceil(max(view.camera.width, view.camera.height) / 320))
        view = view.resized(view.camera.width // shrink, view.camera.height // shrink)
        pictures = [truth(self.scene, view), method.render(view.camera).rgb.cpu()]
        self.method.train()
        save_png(path, comparison([pictures], LABELS))

    @torch.no_grad()
    def _preview_samples(self, path: Path, examples: Examples) -> None:
        """A sheet of new pictures, always drawn with the same random numbers."""
        from neural3d.render.images import save_png

        if isinstance(self.method, Sampling) and examples.kind == "images":
            method = self.method.eval()
            drawn = method.draw(PREVIEWED, torch.Generator(self.device).manual_seed(0))
            self.method.train()
            save_png(path, contact_sheet(drawn))

    @property
    def metrics(self) -> Path:
        return self.directory / "metrics.jsonl"

    def _drop_metrics_after(self, step: int) -> None:
        """Keeps whole lines up to a step: a killed process may have left half a line."""
        if self.metrics.exists():
            lines = [x for x in self.metrics.read_text(errors="replace").splitlines() if -1 < _step_of(x) <= step]
            write_whole(self.metrics, "".join(f"{x}\n" for x in lines).encode())


def _previewed(step: int, stride: int) -> bool:
    """Was FIRST_PREVIEW, or a power of two above it, reached by the last `stride` steps?"""
    marks = (FIRST_PREVIEW, 1 << (step.bit_length() - 1))
    return any(FIRST_PREVIEW <= mark <= step < mark + stride for mark in marks)


def require_no_run(directory: Path) -> None:
    if (directory / CHECKPOINT).exists():
        raise UserError(
            f"{directory}: already holds a run; go on with {command_line('train', '--resume', directory)}, or choose "
            "another --out."
        )


@contextlib.contextmanager
def _held_from_now_on(directory: Path) -> Iterator[Lock]:
    """The folder's lock, taken, and kept unless the block fails."""
    lock = Lock(directory / LOCK, directory).acquire()
    try:
        remove_parts(directory / CHECKPOINT)
        yield lock
    except BaseException:
        lock.release()
        raise


def _step_of(line: str) -> int:
    """Of a line of metrics.jsonl; -1 where it is none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


def learning_rate(group: dict[str, Any], progress: float, step: int) -> float:
    """Exponential decay from the group's own lr to `lr_final` over the horizon, after `warmup` steps of linear rise.

    A group with `waits_until`, a share of the horizon, has 0 until then.
    """
    start = group.setdefault("lr_start", group["lr"])
    if progress < group.get("waits_until", 0.0) or start == 0:
        return 0.0
    decayed = start * (group["lr_final"] / start) ** progress
    return decayed * min(1.0, (step + 1) / max(1, group.get("warmup", 0)))
