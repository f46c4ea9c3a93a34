"""A run folder: what was asked for, the scene it was asked of, and the state reached.

RUN/config.json              method, resolved settings, seed, where the capture lies
RUN/scene.json               cameras, bounds, split: enough to render without the photos
RUN/checkpoint.safetensors   parameters, optimizer, random state, step (exact resume)
RUN/metrics.jsonl            one line per report
RUN/previews/                truth beside result while training
RUN/eval.json, RUN/eval/     metrics and pictures of the last evaluation
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from neural3d import __version__
from neural3d.body.poses import poses_of
from neural3d.body.windows import holds_clips, windows_of
from neural3d.checkpoint import load_state
from neural3d.config import override, parse_assignments
from neural3d.disk import write_whole
from neural3d.errors import UserError
from neural3d.examples.examples import Examples
from neural3d.examples.reading import made, read_examples
from neural3d.geometry.cameras import Camera
from neural3d.geometry.mesh import Mesh
from neural3d.loading import load_data
from neural3d.loading import resolve as find_scene
from neural3d.methods import METHODS, OF_CATEGORY, method_class
from neural3d.methods.abilities import Meshable, Renderable, Teaching, cannot
from neural3d.methods.base import Method
from neural3d.methods.choice import choose
from neural3d.plain import from_plain, read_json
from neural3d.render import RenderOut
from neural3d.scene import Data, Fitted, Scene
from neural3d.scene.exposure import exposure_spread
from neural3d.scene.observed import observed_points
from neural3d.scene.stored import read_scene
from neural3d.shapes.category import ShapeSet
from neural3d.shapes.shape import Shape

A = TypeVar("A")
FEWEST_VIEWS = 3  # from which a scene may follow


def resolve_device(name: str) -> torch.device:
    """auto, cpu or cuda → a device our kernels run on. Raises UserError where cuda is asked for and cannot be had."""
    from neural3d.ops.native import cuda_usable

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device must be auto, cpu or cuda, not '{name}'.")
    if name == "cpu" or (name == "auto" and not cuda_usable()):
        return torch.device("cpu")
    if not cuda_usable():
        raise UserError(
            "--device cuda: no usable GPU here (torch sees none, or the CUDA kernels are missing); use cpu."
        )
    return torch.device("cuda")


@dataclass
class RunConfig:
    """What `neural3d train` was asked for, resolved; RUN/config.json."""

    scene: str  # absolute path of the capture or of its TOML
    scene_options: dict[str, Any]  # what was said about it beyond that (fields of SceneOptions)
    method: str
    settings: dict[str, Any]  # every field of the method's configuration
    seed: int = 0
    deterministic: bool = False
    version: str = __version__

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"a seed must be from 0 to 2^63 - 1, not {self.seed}.")

    def method_config(self) -> Any:
        method = method_class(self.method)
        return override(method.Config(), todays_names(self.settings, method), "config.json")

    def load_data(self) -> Fitted:
        if method_class(self.method).takes is Examples:
            return load_examples(self.scene, self.settings.get("patch", 0), *_wants(self.method))
        return self.fitting(load_data(self.scene, **self.scene_options))

    def fitting(self, scene: Fitted) -> Fitted:
        """The scene. Raises UserError where it is of no kind that the method takes."""
        if not isinstance(scene, method_class(self.method).takes):
            raise UserError(f"{scene.path} is not what {self.method} was trained on; put back the data or config.json.")
        return scene


def configure(
    scene: str | Path,
    method: str = "auto",
    settings: Iterable[str] = (),
    *,
    downscale: int | None = None,
    seed: int = 0,
    deterministic: bool = False,
    tell: Callable[[str, str], None] = lambda method, reason: None,
) -> tuple[RunConfig, Fitted]:
    """Resolves what a user asks for: the method's defaults, with a gain for each photo where these were exposed
    differently, then the ready scene's [method.NAME], then `settings`.

    method: a name, or auto: what suits the data (methods.choice); `tell` is then given the name and the reason.
    settings: key=value of the method's configuration, or scene.key=value of the scene's options.
    Raises UserError for anything unknown, data that the method does not take, and whatever `load_data` raises.
    """
    changes = parse_assignments(settings)
    options = {k.removeprefix("scene."): _value(v) for k, v in changes.items() if k.startswith("scene.")}
    if downscale is not None:
        options["downscale"] = downscale
    if method != "auto" and method_class(method).takes is Examples:
        return _configure_prior(scene, method, changes, options, seed, deterministic)
    loaded = load_data(scene, **options)
    if method == "auto":
        method, reason = choose(loaded)
        tell(method, reason)
    method = OF_CATEGORY.get(method, method) if isinstance(loaded, ShapeSet) else method
    chosen = method_class(method)
    if not isinstance(loaded, chosen.takes):
        kinds = {
            Scene: "photos",
            Shape: "a mesh or point cloud",
            ShapeSet: "a folder of meshes, or of captures of many objects",
        }
        plain = {special: name for name, special in OF_CATEGORY.items()}
        others = ", ".join(plain.get(name, name) for name in METHODS if method_class(name).takes is type(loaded))
        raise UserError(
            f"{scene} is {kinds[type(loaded)]}, but {method} is for {kinds[chosen.takes]}; choose --method {others}."
        )
    if isinstance(loaded, Scene) and len(loaded.views) < FEWEST_VIEWS:
        raise UserError(
            f"{scene} has {len(loaded.views)} photo(s) with a pose, but a scene takes at least {FEWEST_VIEWS}: "
            "take more photos, in small steps around the subject, and find their cameras with neural3d process."
        )
    config = _measured(chosen.Config(), loaded)
    config = override(config, loaded.method_settings.get(method, {}), f"{scene}, [method.{method}]")
    config = override(config, {k: v for k, v in changes.items() if not k.startswith("scene.")}, "--set")
    for run in ("prior", "start"):
        if path := getattr(config, run, ""):
            read_config(Path(path))
            config = dataclasses.replace(config, **{run: str(Path(path).resolve())})
    path = str(find_scene(scene))
    return RunConfig(path, options, method, dataclasses.asdict(config), seed, deterministic), loaded


def _configure_prior(
    path: str | Path, method: str, changes: dict[str, str], options: dict[str, Any], seed: int, deterministic: bool
) -> tuple[RunConfig, Fitted]:
    if options:
        raise UserError(
            f"{', '.join(options)}: cannot be set for {method}, which learns from examples, not from a scene."
        )
    config = override(method_class(method).Config(), changes, "--set")
    examples = load_examples(path, config.patch, *_wants(method))
    return RunConfig(str(examples.path), {}, method, dataclasses.asdict(config), seed, deterministic), examples


def _measured(config: Any, data: Data) -> Any:
    """The defaults, with a gain for each photo where the photos ask for it."""
    if isinstance(data, Scene) and hasattr(config, "exposure"):
        stops = exposure_spread(data, observed_points(data))
        if stops is not None:
            data.notes.append(f"photos differ by {stops:.1f} stops: each gets a gain of its own (exposure=true)")
            return dataclasses.replace(config, exposure=True)
    return config


def _value(text: str) -> Any:
    """A number, true/false or list as JSON; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass
