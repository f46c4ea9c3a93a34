"""Splats as files: INRIA's .ply, antimatter's .splat and Niantic's .spz, read and written.

| file   | per splat                                                                        | bytes, degree 3 |
| ------ | -------------------------------------------------------------------------------- | --------------- |
| .ply   | float32: x y z, nx ny nz (0), f_dc (raw), f_rest (raw, all of red first, then    | 248             |
|        | green, blue), opacity (logit), scale (ln), rot (wxyz)                            |                 |
| .splat | float32 position and scale, 8 bits each of red, green, blue, opacity, wxyz;      | 32              |
|        | no view dependence; the most visible splats first                                |                 |
| .spz   | compressed; 24-bit positions, 8-bit ln scale, opacity, colour and harmonics,     | about 20        |
|        | 30-bit rotation; y up, z backward where the others have y down, z forward        |                 |

All hold a scene in its own frame. `Gaussians` keeps the frame of .ply and .splat; .spz is turned on the way. Where that
lies far from the origin it is about an offset: see `geometry.offset`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.errors import UserError
from neural3d.fields import spz
from neural3d.fields.gaussians import Gaussians
from neural3d.fields.spz import logits_from_bytes, opacity_bytes, to_bytes
from neural3d.files import replacing
from neural3d.geometry.offset import as_text, from_text, moved_by, offset_file, offset_of, read_offset, write_offset
from neural3d.scene.upright import RDF_FROM_RUB

C0 = 0.28209479177387814  # Y_0, by which f_dc becomes a colour
COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}  # per channel, by degree
USUAL_UP = (0.0, -1.0, 0.0)  # of .spz, and taken for up where a file does not say: y is down in most captures
Arrays = dict[str, np.ndarray]


@dataclass
class SplatFile:
    """What a file held. offset: to be added to the means, in double; in their axes, also of .spz."""

    gaussians: Gaussians
    layout: str
    antialiased: bool = False  # made for the 2D filter of Mip-Splatting
    up: tuple[float, float, float] | None = None  # None: the file does not say; only .spz and our own .ply do
    notes: list[str] = field(default_factory=list)
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def file_from_means(self) -> Float[Tensor, "4 4"]:
        """The offset as a matrix."""
        return torch.from_numpy(moved_by(self.offset))


def is_splat_file(path: Path) -> bool:
    """By the ending; a .ply by its header, so that meshes and plain clouds are not taken for splats."""
    if path.suffix.lower() != ".ply" or not path.is_file():
        return path.suffix.lower() in (".splat", ".spz")
    with open(path, "rb") as file:
        head = file.read(1 << 14)
    return b"property float f_dc_0" in head or b"packed_position" in head


def read_splats(path: str | Path) -> SplatFile:
    """Reads a .ply, .splat or .spz. Raises UserError where it is missing, damaged or of another kind.

    Splats that hold NaN, infinity or a rotation of length 0 are left out, and a note says how many.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: unknown splat format '{path.suffix}'; choose one of {', '.join(sorted(_READERS))}.")
    try:
        with open(path, "rb") as file:
            found = read(path, file)
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror or e}); check the path.") from None
    if path.suffix.lower() != ".ply":
        found.offset = _axes(path) * read_offset(path)
    return found


def _axes(path: Path) -> Float[np.ndarray, "3"]:
    """The directions of a file's axes in those of .ply."""
    return RDF_FROM_RUB.diagonal()[:3].numpy() if path.suffix.lower() == ".spz" else np.ones(3)


