"""Examples of every format, written here in their layout; what is wrong with a file is said of that file."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from neural3d.errors import UserError
from neural3d.examples.examples import ExampleSource
from neural3d.examples.reading import made, read_examples
from neural3d.examples.sheet import GAP, contact_sheet, picture

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (60, 6, 4), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 60).astype(np.uint8)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def test_mnists_four_files(tmp_path):
    for name, count in (("train", 60), ("t10k", 20)):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(PICTURES[:count]))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:count])))
    found = read_examples(tmp_path)
    assert found.counts == {"train": 50, "val": 10, "test": 20} and found.shape == [1, 6, 4]
    assert torch.equal(found.values["train"][7, 0], torch.from_numpy(PICTURES[7]))
    assert torch.equal(found.values["val"][0, 0], torch.from_numpy(PICTURES[50]))
    assert found.labels["val"].tolist() == LABELS[50:].tolist() and found.classes == ["0", "1", "2"]


def test_without_a_test_file_every_eighth_is_held_out(tmp_path):
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(PICTURES))
    found = read_examples(tmp_path / "images-idx3-ubyte")
    assert torch.equal(found.values["test"][1, 0], torch.from_numpy(PICTURES[8])) and found.counts["test"] == 8


def test_cifars_batches(tmp_path):
    pictures = RNG.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    rows = np.concatenate([LABELS[:20, None], pictures.reshape(20, -1)], 1)
    (tmp_path / "data_batch_1.bin").write_bytes(rows.tobytes())
    (tmp_path / "test_batch.bin").write_bytes(rows[:3].tobytes())
    found = read_examples(tmp_path)
    assert found.shape == [3, 32, 32] and found.counts == {"train": 17, "val": 3, "test": 3}
    assert torch.equal(found.values["test"][2], torch.from_numpy(pictures[2]))


def test_npz_of_vectors_and_of_pictures(tmp_path):
    vectors = RNG.standard_normal((40, 5))
    np.savez(tmp_path / "v.npz", train_points=vectors, test_points=vectors[:4], train_labels=LABELS[:40])
    found = read_examples(tmp_path / "v.npz")
    assert found.kind == "numbers" and found.shape == [5] and found.counts["test"] == 4 and found.labels is None
    colours = RNG.integers(0, 256, (30, 8, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", images=colours, labels=LABELS[:30])
    found = read_examples(tmp_path / "p.npz")
    assert found.shape == [3, 8, 6]
    assert torch.equal(found.values["train"][0], torch.from_numpy(colours[1]).permute(2, 0, 1))  # 0 is held out
    assert found.labels["train"][0] == LABELS[1]


def test_a_folder_of_pictures_in_classes(tmp_path):
    for split in ("train", "test"):
        for kind in ("stone", "wood"):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(PICTURES[i]).save(folder / f"{i}.png")
    found = read_examples(tmp_path)
    assert found.classes == ["stone", "wood"] and found.shape == [1, 6, 4]
    assert found.counts == {"train": 5, "val": 1, "test": 6} and found.labels["test"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda f: (f / "images-idx3-ubyte").write_bytes(idx(PICTURES)[:-5]), "announces 60 × 6 × 4"),
        (lambda f: (f / "images-idx3-ubyte").write_bytes(b"\x01\x02\x03"), "damaged"),
        (lambda f: (f / "images-idx3-ubyte.gz").write_bytes(idx(PICTURES)), "damaged"),
        (lambda f: (f / "a.npz").write_bytes(b"PK\x03\x04nothing"), "a.npz: damaged"),
        (lambda f: np.savez(f / "a.npz", x=np.full((20, 3), np.nan)), "not finite"),
        (lambda f: np.savez(f / "a.npz", x=np.zeros(3)), "two axes"),
        (lambda f: np.savez(f / "a.npz", x=np.array([{}], dtype=object)), "damaged"),
        (lambda f: (f / "a.bin").write_bytes(b"\0" * 3072), "no multiple of CIFAR's"),
        (lambda f: (f / "readme.txt").write_text("none"), "holds no pictures"),
        (lambda f: np.savez(f / "a.npz", x=np.zeros((1, 3))), "1 examples to learn from"),
    ],
)
def test_what_is_wrong_is_said_of_the_file(spoil, said, tmp_path):
    spoil(tmp_path)
    with pytest.raises(UserError, match=said):
        read_examples(tmp_path)


def test_pictures_of_two_sizes_are_named(tmp_path):
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    Image.fromarray(PICTURES[0][:5]).save(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"a.png has 4 × 6 pixels and b.png 4 × 5"):
        read_examples(tmp_path)


def test_labels_that_are_too_few(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(PICTURES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:9]))
    with pytest.raises(UserError, match="60 train examples, but 9 labels"):
        read_examples(tmp_path)


def test_each_example_comes_once_before_any_comes_again(tmp_path):
    examples = made(tmp_path, {"train": (np.arange(20, dtype=np.float32)[:, None], None)})
    source, generator = ExampleSource(examples, torch.device("cpu")), torch.Generator().manual_seed(0)
    seen = torch.cat([source.draw(5, generator).x for _ in range(4)])
    assert sorted(seen.flatten().tolist()) == list(range(20))
    again = torch.cat([source.draw(5, generator).x for _ in range(4)])
    assert seen.tolist() != again.tolist() and sorted(again.flatten().tolist()) == list(range(20))


def test_a_sheet_shows_each_picture_in_its_place():
    pictures = torch.arange(3).view(3, 1, 1, 1).expand(3, 1, 28, 28) / 2
    sheet = contact_sheet(pictures, columns=2)
    assert sheet.shape == (2 * (56 + GAP), 2 * (56 + GAP), 3)
    assert [sheet[0, 0, 0], sheet[0, 60, 0], sheet[60, 0, 0], sheet[60, 60, 0]] == [0, 128, 255, 255]
    assert picture(pictures[1]).shape == (28, 28, 3)


def test_pieces_of_pictures_of_any_size(tmp_path):
    """Of each picture and its halves; some pictures are held out whole."""
    rng = np.random.default_rng(0)
    sizes = [(16, 24), (9, 8), (16, 16), (8, 8)]
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    found = read_examples(tmp_path, patch=8)
    assert found.shape == [3, 8, 8] and found.counts["test"] == 6 + 1  # of the first picture: 2 × 3, and half of it
    assert found.counts["train"] + found.counts.get("val", 0) == 1 + (4 + 1) + 1
    first = np.asarray(Image.open(tmp_path / "0.png"))[8:16, 16:24]
    assert any(np.array_equal(x.permute(1, 2, 0), first) for x in found.values["test"])
    with pytest.raises(UserError, match="as large as a patch of 32"):
        read_examples(tmp_path, patch=32)