class Run:
    """A run folder, opened: `neural3d.load("RUN")`. Does all that its method can, without the photos."""

    directory: Path
    config: RunConfig
    data: Fitted
    method: Method
    step: int

    @property
    def scene(self) -> Data:
        """Of a run that has a place in space. Raises UserError of one that has learnt from examples."""
        if isinstance(self.data, Examples):
            raise cannot(self.directory, self.method, Renderable)
        return self.data

    def able(self, ability: type[A]) -> A:
        """The method, as one that can do this: a protocol of `methods.abilities`. Raises UserError where it cannot."""
        if not isinstance(self.method, ability):
            raise cannot(self.directory, self.method, ability)
        return self.method

    def render(self, camera: Camera, background: Tensor | None = None) -> RenderOut:
        """A picture of the scene from a camera in the scene frame (as those of `self.scene.views`).

        background: (3,) sRGB; None: the scene's own.
        """
        return self.able(Renderable).render(camera, background)

    def mesh(self, resolution: int, crop: Float[Tensor, "2 3"] | None = None) -> Mesh:
        """The surface in the scene frame, with vertex colours if it has any; see `Meshable.surface`."""
        return self.able(Meshable).mesh(resolution, crop)

    @property
    def capture_from_scene(self) -> Float[Tensor, "4 4"]:
        """Undoes the normalisation: what leaves a run lies in the capture's own frame and units."""
        return torch.linalg.inv(self.scene.scene_from_capture)

    @property
    def up_in_capture(self) -> list[float]:
        """The direction (of unit length) that is up in the capture's own frame, as far as its reader knew."""
        return torch.nn.functional.normalize(self.capture_from_scene[:3, 2], dim=0).tolist()


