"""Point clouds as other programs write them: positions in double, normals and colours where there are any.

| file                  | read by              | what its columns are                                           |
| --------------------- | -------------------- | -------------------------------------------------------------- |
| .ply, .pcd            | Open3D               | what the file says                                             |
| .xyz, .xyzn, .xyzrgb, | here                 | a header's names where there is one, else by their number:     |
| .pts, .asc, .txt, .csv|                      | x y z; with one more, intensity; three more, normals where     |
|                       |                      | they have unit length, else colours; six more, the same twice  |
| .las, .laz            | laspy (extra `las`)  | what the format says; no normals                               |
| .e57                  | pye57 (extra `e57`)  | all scans, each moved to its place                             |
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neural3d.errors import UserError
from neural3d.geometry.solid import load_open3d

TEXT = (".xyz", ".xyzn", ".xyzrgb", ".pts", ".asc", ".txt", ".csv")
NAMED = {".xyzn": ("x", "y", "z", "nx", "ny", "nz"), ".xyzrgb": ("x", "y", "z", "r", "g", "b")}
PERHAPS = (".asc", ".txt", ".csv")  # may be anything: their first lines decide
CLOUD_SUFFIXES = (".pcd", ".las", ".laz", ".e57", *TEXT)
UNIT = 0.02  # by which normals may differ from length 1, as files round them
COLUMNS = {
    "position": (("x", "y", "z"), ("easting", "northing", "elevation"), ("easting", "northing", "altitude")),
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normalx", "normaly", "normalz")),
    "colour": (("r", "g", "b"), ("red", "green", "blue"), ("rf", "gf", "bf"), ("red8", "green8", "blue8")),
}  # fmt: skip


@dataclass
class Cloud:
    """points: in the file's frame. normals: unit. colors: sRGB in [0, 1]. notes: what is worth saying."""

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"] | None = None
    colors: Float[np.ndarray, "N 3"] | None = None
    notes: list[str] = field(default_factory=list)