@torch.no_grad()
def write_splats(
    gaussians: Gaussians,
    path: str | Path,
    *,
    antialiased: bool = False,
    up: Sequence[float] = USUAL_UP,
    file_from_own: Float[Tensor, "4 4"] | None = None,
) -> list[str]:
    """Writes .ply, .splat or .spz (version 3), by the path's ending; returns what the format could not hold, in words.

    antialiased: a flag of .spz. file_from_own: the similarity, in double, that takes the splats to the file's frame,
    which may be far away; None: they are there. up: what is up in the file's frame; kept as a comment of .ply, so that
    what reads the file knows. Of .spz it is the format's own: see `scene.upright.file_from_own`.
    Raises UserError where the format is unknown or the file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UserError(f"{path}: unknown splat format '{path.suffix}'; choose one of {', '.join(sorted(_WRITERS))}.")
    matrix = torch.eye(4, dtype=torch.float64) if file_from_own is None else file_from_own.double().cpu()
    means = gaussians.means.detach().cpu().double()
    offset = offset_of((means @ matrix[:3, :3].T + matrix[:3, 3]).numpy())
    if file_from_own is not None or offset.any():
        gaussians = gaussians.transformed(torch.from_numpy(moved_by(-offset)) @ matrix)
    with replacing(path) as part, open(part, "wb") as file:
        notes = write(gaussians, path, file, antialiased=antialiased, up=up, offset=offset)
    if path.suffix.lower() != ".ply":
        write_offset(path, _axes(path) * offset)
        if offset.any():
            notes.append(f"The splats lie about {as_text(offset)}: that is kept in {offset_file(path).name} beside.")
    return notes


def describe_splats(path: Path, splats: SplatFile) -> list[tuple[str, str]]:
    """Label and value of everything worth knowing."""
    gaussians, size = splats.gaussians, path.stat().st_size
    n = len(gaussians)
    rows = [("read as", splats.layout), ("splats", f"{n:,}"), ("size", f"{size / 2**20:,.1f} MiB")]
    if n:
        means = gaussians.means.detach().numpy() + splats.offset
        low, high = np.quantile(means, [0.02, 0.98], axis=0)
        scales = gaussians.log_scales.detach().exp()
        opacity = torch.sigmoid(gaussians.opacity_logits.detach())
        longest, shortest = scales.amax(1).median(), scales.amin(1).median()
        rows[2] = (rows[2][0], f"{rows[2][1]}, {size / n:.0f} bytes a splat")
        rows += [
            ("box of 96 %", f"{_numbers(low)} to {_numbers(high)}"),
            ("box of all", f"{_numbers(means.min(0))} to {_numbers(means.max(0))}"),
            ("standard deviations", f"{longest:.3g} along the longest axis, {shortest:.3g} the shortest (medians)"),
            ("opacity", f"median {opacity.median():.2f}, {(opacity < 0.1).float().mean():.0%} under 0.1"),
        ]
    if splats.offset.any():
        rows.append(("offset", f"{as_text(splats.offset)}, which positions are about"))
    rows.append(("up", _numbers(np.array(splats.up)) if splats.up else "the file does not say; −y is taken"))
    rows.append(("view dependence", f"degree {gaussians.sh_degree}" if gaussians.sh_degree else "none"))
    if splats.antialiased:
        rows.append(("antialiased", "yes: made for Mip-Splatting's 2D filter"))
    return rows + [("note", note) for note in splats.notes]


def _numbers(values: np.ndarray) -> str:
    digits = 3 if np.abs(values).max() < 1e4 else 9  # UTM to a centimetre
    return "(" + ", ".join(f"{v:.{digits}g}" for v in values.tolist()) + ")"


def _usable(path: Path, arrays: Arrays, notes: list[str]) -> Gaussians:
    """Float32 arrays named as Gaussians' arguments; leaves out what is not finite."""
    n = len(arrays["means"])
    good = (arrays["quats"] != 0).any(1)
    for values in arrays.values():
        good &= np.isfinite(values).all(tuple(range(1, values.ndim)))
    if n and not good.any():
        raise UserError(
            f"{path}: every splat holds NaN, infinity or no rotation; the file is damaged, export it again."
        )
    if not good.all():
        notes.append(f"{n - good.sum():,} splats hold NaN, infinity or no rotation and were left out.")
    return Gaussians(**{k: torch.from_numpy(np.ascontiguousarray(v[good])) for k, v in arrays.items()})


def _arrays(gaussians: Gaussians) -> Arrays:
    return {name: p.detach().cpu().numpy() for name, p in gaussians.named_parameters()}


# --- .ply ------------------------------------------------------------------------------------------------------------

_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_UP, _OFFSET = "neural3d up ", "offset "


