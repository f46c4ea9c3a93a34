"""From files to Examples: folders of pictures, .idx (MNIST's), .npz and .bin (CIFAR's), and folders of these."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neural3d.errors import UserError
from neural3d.examples.attributes import AttributeTable
from neural3d.examples.examples import SPLITS, Examples
from neural3d.images.formats import UNREADABLE, is_photo, open_photo
from neural3d.images.reading import read_header, read_image

HELD_OUT = 8  # where no file is of a test split, every 8th example is held out, from the first on
VALIDATION = (
    6  # where none is of a validation split, the last 1/6 of the others; of MNIST's 60,000 that is as in papers
)
WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
         "test": "test", "t10k": "test"}  # fmt: skip
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
CIFAR = 3, 32, 32
MOST_CLASSES = 1000
MOST_PATCHES = 200_000  # of a split, evenly chosen

Part = tuple[np.ndarray, np.ndarray | None]  # examples (N, ...), labels (N,)


def read_examples(path: Path, patch: int = 0, pairs: bool = False) -> Examples:
    """What lies at a path: a file of many examples, a folder of such files, or one of pictures of one size.

    patch: of a folder of pictures, which may then be of any size, square pieces of so many pixels are the examples.
    pairs: of a folder of pictures NAME_a.png and NAME_b.png, both are an example, one behind the other in the channels.
    Names of files and folders say what is held out: train, val, test; labels are in files of their own (idx), in a
    field `labels` (npz), or the names of the folders that pictures lie in; attributes of whole pictures are in a table
    beside them (neural3d/examples/attributes.py).
    Raises UserError naming the file where one is damaged, or where examples differ in size.
    """
    files = sorted(p for p in path.iterdir() if file_kind(p)) if path.is_dir() else [path]
    if not files:
        return _of_pictures(path, patch, pairs)
    if not file_kind(files[0]):
        raise UserError(f"{path}: no examples to learn from; give a folder of pictures, an .idx, .npz or .bin file.")
    return made(path, _split(_of_files(path, files)))


def made(path: Path, parts: dict[str, Part], classes: list[str] | None = None) -> Examples:
    """Examples of arrays that are split already. Raises UserError where these are too few, or not finite."""
    shapes = {x.shape[1:] for x, _ in parts.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: train and test differ in size: {' and '.join(_size(s) for s in sorted(shapes))}.")
    (shape,) = shapes
    counts = {split: len(parts[split][0]) for split in SPLITS if split in parts}
    if counts.get("train", 0) < 2:
        raise UserError(
            f"{path}: {counts.get('train', 0)} examples to learn from; a prior needs more, better thousands."
        )
    images = parts["train"][0].dtype == np.uint8
    for split, (x, _) in parts.items():
        if not images and not np.isfinite(x).all():
            raise UserError(f"{path}: its {split} examples hold numbers that are not finite; mend the file.")
    labelled = all(labels is not None for _, labels in parts.values())
    labels = {s: torch.from_numpy(np.ascontiguousarray(parts[s][1])).long() for s in counts} if labelled else None
    if labels is not None and not classes:
        classes = [str(i) for i in range(1 + max(int(of_split.max()) for of_split in labels.values()))]
    if len(classes or []) > MOST_CLASSES or any((x < 0).any() for x in (labels or {}).values()):
        raise UserError(f"{path}: labels must be whole numbers from 0 to {MOST_CLASSES - 1}.")
    what = "pictures" if images else "vectors"
    told = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    return Examples(
        name=path.stem,
        path=path,
        kind="images" if images else "numbers",
        shape=list(shape),
        counts=counts,
        classes=classes or [],
        values={s: torch.from_numpy(np.ascontiguousarray(parts[s][0])) for s in counts},
        labels=labels,
        notes=[f"{path.name}: {what} of {_size(shape)}: {told}" + (f", {len(classes)} classes" if classes else "")],
    )


def file_kind(path: Path) -> Callable[[Path], dict[str, Part]] | None:
    """What reads a file of many examples; None where its name is none of these."""
    name = path.name.lower().removesuffix(".gz")
    if "idx" in name.rpartition(".")[2].split("-")[-1] or "-idx" in name:
        return _idx
    return {".npz": _npz, ".bin": _cifar}.get(path.suffix.lower())


def _split(parts: dict[str, Part]) -> dict[str, Part]:
    """With something held out, and something to validate by; see HELD_OUT and VALIDATION."""
    if "train" not in parts:
        return parts
    x, _ = parts["train"]
    if "test" not in parts and len(x) >= HELD_OUT:
        held = np.arange(len(x)) % HELD_OUT == 0
        parts["test"] = _some(parts["train"], held)
        parts["train"] = _some(parts["train"], ~held)
    count = len(parts["train"][0])
    if "val" not in parts and count >= VALIDATION:
        last = np.arange(count) >= count - count // VALIDATION
        parts["val"] = _some(parts["train"], last)
        parts["train"] = _some(parts["train"], ~last)
    return parts


def _some(part: Part, chosen: np.ndarray) -> Part:
    return part[0][chosen], None if part[1] is None else part[1][chosen]


def _split_of(name: str) -> str:
    """train, val or test by the words of a file's name; train where none tells."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    return next((WORDS[word] for word in words if word in WORDS), "train")