def read_cloud(path: Path) -> Cloud:
    """All finite points of a file; how many are not, a note says. Normals of length 0 leave the cloud without any.

    Raises UserError where the file is damaged, holds no points, or takes an extra that is missing.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TEXT:
            cloud = _read_text(path)
        elif suffix in (".las", ".laz"):
            cloud = _read_las(path)
        elif suffix == ".e57":
            cloud = _read_e57(path)
        else:
            cloud = _read_by_open3d(path)
    except UserError:
        raise
    except Exception as error:  # what the readers of many formats raise
        raise UserError(f"{path}: cannot be read as a point cloud ({error}); is it complete?") from None
    finite = np.isfinite(cloud.points).all(1)
    if not finite.any():
        raise UserError(f"{path}: holds no points{' but NaN and Inf' if len(finite) else ''}; export it again.")
    if not finite.all():
        cloud.notes.append(
            f"{(~finite).sum():,} of {len(finite):,} points are not finite (NaN or Inf) and were left out."
        )
    normals = None if cloud.normals is None else cloud.normals[finite].astype(np.float64)
    if normals is not None:
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        if not (length > 0).all():
            cloud.notes.append("Some normals have no direction, so none is taken.")
        normals = (normals / length).astype(np.float32) if (length > 0).all() else None
    colors = None if cloud.colors is None else cloud.colors[finite].astype(np.float32)
    return Cloud(cloud.points[finite], normals, colors, cloud.notes)


def is_cloud_file(path: Path) -> bool:
    """By the ending; a .txt, .asc or .csv by its first lines, so that other tables are not taken for clouds."""
    suffix = path.suffix.lower()
    if suffix not in PERHAPS:
        return suffix in CLOUD_SUFFIXES
    return path.is_file() and _layout(path) is not None


# --- text ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """header: lines before the numbers. names: of the columns, in lower case; empty where none are given."""

    header: int
    names: tuple[str, ...]
    columns: int
    delimiter: str | None


def _layout(path: Path) -> _Layout | None:
    """None where no line of at least three numbers follows the comments, a count, and one line of names."""
    names: tuple[str, ...] = ()
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file):
            if number > 100 or len(line) > 4096:
                return None
            bare = line.strip().lstrip("#/").strip()
            delimiter = next((d for d in ",;\t" if d in bare), None)
            words = [w.strip().strip('"').lower() for w in (bare.split(delimiter) if delimiter else bare.split())]
            if line.lstrip().startswith(("#", "//")) or len(words) < 3:
                names = tuple(words) if _find(tuple(words), "position") else names
                continue
            if all(map(_is_number, words)):
                fits = not names or len(names) == len(words)
                return _Layout(number, names if fits else (), len(words), delimiter)
            if names or not _find(tuple(words), "position"):
                return None
            names = tuple(words)
    return None


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|inf(inity)?)", word) is not None


def _find(names: tuple[str, ...], what: str) -> list[int] | None:
    """The columns of what is asked for; names may carry a unit: "x [m]"."""
    plain = [re.sub(r"[\s_]*[\[(].*", "", name) for name in names]
    return next(([plain.index(n) for n in three] for three in COLUMNS[what] if set(three) <= set(plain)), None)


def _read_text(path: Path) -> Cloud:
    layout = _layout(path)
    if layout is None:
        raise UserError(f"{path}: expected lines of numbers, x y z first or named by a header line; is it a cloud?")
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        table = np.loadtxt(file, delimiter=layout.delimiter, skiprows=layout.header, comments=("#", "//"), ndmin=2)
    if names := layout.names or (NAMED.get(path.suffix.lower(), ()) if layout.columns == 6 else ()):
        found = {what: _find(names, what) for what in COLUMNS}
        position = found["position"] or [0, 1, 2]
        normals, colors = (table[:, c] if (c := found[what]) else None for what in ("normal", "colour"))
        return Cloud(table[:, position], normals, None if colors is None else _unit_colors(colors))
    cloud = Cloud(table[:, :3])
    behind = layout.columns % 3 == 1 and not (layout.columns > 4 and _unit_length(table[:, 3:6]))  # an intensity
    first = 4 if behind else 3
    triples = [table[:, k : k + 3] for k in range(first, layout.columns - 2, 3)]
    for triple in triples:
        if cloud.normals is None and _unit_length(triple):
            cloud.normals = triple
        elif cloud.colors is None and np.nanmin(triple) >= 0 and np.nanmax(triple) < 1 << 16:
            cloud.colors = _unit_colors(triple)
    used = 3 + 3 * ((cloud.normals is not None) + (cloud.colors is not None))
    if layout.columns - used > behind:
        cloud.notes.append(
            f"{used} of {layout.columns} columns were read; a first line of names (x y z nx ny nz r g b) says more."
        )
    return cloud


def _unit_length(triple: np.ndarray) -> bool:
    length = np.linalg.norm(triple[np.isfinite(triple).all(1)], axis=1)
    return len(length) > 0 and bool((abs(length - 1) < UNIT).mean() > 0.99)


def _unit_colors(colors: np.ndarray) -> np.ndarray:
    """Of 0 to 1, of bytes, or of 16 bits, as the largest says."""
    largest = np.nanmax(colors, initial=0)
    return np.clip(colors / (1 if largest <= 1 else 255 if largest <= 255 else 65535), 0, 1)


# --- libraries -------------------------------------------------------------------------------------------------------


def _read_by_open3d(path: Path) -> Cloud:
    open3d = load_open3d()
    if path.suffix.lower() == ".pcd":
        _check_pcd(path)
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        found = open3d.io.read_point_cloud(path, remove_nan_points=False, remove_infinite_points=False)
    return Cloud(
        np.asarray(found.points, np.float64),
        np.asarray(found.normals) if found.has_normals() else None,
        np.asarray(found.colors) if found.has_colors() else None,
    )


def _check_pcd(path: Path) -> None:
    """Raises ValueError for headers that Open3D believes and dies of."""
    with path.open("rb") as file:
        header: dict[str, list[str]] = {}
        while "DATA" not in header and (line := file.readline(1 << 16)):
            name, *words = line.decode("ascii", "replace").split("#")[0].split() or [""]
            header[name] = words
        rest = path.stat().st_size - file.tell()
        packed = file.read(8)
    fields, sizes, kinds = (header.get(name, []) for name in ("FIELDS", "SIZE", "TYPE"))
    counts = header.get("COUNT", ["1"] * len(fields))
    normals = {"normal_x", "normal_y", "normal_z"}
    if not {"x", "y", "z"} <= set(fields) or normals & set(fields) not in (set(), normals):
        raise ValueError(f"it has the fields {' '.join(fields)}")
    if not len(fields) == len(sizes) == len(kinds) == len(counts):
        raise ValueError("its header has not as many sizes, types and counts as fields")
    size = int(*header["POINTS"]) * sum(int(s) * int(c) for s, c in zip(sizes, counts))
    if header["DATA"] == ["binary_compressed"]:
        rest, size = rest - 8, max(0, int.from_bytes(packed[:4], "little"))
    if header["DATA"] != ["ascii"] and not 0 <= size <= rest:
        raise ValueError(f"it ends after {rest:,} of {size:,} bytes")


def _extra(path: Path, module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{path}: {path.suffix} files are read by {module}: pip install 'neural3d[{extra}]'; or convert it to .ply."
        ) from None


def _check_las(path: Path) -> None:
    """Raises ValueError where the file says more records than it has room for.

    Variable length records, from version 1.4 on extended ones behind the points (ASPRS, LAS 1.4 R15): laspy reads
    billions of empty ones, and makes room for all points that the header counts. Chunks of compressed points (LAZ,
    whose table is told of where points begin, or at the end of the file): lazrs ends the process for want of memory.
    """
    size = path.stat().st_size

    def integer(data: bytes, place: int) -> int:
        return int.from_bytes(data[place : place + 4], "little")

    with path.open("rb") as file:
        head = file.read(255)
        said = [54 * integer(head, 100)]
        newer = len(head) == 255 and head[25] >= 4
        if newer:
            said.append(60 * integer(head, 243))
        if len(head) > 110 and not head[104] & 128:
            points = int.from_bytes(head[247:255] if newer else head[107:111], "little")
            said.append(points * int.from_bytes(head[105:107], "little"))
        if len(head) > 104 and head[104] & 128:
            file.seek(integer(head, 96))
            table = int.from_bytes(file.read(8), "little", signed=True)
            if table == -1:
                file.seek(max(0, size - 8))
                table = int.from_bytes(file.read(8), "little", signed=True)
            file.seek(min(max(0, table), size))
            said.append(integer(file.read(8), 4))  # a byte each, at the very least
    if max(said) > size:
        raise ValueError(f"it says that it has {max(said):,} bytes of records, but all of it has {size:,}")


def _with_likely_chunks(record: bytes, points: int) -> bytes:
    """LASzip's record with chunks of no more points than there are: lazrs makes room for a whole one of billions."""
    size = int.from_bytes(record[12:16], "little")
    if points < size < 2**32 - 1:  # that stands for chunks of their own sizes each
        return record[:12] + max(points, 1).to_bytes(4, "little") + record[16:]
    return record