def read_config(directory: Path) -> RunConfig:
    """RUN/config.json. Raises UserError where `directory` is no run."""
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory}: not a run (no config.json); give the folder that `neural3d train` wrote.")
    return from_plain(RunConfig, read_json(path), str(path))


def write_json(path: Path, value: Any) -> None:
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def build_method(config: RunConfig, scene: Fitted, device: torch.device) -> Method:
    """A fresh method, initialised from the run's seed alone. Raises UserError where its settings cannot be."""
    settings = config.method_config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            return method_class(config.method)(settings, scene).to(device)
        except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
            said = str(error).partition("\n")[0] or "not enough memory"
            raise UserError(f"{config.method} cannot be made with these settings ({said}); change them.") from error


def load(run: str | Path, device: str = "auto") -> Run:
    """Opens a run folder for rendering, evaluation and export.

    run: the folder `neural3d train --out` wrote. device: auto, cpu or cuda.
    Raises UserError where it is no run, damaged, or not yet saved.
    """
    directory = Path(run)
    config = read_config(directory)
    scene = config.fitting(read_scene(directory / "scene.json"))
    target = resolve_device(device)
    method = build_method(config, scene, target)
    step = load_method(method, load_state(directory / "checkpoint.safetensors", target))
    return Run(directory, config, scene, method.eval(), step)


def _wants(method: str) -> tuple[bool, bool]:
    """(`Prior.pairs`, `Prior.sequences`)"""
    prior: Any = method_class(method)
    return prior.pairs, prior.sequences


def load_examples(path: str | Path, patch: int = 0, pairs: bool = False, sequences: bool = False) -> Examples:
    """What priors learn from: files of examples, motion clips, or what another run has learnt, as latents of shapes.

    patch, pairs: of folders of pictures, see `read_examples`. sequences: of motion clips, windows; else single poses.
    Raises UserError where there is nothing of the kind, or it is damaged.
    """
    found = Path(path)
    if not found.exists():
        raise UserError(f"{path} does not exist; check the path.")
    found = found.resolve()
    if holds_clips(found):
        values, about, notes = windows_of(found) if sequences else poses_of(found)
        examples = made(found, {split: (x, None) for split, x in values.items()})
        return dataclasses.replace(examples, about=about, notes=[*examples.notes, *notes])
    if not (found / "config.json").exists():
        return read_examples(found, patch, pairs)
    run = load(found, "cpu")
    data = functools.cache(run.config.load_data)
    lessons = made(found, {split: (values, None) for split, values in run.able(Teaching).lessons(data).items()})
    if not isinstance(run.data, Examples):
        return lessons
    of = data()
    assert isinstance(of, Examples)
    return dataclasses.replace(
        lessons, classes=of.classes, labels=of.labels, attributes=of.attributes, measures=of.measures
    )


def todays_names(values: dict[str, Any], method: type[Method]) -> dict[str, Any]:
    """The same under the names of today, where an older run has others."""

    def today(name: str) -> str:
        old = next((start for start in method.renamed if name.startswith(start)), "")
        return method.renamed.get(old, "") + name.removeprefix(old)

    return {today(name): value for name, value in values.items()}


def load_method(method: Method, state: dict[str, Any]) -> int:
    """Puts a checkpoint's parameters, buffers and plain values into a method, whose sizes may change; the step.

    Raises UserError where they are another method's, or of other settings.
    """
    try:
        method.load_state_dict(todays_names(state["method"], type(method)))
        method.load_extra_state(todays_names(state.get("extra", {}), type(method)))
        return int(state["step"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"the checkpoint and config.json are not of one run ({said}); copy both again.") from None
