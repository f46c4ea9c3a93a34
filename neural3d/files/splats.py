"""Splats as files, read and written: a table of formats, and those that need no module of their own.

| file            | per splat                                                                        | bytes, degree 3 |
| --------------- | -------------------------------------------------------------------------------- | --------------- |
| .ply            | INRIA's. float32: x y z, nx ny nz (0), f_dc (raw), f_rest (raw, all of red       | 248             |
|                 | first, then green, blue), opacity (logit), scale (ln), rot (wxyz)                |                 |
| .compressed.ply | SuperSplat's: 11-bit positions in chunks, 8-bit colour; `compressed_ply`         | 61              |
| .splat          | antimatter's. float32 position and scale, 8 bits each of red, green, blue,       | 32              |
|                 | opacity, wxyz; no view dependence; the most visible splats first                 |                 |
| .spz            | Niantic's, compressed: 24-bit positions, 8-bit ln scale, opacity, colour and     | about 20        |
|                 | harmonics, 30-bit rotation; y up, z backward; `spz`                              |                 |
| .sog            | PlayCanvas', compressed: 16-bit positions, all else 8 bits; also a folder; `sog` | about 15        |
| .gs.glb         | glTF with KHR_gaussian_splatting: float32 throughout; +y up; `splat_gltf`        | 244             |
| .ksplat         | GaussianSplats3D's, read only; `ksplat`                                          |                 |

All hold a scene in its own frame. `Gaussians` keeps the file's frame, but .spz is turned on the way to that of .ply.
Where that lies far from the origin it is about an offset: see `geometry.offset`. What a .ply or .glb holds is told by
its content. What is written is told by the name: `x.glb` is a mesh, as it is of every other command, and `x.gs.glb` are
splats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neural3d.disk import replacing
from neural3d.errors import UserError
from neural3d.fields.gaussians import Gaussians
from neural3d.files import compressed_ply, inria_ply, ksplat, sog, splat_gltf, spz
from neural3d.files.ply import read_ply
from neural3d.files.quantised import C0, logits_from_bytes, opacity_bytes, to_bytes
from neural3d.geometry.offset import as_text, moved_by, offset_file, offset_of, read_offset, write_offset
from neural3d.geometry.upright import RDF_FROM_RUB

USUAL_UP = (0.0, -1.0, 0.0)  # of .spz, and taken for up where a file does not say: y is down in most captures
SAY_OFFSETS = (".ply", ".glb", ".gltf")  # in themselves: others have it beside them
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


def ending_of(path: Path) -> str:
    """By which a format is chosen: ".compressed.ply", ".gs.glb", or else the last suffix, in small letters."""
    return next((ending for ending in _WRITERS if path.name.lower().endswith(ending)), path.suffix.lower())


def is_splat_file(path: Path) -> bool:
    """By the ending; .ply, .glb and folders by what they hold, so that meshes, plain clouds, captures are not taken."""
    if path.is_dir():
        return sog.is_meta(path / "meta.json")
    match path.suffix.lower():
        case ".ply" if path.is_file():
            with open(path, "rb") as file:
                head = file.read(1 << 14).partition(b"end_header")[0]
            return all(name in head for name in (b" scale_0", b" rot_0")) or b" packed_position" in head
        case ".glb" | ".gltf":
            return splat_gltf.holds_splats(path)
        case ".json":
            return path.name == "meta.json" and sog.is_meta(path)
        case ending:
            return ending in (".splat", ".spz", ".sog", ".ksplat")


def read_splats(path: str | Path) -> SplatFile:
    """Reads a file of any format above. Raises UserError where it is missing, damaged or of another kind.

    Splats that hold NaN, infinity or a rotation of length 0 are left out, and a note says how many.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "meta.json"
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path}: unknown splat format '{path.suffix}'; choose one of {', '.join(sorted(_READERS))}.")
    try:
        with open(path, "rb") as file:
            found = read(path, file)
    except OSError as e:
        raise UserError(f"{path} cannot be read ({e.strerror or e}); check the path.") from None
    except (ValueError, LookupError, ArithmeticError, TypeError) as e:  # parts that do not fit each other
        raise UserError(f"{path}: damaged, or of another layout ({e}); export the file again.") from None
    if path.suffix.lower() not in SAY_OFFSETS:
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
    """Writes the format that `ending_of` the path names; returns what that could not hold, in words.

    antialiased: a flag of those in ANTIALIASED. file_from_own: the similarity, in double, that takes the splats to the
    file's frame, which may be far away; None: they are there. up: what is up in the file's frame; kept in .ply and
    .sog, so that what reads the file knows. Of .spz and .gs.glb it is the format's own: see
    `geometry.upright.file_from_own`.
    Raises UserError where the format is unknown or the file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(ending_of(path))
    if write is None:
        raise UserError(f"{path}: unknown splat format '{path.suffix}'; choose one of {', '.join(sorted(_WRITERS))}.")
    matrix = torch.eye(4, dtype=torch.float64) if file_from_own is None else file_from_own.double().cpu()
    means = gaussians.means.detach().cpu().double()
    offset = offset_of((means @ matrix[:3, :3].T + matrix[:3, 3]).numpy())
    if file_from_own is not None or offset.any():
        gaussians = gaussians.transformed(torch.from_numpy(moved_by(-offset)) @ matrix)
    with replacing(path) as part, open(part, "wb") as file:
        notes = write(gaussians, path, file, antialiased=antialiased, up=up, offset=offset)
    if path.suffix.lower() not in SAY_OFFSETS:
        write_offset(path, _axes(path) * offset)
        if offset.any():
            notes.append(f"The splats lie about {as_text(offset)}: that is kept in {offset_file(path).name} beside.")
    return notes


def describe_splats(path: Path, splats: SplatFile) -> list[tuple[str, str]]:
    """Label and value of everything worth knowing."""
    folder = path.parent if path.name == "meta.json" else path
    files = folder.iterdir() if folder.is_dir() else [path]
    gaussians, size = splats.gaussians, sum(file.stat().st_size for file in files)
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


def _read_ply(path: Path, file: BinaryIO) -> SplatFile:
    ply = read_ply(path, file)
    notes: list[str] = []
    if compressed_ply.is_compressed(ply):
        layout, arrays = "splats, SuperSplat's compressed .ply", compressed_ply.unpack(path, ply, notes)
    else:
        layout, arrays = "splats, INRIA's .ply", inria_ply.unpack(path, ply, notes)
    # In double: others' files may hold large coordinates as they are.
    points = arrays["means"]
    own = offset_of(points[np.isfinite(points).all(1)])
    arrays["means"] = (points - own).astype(np.float32)
    up, offset, antialiased = inria_ply.said_in(ply.comments)
    return SplatFile(_usable(path, arrays, notes), layout, antialiased, up, notes, own + offset)


def _write_ply(gaussians: Gaussians, path: Path, file: BinaryIO, **said: Any) -> list[str]:
    file.write(inria_ply.pack(_arrays(gaussians), inria_ply.comments(**said)))
    return []


def _write_compressed(gaussians: Gaussians, path: Path, file: BinaryIO, **said: Any) -> list[str]:
    data, notes = compressed_ply.pack(_arrays(gaussians), inria_ply.comments(**said))
    file.write(data)
    return notes


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


# --- formats in modules of their own ---------------------------------------------------------------------------------


def _read_sog(path: Path, file: BinaryIO) -> SplatFile:
    found = sog.unpack(path, file)
    gaussians = _usable(path, found.arrays, found.notes)
    return SplatFile(
        gaussians, f"splats, SOG version {found.version}", found.antialiased, inria_ply.direction(found.up), found.notes
    )


def _write_sog(
    gaussians: Gaussians, path: Path, file: BinaryIO, *, antialiased: bool, up: Sequence[float], **_: Any
) -> list[str]:
    sog.pack(_arrays(gaussians), file, antialiased, up)
    return []


def _read_gltf(path: Path, file: BinaryIO) -> SplatFile:
    found = splat_gltf.unpack(path, file.read())
    parts = [_usable(path, arrays, found.notes) for arrays, _ in found.parts]
    offset = offset_of(np.stack([matrix[:3, 3].numpy() for _, matrix in found.parts]))
    about = torch.from_numpy(moved_by(-offset))
    try:
        parts = [part.transformed(about @ matrix) for part, (_, matrix) in zip(parts, found.parts)]
    except ValueError:
        raise UserError(f"{path}: a node stretches or mirrors its splats, which splats cannot do; apply it.") from None
    whole = Gaussians(*(torch.cat(columns) for columns in zip(*(part.parameters() for part in parts))))
    return SplatFile(whole, f"splats, glTF with {splat_gltf.NAME}", False, (0.0, 1.0, 0.0), found.notes, offset)


def _write_gltf(gaussians: Gaussians, path: Path, file: BinaryIO, *, offset: np.ndarray, **_: Any) -> list[str]:
    splat_gltf.pack(gaussians, file, offset)
    return []


def _read_ksplat(path: Path, file: BinaryIO) -> SplatFile:
    notes: list[str] = []
    return SplatFile(_usable(path, ksplat.unpack(path, file.read()), notes), "splats, .ksplat", notes=notes)


_READERS: dict[str, Callable[[Path, BinaryIO], SplatFile]] = {
    ".ply": _read_ply,
    ".splat": _read_splat,
    ".spz": _read_spz,
    ".sog": _read_sog,
    ".json": _read_sog,
    ".glb": _read_gltf,
    ".gltf": _read_gltf,
    ".ksplat": _read_ksplat,
}
_WRITERS: dict[str, Callable[..., list[str]]] = {
    ".compressed.ply": _write_compressed,
    ".ply": _write_ply,
    ".splat": _write_splat,
    ".spz": _write_spz,
    ".sog": _write_sog,
    ".gs.glb": _write_gltf,
}
WRITTEN = tuple(_WRITERS)
ANTIALIASED = (".ply", ".compressed.ply", ".spz", ".sog")  # those that can say it
