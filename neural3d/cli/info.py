"""`neural3d info`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from neural3d.cli.console import coloured, console, option, print_pairs, print_table, say_next
from neural3d.errors import UserError, command_line
from neural3d.methods import METHODS
from neural3d.priors import PRIORS


@dataclass
class Info:
    """The import doctor: what a capture, a run, a mesh or splat file holds, and what looks suspicious."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE|RUN|FILE")]
    """Capture, photos without poses, video, run, mesh, splats, motion clip or body model (anny: the free one); or a
    method's name, for its settings."""
    downscale: Annotated[int | None, option("K")] = None
    """As `train` would: photos shrunk by this factor; default: to about 1600 px."""

    def run(self) -> None:
        path = Path(self.path)
        if self.path in METHODS | PRIORS and not path.exists():
            return print_settings(self.path)

        from neural3d.body.clips import read_motion
        from neural3d.body.doctor import describe_model, describe_motion, is_model, is_motion
        from neural3d.body.skinned import is_moving, read_moving
        from neural3d.files.splats import describe_splats, is_splat_file, read_splats
        from neural3d.loading import load_scene
        from neural3d.scene.doctor import describe, describe_shape, warnings
        from neural3d.scene.objects import holds_captures, load_captures
        from neural3d.sfm.footage import find_footage
        from neural3d.sfm.footage_doctor import describe_footage
        from neural3d.shapes.category import holds_shapes, load_shape_set
        from neural3d.shapes.shape import is_shape_file

        if is_model(path):
            return print_pairs(str(path), describe_model(path))
        if is_motion(path):
            motion = read_motion(path)
            print_pairs(str(path), describe_motion(motion))
            return say_next("body", "make", "--motion", path, path.with_suffix(".glb").name)
        if is_splat_file(path):
            return print_pairs(str(path), describe_splats(path, read_splats(path)))
        if is_shape_file(path):
            moves = [("moves", read_moving(path).summary())] if is_moving(path) else []
            return print_pairs(str(path), describe_shape(path) + moves)
        if (path / "config.json").exists():
            return describe_run(path)
        if holds_captures(path):
            objects = load_captures(path.resolve())
            return print_pairs(str(path), [(f"{s} captures", f"{len(n)}") for s, n in objects.members.items()])
        if (footage := find_footage(path)) is not None:
            rows, advice = describe_footage(footage)
            print_pairs(str(path), rows)
            for sentence in advice:
                console.print(coloured("advice:"), sentence)
            return say_next("process", path, f"{path.resolve().stem}-capture")
        if holds_shapes(path):
            shapes = load_shape_set(path.resolve())
            return print_pairs(str(path), [(f"{s} shapes", f"{len(names)}") for s, names in shapes.members.items()])
        scene = load_scene(self.path, downscale=self.downscale)
        print_pairs(str(path), describe(scene))
        for note in scene.notes:
            console.print(f"note: {note}")
        for doubt in warnings(scene):
            console.print(coloured("warning:"), doubt)


def print_settings(method: str) -> None:
    """Every setting of a method with its default and meaning (the comment beside the field)."""
    shown = Table("setting", "default", "meaning", title=f"--set for --method {method}", title_justify="left")
    for row in read_settings(method):
        shown.add_row(*row)
    print_table(shown)


def read_settings(method: str) -> list[tuple[str, str, str]]:
    """(name, default, meaning) from the source of the method's Config: to import it, and torch, would take seconds."""
    module, _, name = (METHODS | PRIORS)[method].partition(":")
    return _fields_of(module, f"{name}Config")


def _fields_of(module: str, name: str) -> list[tuple[str, str, str]]:
    """Of a dataclass: its own fields, then those of what it is made from, which its module imports."""
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    lines, tree = source.splitlines(), ast.parse(source)
    config = next(c for c in tree.body if isinstance(c, ast.ClassDef) and c.name == name)
    rows = []
    for field in config.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value:
            default = ast.get_source_segment(source, field.value) or ""
            comment = re.search(r"  #\s*(.*)", "\n".join(lines[field.lineno - 1 : field.end_lineno]))
            rows.append((field.target.id, default.strip("\"'"), comment[1] if comment else ""))
    made_from = {base.id for base in config.bases if isinstance(base, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inherited = _fields_of(node.module, alias.name) if alias.name in made_from else []
                rows += [row for row in inherited if row[0] not in {own[0] for own in rows}]
    return rows


def describe_run(path: Path) -> None:
    """`info RUN`: what was asked for and what was reached."""
    from neural3d.checkpoint import load_state
    from neural3d.plain import read_json
    from neural3d.run import read_config

    config = read_config(path)
    pairs = [("scene", config.scene), ("method", config.method), ("seed", str(config.seed))]
    if (path / "checkpoint.safetensors").exists():
        state = load_state(path / "checkpoint.safetensors")
        count = sum(v.numel() for v in state.get("method", {}).values())
        pairs += [("step", str(state.get("step"))), ("numbers in the model", f"{count:,}")]
        if "open" in state.get("extra", {}):
            pairs.append(("surface", "open, trimmed where there are no points" if state["extra"]["open"] else "closed"))
    if (path / "eval.json").exists():
        try:
            results = read_json(path / "eval.json")["results"]
            pairs += [(f"eval: {k}", f"{v:.3f}") for k, v in results.items() if k != "per_image"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{path / 'eval.json'}: damaged; write it anew: {command_line('eval', path)}.") from None
    print_pairs(str(path), pairs + [(k, str(v)) for k, v in config.settings.items()])
