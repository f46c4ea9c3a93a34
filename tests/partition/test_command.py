"""`train --set partition=true`, whole: a tiny street in two cells, killed, gone on with, joined, shown."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.methods.seeds import within
from neural3d.partition import work
from neural3d.partition.plan import cells_of, read_plan, require_partition
from neural3d.run import configure, load
from neural3d.synthetic.street import make_street

SETTINGS = ["horizon=40", "sh_degree=1", "sh_every=30", "densify_from=10", "densify_every=10", "exposure=true"]
CELLS = ["partition=true", "cells=2"]


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return make_street(tmp_path_factory.mktemp("street"), stations=8, width=48, height=36)


def said_by(words, capsys) -> str:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        assert not end.code, capsys.readouterr()
    out, err = capsys.readouterr()
    return " ".join((out + err).split())


def test_cells_train_and_are_joined(street, tmp_path, monkeypatch, capsys):
    killed = str(Path(__file__).parents[1] / "batch" / "killed.py")  # kills the cell called 1 at step 10
    monkeypatch.setattr("neural3d.batch.work.PROGRAM", [sys.executable, killed])
    run = tmp_path / "run"
    words = ["train", street, "--out", run, "--method", "splat", "--device", "cpu"]
    said = said_by([*words, "--set", *SETTINGS, *CELLS], capsys)
    assert f"run folder {run}" in said and said.index("whole: done") < said.index("2: done")
    assert "1: failed, to be tried again: train: killed" in said and "1: train on" in said.partition("tried again")[2]
    joined = load(run, "cpu")
    plan = read_plan(run / "cells" / "plan.json")
    parts = [load(run / "cells" / cell.name / "run", "cpu") for cell in plan]
    own = []
    for cell, part in zip(plan, parts):
        assert part.config.settings["horizon"] == round(40 * cell.photos / 21) == part.step
        assert len(part.scene.split["train"]) == cell.photos and not part.scene.split["test"]
        means, seen = part.method.splats.means, part.method.seen
        assert seen.any() and seen.shape[0] == cell.photos
        own.append(means[within(means.double(), torch.tensor(cell.ground).double())])
        assert 0 < len(own[-1]) < len(means)  # some splats stand for what is around it
    assert torch.equal(joined.method.splats.means, torch.cat(own))
    assert joined.method.degree == 1 and joined.step == 40 and joined.scene.cell is None
    overview = load(run / "overview" / "whole" / "run", "cpu")
    assert overview.scene.downscale == 3 and torch.equal(joined.method.log_gain, overview.method.log_gain)
    # the gains of a cell's photos are, in the mean, those that the overview gave the same photos
    names = [v.name for v in parts[0].scene.views]
    rows = [k for k, i in enumerate(overview.scene.split["train"]) if overview.scene.views[i].name in names]
    want = overview.method.gains().log()[rows].mean(0)
    assert torch.allclose(parts[0].method.gains().log().mean(0), want, atol=1e-5)

    assert "nothing to go on with" in said_refused(["train", "--resume", run], capsys)
    (run / "checkpoint.safetensors").unlink()
    before = (run / "cells" / "1" / "run" / "checkpoint.safetensors").stat().st_mtime_ns
    said = said_by(["train", "--resume", run, "--device", "cpu"], capsys)
    assert "done: " in said and "train on" not in said
    assert (run / "cells" / "1" / "run" / "checkpoint.safetensors").stat().st_mtime_ns == before
    assert "psnr" in said_by(["eval", run, "--device", "cpu"], capsys).lower()
    assert json.loads((run / "eval.json").read_text())["protocol"]["views"] == 3


def said_refused(words, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert end.value.code == 2, out + err
    return " ".join((out + err).split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--method", "ngp", "--set", "partition=true"], "unknown setting 'partition'"),
        (["--set", "partition=true", "cells=11"], "21 training photos are too few for 11 cells"),
        (["--set", "partition=true", "cells=1"], "cells=1 is no partition"),
        (["--set", "partition=true", "refine_poses=true"], "move their cameras apart"),
        (["--set", "partition=true", "--minutes", "1"], "--minutes: cells train to the horizon"),
        (["--set", "partition=true", "--deterministic"], "leave --deterministic out"),
        (["--set", "start=nowhere"], "nowhere: not a run"),
    ],
)
def test_what_cannot_be_done_in_cells_is_said_before_work(street, tmp_path, capsys, more, said):
    words = ["train", street, "--out", tmp_path / "run", *([] if "--method" in more else ["--method", "splat"]), *more]
    assert said in said_refused(words, capsys)
    assert not (tmp_path / "run" / "overview").exists()


def test_the_number_of_cells_follows_from_memory(street, monkeypatch):
    config, scene = configure(street, "splat", ["partition=true", "max_splats=20000000"])
    monkeypatch.setattr("neural3d.partition.plan.available_memory", lambda: 16 << 30)
    number = cells_of(scene, config.method_config())
    assert number == 6  # 1.5 times 26.5 GiB, in 7 GiB at a time
    with pytest.raises(UserError, match="too few"):
        monkeypatch.setattr("neural3d.partition.plan.available_memory", lambda: 4 << 30)
        require_partition(config, scene)
    assert cells_of(scene, configure(street, "splat", ["partition=true"])[0].method_config()) == 4


def test_a_failed_cell_is_named(street, tmp_path):
    config, scene = configure(street, "splat", [*SETTINGS, *CELLS])
    work.create(tmp_path / "run", config, scene)

    def watch(book, run):
        book.jobs[0].state, book.jobs[0].error = "failed", "train: no room"

    with pytest.raises(UserError, match=re.escape("whole: train: no room")):
        work.go_on(
            tmp_path / "run", config, scene, "cpu", lambda: type("Nowhere", (), {"machines": [work.Room(1, 1)]}), watch
        )