def _of_files(path: Path, files: list[Path]) -> dict[str, Part]:
    found: dict[str, list[Part]] = {}
    labels: dict[str, np.ndarray] = {}
    for file in files:
        reader = file_kind(file)
        assert reader is not None
        try:
            read = reader(file)
        except (EOFError, OSError, ValueError, KeyError, struct.error, zlib.error, zipfile.BadZipFile) as error:
            raise UserError(f"{file}: damaged, or not what its name says ({error}); copy it again.") from None
        for split, part in read.items():
            if part[0].ndim == 1 and part[1] is None:
                labels[split] = part[0]
            else:
                found.setdefault(split, []).append(part)
    parts = {}
    for split, several in found.items():
        sizes = {x.shape[1:] for x, _ in several}
        if len(sizes) > 1:
            raise UserError(
                f"{path}: its files hold examples of {' and '.join(map(_size, sorted(sizes)))}; separate them."
            )
        own = [of_file for _, of_file in several if of_file is not None]
        known = np.concatenate(own) if len(own) == len(several) else labels.get(split)
        x = np.concatenate([part[0] for part in several])
        if known is not None and len(known) != len(x):
            raise UserError(f"{path}: {len(x):,} {split} examples, but {len(known):,} labels; copy both files again.")
        parts[split] = (x, known)
    if not parts:
        raise UserError(f"{path}: holds labels, but no examples; add the file of the pictures.")
    return parts


def _idx(path: Path) -> dict[str, Part]:
    """http://yann.lecun.com/exdb/mnist: two zeros, the type, the number of axes, their lengths, the values."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    zero, kind, axes = struct.unpack(">HBB", data[:4])
    if zero or kind not in IDX_TYPES or not 1 <= axes <= 4:
        raise ValueError("its first four bytes are not those of an idx file")
    sizes = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = np.frombuffer(data, IDX_TYPES[kind], offset=4 + 4 * axes)
    if len(values) != int(np.prod([int(n) for n in sizes])):
        raise ValueError(f"it announces {' × '.join(map(str, sizes))} values and holds {len(values):,}")
    values = values.reshape(sizes)
    return {_split_of(path.name): (values.astype(np.int64) if axes == 1 else _arranged(values), None)}


def _npz(path: Path) -> dict[str, Part]:
    """Arrays by name: of one split, or with names such as train_images, test_labels."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    parts: dict[str, Part] = {}
    for split in SPLITS:
        own = {n: a for n, a in arrays.items() if _split_of(n) == split and a.ndim >= 1}
        numbers = {n: a for n, a in own.items() if a.ndim >= 2 and a.dtype.kind in "uif"}
        if not numbers:
            continue
        name = max(numbers, key=lambda n: numbers[n].size)
        labels = next((a for n, a in own.items() if "label" in n.lower() and a.shape == (len(numbers[name]),)), None)
        parts[split] = (_arranged(numbers[name]), None if labels is None else labels.astype(np.int64))
    if not parts:
        raise ValueError("it holds no array of numbers with two axes or more")
    if "train" not in parts:
        parts = {"train": next(iter(parts.values()))}
    return parts


def _cifar(path: Path) -> dict[str, Part]:
    """CIFAR-10's binary version: a byte for the class, then the planes of a picture of 32 × 32."""
    size = 1 + int(np.prod(CIFAR))
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % size:
        raise ValueError(f"its {len(data):,} bytes are no multiple of CIFAR's {size:,}")
    rows = data.reshape(-1, size)
    return {_split_of(path.name): (rows[:, 1:].reshape(-1, *CIFAR), rows[:, 0].astype(np.int64))}


def _arranged(values: np.ndarray) -> np.ndarray:
    """Pictures as (N, channels, height, width) uint8, sequences (N, T, D) and vectors (N, length) as float32."""
    if values.ndim == 3 and values.dtype.kind == "u":
        values = values[:, None]
    elif values.ndim == 4 and values.shape[-1] in (1, 3) and values.shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.dtype == np.uint8 and values.ndim == 4:
        return values
    if values.ndim == 3:  # sequences
        return values.astype(np.float32)
    return values.reshape(len(values), -1).astype(np.float32)