def _ply_header(path: Path, file: BinaryIO) -> tuple[np.dtype, int, list[str]]:
    """The layout of a vertex, how many there are, and the comments; leaves `file` at the first vertex."""
    problem = f"{path} is no splat file in INRIA's layout: "
    if file.readline(16).strip() != b"ply":
        raise UserError(f"{problem}it does not begin with 'ply'.")
    order, element, count, fields, comments = "", "", 0, [], []
    while (line := file.readline(4096).decode("latin-1").strip()) != "end_header":
        match line.split():
            case ["comment", *_]:
                comments.append(line.removeprefix("comment "))
            case ["format", kind, _]:
                order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(kind, "")
                if not order:
                    raise UserError(f"{problem}its numbers are written as '{kind}', expected binary; export it so.")
            case ["element", "chunk", _]:
                raise UserError(f"{path} is a compressed .ply of PlayCanvas; export it as plain .ply or .spz.")
            case ["element", name, number] if number.isdigit() and (element or name == "vertex"):
                element, count = (name, int(number)) if not element else ("what follows the vertices", count)
            case ["property", kind, name] if kind in _PLY_TYPES:
                if element == "vertex":
                    fields.append((name, order + _PLY_TYPES[kind]))
            case ["obj_info", *_]:
                pass
            case ["property", "list", *_] if element != "vertex":
                pass
            case _:
                what = "its header ends early" if not line else f"its header says '{line[:60]}'"
                raise UserError(f"{problem}{what}; export the file again.")
    if len(dict(fields)) < len(fields):
        raise UserError(f"{problem}its header names a property twice; export the file again.")
    return np.dtype(fields), count, comments


def _read_ply(path: Path, file: BinaryIO) -> SplatFile:
    layout, count, comments = _ply_header(path, file)
    names = set(layout.names or ())
    rest = sum(name.startswith("f_rest_") for name in names)
    wanted = ["x", "y", "z", *(f"f_dc_{k}" for k in range(3)), *(f"f_rest_{k}" for k in range(rest)), "opacity"]
    wanted += [*(f"scale_{k}" for k in range(3)), *(f"rot_{k}" for k in range(4))]
    missing = [name for name in wanted if name not in names]
    if missing == ["scale_2"]:
        raise UserError(f"{path} holds flat splats (two scales, as of 2D Gaussian splatting), which cannot be read.")
    if missing:
        raise UserError(f"{path} is no splat file in INRIA's layout: its vertices lack '{missing[0]}'.")
    if rest % 3 or rest // 3 not in COEFFICIENTS.values():
        raise UserError(f"{path} has {rest} numbers f_rest a splat; expected 0, 9, 24 or 45, of degree 0 to 3.")
    data = file.read()
    if (whole := len(data) // layout.itemsize) < count:
        raise UserError(f"{path} is cut off: it announces {count:,} splats and holds {whole:,}; copy it again.")
    table = np.frombuffer(data, layout, count)

    def columns(*names: str) -> np.ndarray:
        stacked = np.empty((count, len(names)), np.float32)
        for k, name in enumerate(names):
            stacked[:, k] = table[name]
        return stacked

    # In double: others' files may hold large coordinates as they are.
    points = np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)
    own = offset_of(points[np.isfinite(points).all(1)])
    arrays = {
        "means": (points - own).astype(np.float32),
        "log_scales": columns("scale_0", "scale_1", "scale_2"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "opacity_logits": columns("opacity")[:, 0],
        "sh_dc": columns("f_dc_0", "f_dc_1", "f_dc_2"),
        "sh_rest": columns(*(f"f_rest_{k}" for k in range(rest))).reshape(count, 3, rest // 3).swapaxes(1, 2),
    }
    notes: list[str] = []
    gaussians = _usable(path, arrays, notes)
    return SplatFile(gaussians, "splats, INRIA's .ply", False, _up_in(comments), notes, own + _offset_in(comments))


def _up_in(comments: list[str]) -> tuple[float, float, float] | None:
    """What our own files say is up."""
    for comment in comments:
        with contextlib.suppress(ValueError):
            x, y, z = (float(word) for word in comment.removeprefix(_UP).split())
            if comment.startswith(_UP) and 0 < x * x + y * y + z * z < np.inf:
                return x, y, z
    return None


def _offset_in(comments: list[str]) -> Float[np.ndarray, "3"]:
    """What a comment says, of our own files and others'."""
    said = (from_text(c.removeprefix(_OFFSET)) for c in comments if c.startswith(_OFFSET))
    return next((offset for offset in said if offset is not None), np.zeros(3))


def _write_ply(
    gaussians: Gaussians, path: Path, file: BinaryIO, *, up: Sequence[float], offset: np.ndarray, **_: Any
) -> list[str]:
    a, n = _arrays(gaussians), len(gaussians)
    rest = a["sh_rest"].swapaxes(1, 2).reshape(n, 3 * a["sh_rest"].shape[1])
    names = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{k}" for k in range(3)), *(f"f_rest_{k}" for k in range(rest.shape[1]))]
    names += ["opacity", *(f"scale_{k}" for k in range(3)), *(f"rot_{k}" for k in range(4))]
    header = [
        *("ply", "format binary_little_endian 1.0", f"comment {_UP}{up[0]:.9g} {up[1]:.9g} {up[2]:.9g}"),
        *([f"comment {_OFFSET}{as_text(offset)}"] if offset.any() else []),
        *(f"element vertex {n}", *(f"property float {name}" for name in names), "end_header", ""),
    ]
    blocks = [a["means"], np.zeros((n, 3)), a["sh_dc"], rest, a["opacity_logits"][:, None], a["log_scales"], a["quats"]]
    file.write("\n".join(header).encode())
    file.write(np.concatenate(blocks, axis=1, dtype="<f4").tobytes())
    return []


# --- .splat ----------------------------------------------------------------------------------------------------------

_SPLAT = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)])


