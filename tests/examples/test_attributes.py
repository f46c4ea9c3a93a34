"""The table of attributes beside pictures, whole and damaged."""

import numpy as np
import pytest
from PIL import Image

from neural3d.errors import UserError
from neural3d.examples.reading import read_examples


def write(folder, table, names=("a/1", "a/2", "b/1", "test/3")):
    for i, name in enumerate(names):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2), 10 * i, np.uint8)).save(file)
    (folder / "attributes.csv").write_text(table, encoding="utf-8")


def test_rows_go_with_their_pictures(tmp_path):
    write(tmp_path, "name,rough,hue\nb/1.png,3,0.3\na/2,2,\ntest/3.png,4,0.4\n\na/1.png,1,0.1\nelse,9,9\n")
    examples = read_examples(tmp_path)
    assert examples.attributes == ["rough", "hue"]
    for split in ("train", "test"):
        greys = examples.values[split][:, 0, 0, 0].numpy() / 10
        assert np.array_equal(examples.measures[split][:, 0].numpy(), greys + 1)
    assert examples.measures["train"][1, 1].isnan() and examples.measures["test"].shape == (1, 2)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "first line"),
        ("rough,hue\n", "first line"),
        ("name,a,a\n", "first line"),
        ("name,rough\na/1,high\n", "line 2"),
        ("name,rough\na/1,1\na/2,1,2\n", "line 3"),
        ("name,rough\na/1,inf\n", "line 2"),
        ("name,rough\nelse,1\n", "none of its names"),
    ],
)
def test_damaged_tables_are_named(table, said, tmp_path):
    write(tmp_path, table)
    with pytest.raises(UserError, match=said):
        read_examples(tmp_path)
