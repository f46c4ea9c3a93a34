"""A few damaged inputs of every reader: a sentence, or the right thing; never a traceback, a hang, or all the memory.

benchmarks/fuzz.py tries thousands.
"""

import random
import shutil
import time

import pytest

from fuzz import mutations
from fuzz.corpus import CAPTURES, CORPUS
from fuzz.mutations import mutated, tried
from neural3d.errors import UserError
from neural3d.scene.readers import READERS

COUNT = 6  # of each


def test_every_reader_of_captures_has_an_input():
    assert READERS.keys() <= {name.split(":")[0] for name in CAPTURES}, "add one to tests/fuzz/corpus.py"


@pytest.mark.parametrize("name", CORPUS)
def test_damaged_input_is_a_sentence(tmp_path, name):
    given, rng = CORPUS[name], random.Random(name)
    (tmp_path / "good").mkdir()
    given.write(tmp_path / "good")
    assert (outcome := tried(given.read, tmp_path / "good")).kind == "read", outcome.said
    for i in range(COUNT):
        folder = tmp_path / f"{i}"
        shutil.copytree(tmp_path / "good", folder)
        target = rng.choice(sorted(f for f in folder.rglob(given.files) if f.is_file()))
        target.write_bytes(mutated(target.read_bytes(), rng))
        outcome = tried(given.read, folder)
        assert not outcome.fault, f"{target}: {outcome.said}"


def refuse(folder):
    raise UserError("no")


def test_faults_are_seen(tmp_path, monkeypatch):
    assert tried(refuse, tmp_path).kind == "refused"
    assert tried(lambda folder: {}["x"], tmp_path).kind == "traceback"
    assert tried(lambda folder: time.sleep(60), tmp_path, seconds=0.05).kind == "hang"
    monkeypatch.setattr(mutations, "SLACK", -1)
    assert tried(lambda folder: None, tmp_path).kind == "memory"