def _read_splat(path: Path, file: BinaryIO) -> SplatFile:
    data = file.read()
    if len(data) % _SPLAT.itemsize:
        raise UserError(
            f"{path} has {len(data):,} bytes, no multiple of a splat's 32; it is cut off or no .splat file."
        )
    table = np.frombuffer(data, _SPLAT)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_scales = np.log(table["scale"])
    arrays = {
        "means": table["position"],
        "log_scales": log_scales,
        "quats": (table["rotation"].astype(np.float32) - 128) / 128,
        "opacity_logits": logits_from_bytes(table["color"][:, 3]),
        "sh_dc": (table["color"][:, :3] / np.float32(255) - np.float32(0.5)) / np.float32(C0),
        "sh_rest": np.zeros((len(table), 0, 3), np.float32),
    }
    notes: list[str] = []
    return SplatFile(_usable(path, arrays, notes), "splats, antimatter's .splat", notes=notes)


def _write_splat(gaussians: Gaussians, path: Path, file: BinaryIO, **_: Any) -> list[str]:
    a = _arrays(gaussians)
    table = np.empty(len(gaussians), _SPLAT)
    table["position"] = a["means"]
    table["scale"] = np.exp(a["log_scales"].clip(-80, 80))  # the rest of float32's range
    table["color"][:, :3] = to_bytes(255 * (0.5 + C0 * a["sh_dc"].astype(np.float64)))
    table["color"][:, 3] = opacity_bytes(a["opacity_logits"])
    unit = a["quats"] / np.linalg.norm(a["quats"], axis=1, keepdims=True).clip(1e-30)
    table["rotation"] = to_bytes(unit * 128 + 128)
    visible = a["log_scales"].sum(1) - np.logaddexp(0, -a["opacity_logits"])  # ln of volume × opacity
    file.write(table[np.argsort(-visible, kind="stable")].tobytes())
    return ["A .splat file has no view dependence: colours are those of degree 0."] if gaussians.sh_degree else []


# --- .spz ------------------------------------------------------------------------------------------------------------


def _read_spz(path: Path, file: BinaryIO) -> SplatFile:
    found = spz.unpack(path, file.read())
    gaussians = _usable(path, found.arrays, found.notes).transformed(RDF_FROM_RUB)
    return SplatFile(gaussians, f"splats, .spz version {found.version}", found.antialiased, USUAL_UP, found.notes)


def _write_spz(gaussians: Gaussians, path: Path, file: BinaryIO, *, antialiased: bool, **_: Any) -> list[str]:
    data, notes = spz.pack(path, _arrays(gaussians.transformed(RDF_FROM_RUB)), antialiased)
    file.write(data)
    return notes


_READERS: dict[str, Callable[[Path, BinaryIO], SplatFile]] = {
    ".ply": _read_ply,
    ".splat": _read_splat,
    ".spz": _read_spz,
}
_WRITERS: dict[str, Callable[..., list[str]]] = {".ply": _write_ply, ".splat": _write_splat, ".spz": _write_spz}