def _of_pictures(path: Path, patch: int, pairs: bool) -> Examples:
    files = sorted(p for p in path.rglob("*") if is_photo(p))
    if not files:
        raise UserError(
            f"{path}: holds no pictures; give a folder of pictures of one size, an .idx, .npz or .bin file."
        )
    try:
        modes = {}
        for file in files:
            with open_photo(file) as picture:
                modes[file] = (picture.size, picture.mode)
    except UNREADABLE as error:
        raise UserError(f"{file}: cannot be read ({error}); leave it out, or copy it again.") from None
    size = modes[files[0]][0]
    if pairs:
        files = _firsts(path, files)
        if unlike := next((a for a in files if modes[a][0] != modes[partner(a)][0]), None):
            raise UserError(f"{unlike}: differs in size from {partner(unlike).name}; scale one of them.")
    if patch:
        return made(path, _split(_of_patches(path, files, patch, pairs)))
    if other := next((f for f in files if modes[f][0] != size), None):
        a, b = size, modes[other][0]
        raise UserError(
            f"{path}: pictures differ in size, {files[0].name} has {a[0]} × {a[1]} pixels and {other.name} "
            f"{b[0]} × {b[1]}; cut or scale them to one size."
        )
    grey = all(mode in ("L", "1") for _, mode in modes.values())
    folders = [[w for w in f.relative_to(path).parts[:-1] if w.lower() not in WORDS] for f in files]
    classes = sorted({words[0] for words in folders if words})
    if len(classes) < 2 or not all(folders):
        classes = []
    table = AttributeTable(path)
    measured = table.of(files) if table.found else np.empty((len(files), 0), np.float32)
    parts: dict[str, Part] = {}
    measures: dict[str, Part] = {}
    for split in SPLITS:
        own = [i for i, f in enumerate(files) if _folder_split(f.relative_to(path)) == split]
        if own:
            measures[split] = measured[own], None
            pixels = np.stack([_pixels(files[i], *size, pairs) for i in own]).transpose(0, 3, 1, 2)
            labels = np.array([classes.index(folders[i][0]) for i in own]) if classes else None
            parts[split] = (pixels[:, ::3] if grey else pixels, labels)
    examples = made(path, _split(parts), classes)
    if not table.found:
        return examples
    of_splits = {split: torch.from_numpy(rows) for split, (rows, _) in _split(measures).items()}
    return replace(examples, attributes=table.names, measures=of_splits)


def partner(first: Path) -> Path:
    """NAME_b.png of NAME_a.png."""
    return first.with_stem(first.stem.removesuffix("_a") + "_b")


def _firsts(path: Path, files: list[Path]) -> list[Path]:
    """Those that are NAME_a and have a partner."""
    found = [f for f in files if f.stem.endswith("_a") and partner(f) in files]
    if not found or 2 * len(found) < len(files):
        alone = next(f for f in files if f not in found and f not in map(partner, found))
        raise UserError(f"{path}: {alone.name} is no half of a pair; this prior learns from NAME_a.png and NAME_b.png.")
    return found


def _pixels(file: Path, width: int, height: int, pairs: bool) -> np.ndarray:
    """(height, width, 3), or 6 of a pair."""
    of = [file, partner(file)] if pairs else [file]
    return np.concatenate([read_image(f, width, height, alpha=False) for f in of], -1)


def _of_patches(path: Path, files: list[Path], side: int, pairs: bool) -> dict[str, Part]:
    """Pieces side by side of every picture and of its halves, as long as they hold one. Pictures are held out whole."""
    found: dict[str, list[np.ndarray]] = {}
    own = [_folder_split(f.relative_to(path)) for f in files]
    if "test" not in own:
        own = ["test" if i % HELD_OUT == 0 and len(files) > 1 else split for i, split in enumerate(own)]
    for file, split in zip(files, own):
        width, height, _ = read_header(file)
        while min(width, height) >= side:
            pixels = _pixels(file, width, height, pairs)
            channels = pixels.shape[2]
            rows, columns = height // side, width // side
            pieces = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, channels)
            found.setdefault(split, []).append(pieces.transpose(0, 2, 4, 1, 3).reshape(-1, channels, side, side))
            width, height = width // 2, height // 2
    rng = np.random.default_rng(0)
    parts: dict[str, Part] = {}
    for split, several in found.items():
        every = np.concatenate(several)
        parts[split] = (every[np.sort(rng.permutation(len(every))[:MOST_PATCHES])], None)
    if not parts:
        raise UserError(f"{path}: no picture is as large as a patch of {side} × {side} pixels.")
    return parts


def _folder_split(path: Path) -> str:
    return next((WORDS[word.lower()] for word in path.parts[:-1] if word.lower() in WORDS), "train")


def _size(shape: tuple[int, ...]) -> str:
    if len(shape) == 3:
        return f"{shape[2]} × {shape[1]} pixels, {'grey' if shape[0] == 1 else f'{shape[0]} channels'}"
    return f"{shape[0]} numbers" if len(shape) == 1 else f"{shape[0]} frames of {shape[1]} numbers"
