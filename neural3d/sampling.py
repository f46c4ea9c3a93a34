"""What is asked of a run that makes examples: of a class, with attributes, moved towards one; and examples changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neural3d.config import nearest, parse_assignments
from neural3d.denoise import read_picture
from neural3d.errors import UserError
from neural3d.examples.attributes import AttributeTable
from neural3d.examples.examples import Examples, as_numbers
from neural3d.methods.abilities import Coding, Labelled, Paired, Sampling, Steered
from neural3d.priors.boundary import Way, find_boundary
from neural3d.run import Run, load

AT_ONCE = 500  # examples that are coded together


def new_examples(
    run: Run,
    count: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    label: str | None = None,
    asked: Mapping[str, float] | None = None,
) -> Float[Tensor, "count ..."]:
    """label: of this class alone. asked: with these values of attributes. Raises UserError where a run cannot."""
    method = run.able(Sampling)
    more: dict[str, Any] = {}
    if label is not None:
        if not isinstance(method, Labelled):
            raise UserError(
                f"{run.directory}: learnt without labels, or cannot tell classes apart; leave out --label, or train "
                "--method pixelcnn --set conditional=true on examples with labels."
            )
        if label not in method.classes:
            raise nearest(label, method.classes, "class", str(run.directory))
        more["label"] = method.classes.index(label)
    if asked:
        run.able(Steered)
        more["asked"] = asked
    with torch.no_grad():
        return method.draw(count, generator, temperature, **more).cpu()


def attributes_asked(run: Run, pairs: tuple[str, ...]) -> dict[str, float]:
    """NAME=VALUE … of attributes that the run knows. Raises UserError for others, or values that are no numbers."""
    known = run.able(Steered).attributes
    asked = {}
    for name, value in parse_assignments(pairs).items():
        if name not in known:
            raise nearest(name, known, "attribute", str(run.directory))
        asked[name] = _number(value, f"--set {name}")
    return asked


def edited(run: Run, file: Path, asked: Mapping[str, float]) -> Float[Tensor, "1 C H W"]:
    """A picture with other values of attributes than a table beside it says it has, or than it is likely to have.

    Raises UserError where the run knows codes of no pictures, or those of another size.
    """
    coder, method = _coder(run), run.able(Steered)
    if coder is None or not isinstance(coder.data, Examples) or coder.data.kind != "images":
        raise UserError(f"{run.directory}: knows no codes of pictures; train it on the run of a vae of pictures.")
    x, _ = read_picture(file, coder.data)
    if list(x.shape) != coder.data.shape:
        _, height, width = coder.data.shape
        raise UserError(f"{file}: {x.shape[2]} × {x.shape[1]} pixels, but the run learnt {width} × {height}; scale it.")
    own = _row(file, method.attributes)
    device = next(run.method.parameters()).device
    z = coder.able(Coding).encode(x[None].to(device))
    return coder.able(Coding).decode(method.edited(z, asked, own if own is None else own.to(device))).cpu()


def answered(
    run: Run, file: Path, count: int, generator: torch.Generator, temperature: float = 1.0, style: Path | None = None
) -> Float[Tensor, "N C H W"]:
    """Of a prior of pairs: `count` pictures b that may belong to a picture a; or one, in the style of a pair.

    style: NAME_b.png of that pair, beside which lies its NAME_a.png. Raises UserError where it does not.
    """
    method, device = run.able(Paired), next(run.method.parameters()).device
    assert isinstance(run.data, Examples)
    half = replace(run.data, shape=[run.data.shape[0] // 2, *run.data.shape[1:]])

    def read(path: Path) -> Float[Tensor, "1 C h w"]:
        return read_picture(path, half)[0][None].to(device)

    a = read(file)
    if style is None:
        return method.answers(a.expand(count, -1, -1, -1), generator, temperature).cpu()
    first = style.with_stem(style.stem.removesuffix("_b") + "_a")
    if not style.stem.endswith("_b") or not first.exists():
        raise UserError(f"{style}: a style is the second of a pair, NAME_b.png, with its NAME_a.png beside it.")
    return method.restyled(a, (read(first), read(style))).cpu()


def _row(file: Path, names: list[str]) -> Float[Tensor, "1 A"] | None:
    """What the nearest table above a picture says of it; None where none names it, or not all attributes."""
    file = file.resolve()
    for folder in file.parents:
        table = AttributeTable(folder)
        if table.found:
            if not {*names} <= {*table.names} or not table.tells(file):
                return None
            row = torch.from_numpy(table.of([file]))[:, [table.names.index(name) for name in names]]
            return row if row.isfinite().all() else None
    return None


def as_pictures(run: Run, examples: Float[Tensor, "N ..."]) -> Float[Tensor, "N C H W"] | None:
    """Pictures, also by way of the run whose codes these are; None where they are something else."""
    coder = _coder(run)
    if coder is None:
        return examples if isinstance(run.data, Examples) and run.data.kind == "images" else None
    tokens = isinstance(run.data, Examples) and run.data.kind == "images"  # numbers of a book's entries, as levels
    codes = (255 * examples).round().flatten(1) if tokens else examples
    device = next(coder.method.parameters()).device
    with torch.no_grad():
        made = coder.able(Coding).decode(codes.to(device)).cpu()
    return made if isinstance(coder.data, Examples) and coder.data.kind == "images" else None


def _coder(run: Run) -> Run | None:
    """The run whose codes this one has learnt, where they can be turned back."""
    if not (run.data.path / "config.json").exists():
        return None
    coder = load(run.data.path, str(next(run.method.parameters()).device.type))
    return coder if isinstance(coder.method, Coding) else None


def moved_toward(run: Run, drawn: Float[Tensor, "N ..."], toward: str, way: Way) -> Float[Tensor, "N ..."]:
    """Examples whose codes are moved to NAME=VALUE, of a class or an attribute; see neural3d/priors/boundary.py.

    Raises UserError where the run has no codes, or no such class or attribute.
    """
    method = run.able(Coding)
    name, _, number = toward.partition("=")
    value = _number(number, f"--toward expects NAME=VALUE, such as {name or 'stone'}=2; its value")
    examples = run.config.load_data()
    assert isinstance(examples, Examples)
    known, has = _which_have(examples, name)
    examples = type(run.method).prepared(examples, run.method.config)
    assert examples.values is not None
    device = next(run.method.parameters()).device
    with torch.no_grad():
        x = examples.values["train"][known].float() * as_numbers(examples)
        z = torch.cat([method.encode(part.to(device)).cpu() for part in x.split(AT_ONCE)])
        found = find_boundary(z.double().numpy(), has.numpy(), way)
        moved = found.moved(method.encode(drawn.to(device)).cpu(), value)
        return method.decode(moved.to(device)).cpu()


def _which_have(examples: Examples, name: str) -> tuple[Bool[Tensor, "train"], Bool[Tensor, "known"]]:
    """(the training examples of which it is known, which of these are of the class, or above the attribute's median)"""
    if name in examples.attributes and examples.measures is not None:
        values = examples.measures["train"][:, examples.attributes.index(name)]
        known = values.isfinite()
        return known, values[known] > values[known].median()
    if examples.labels is None or name not in examples.classes:
        names = [*examples.classes, *examples.attributes]
        if not names:
            raise UserError(
                f"{examples.path}: its examples have no labels; put pictures into a folder for each class, or a table "
                "attributes.csv (name,roughness,…) beside them."
            )
        raise nearest(name, names, "class" if examples.classes else "attribute", str(examples.path))
    labels = examples.labels["train"]
    return torch.ones_like(labels, dtype=torch.bool), labels == examples.classes.index(name)


def _number(text: Any, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{what} must be a number, not '{text}'.") from None