def _read_las(path: Path) -> Cloud:
    laspy = _extra(path, "laspy", "las")
    _check_las(path)
    with laspy.open(path) as file:
        for record in file.header.vlrs.get("LasZipVlr"):
            record.record_data = _with_likely_chunks(record.record_data, file.header.point_count)
        found = file.read()
    names = set(found.point_format.dimension_names)
    colors = None
    if {"red", "green", "blue"} <= names:  # of 16 bits; some programs write bytes
        colors = np.stack([found.red, found.green, found.blue], 1).astype(np.float64)
        colors = _unit_colors(colors) if colors.any() else None
    return Cloud(np.asarray(found.xyz, np.float64), None, colors)


def _read_e57(path: Path) -> Cloud:
    pye57 = _extra(path, "pye57", "e57")
    file = pye57.E57(str(path))
    scans, fields = [], set()
    for k in range(file.scan_count):
        own = set(file.get_header(k).point_fields)
        scans.append(file.read_scan(k, colors="colorRed" in own, ignore_missing_fields=True))
        fields |= own

    def columns(names: list[str]) -> np.ndarray:
        return np.concatenate([np.stack([scan[name] for name in names], 1) for scan in scans]).astype(np.float64)

    if not scans:
        return Cloud(np.empty((0, 3)))
    coloured = all("colorRed" in scan for scan in scans)
    colors = _unit_colors(columns(["colorRed", "colorGreen", "colorBlue"])) if coloured else None
    notes = ["Its normals cannot be read by pye57; as .ply they can."] if "nor:normalX" in fields else []
    return Cloud(columns(["cartesianX", "cartesianY", "cartesianZ"]), None, colors, notes)
