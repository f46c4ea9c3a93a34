"""Two processes train one scene: the same state in both to the bit, resumed to the bit, and none left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy import ball_capture

from neural3d.checkpoint import load_state
from neural3d.processes import ALONE, touched
from neural3d.run import load
from neural3d.train import Trainer

CPU = torch.device("cpu")
WORKER = Path(__file__).with_name("two_processes.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]  # any free port


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which two processes have done what two_processes.py says."""
    folder = tmp_path_factory.mktemp("two")
    ball_capture(folder / "photos", train=6, test=1, size=24)
    command = [*TORCHRUN, str(WORKER), str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("way", ["memory", "messages"])
def test_gradients_are_summed_with_their_weights_and_are_equal_to_the_bit(ran, way):
    found = [torch.load(ran / way / f"gradients_{rank}.pt") for rank in range(2)]
    parts = [torch.load(ran / way / f"before_{rank}.pt") for rank in range(2)]
    for name in ("dense", "table", "pairs", "one's own"):
        expected = sum(w * part[name] for w, part in zip((0.25, 0.75), parts) if part[name] is not None)
        torch.testing.assert_close(found[0][name], expected)
        assert torch.equal(found[0][name], found[1][name])
    assert found[0]["nobody's"] is None


@pytest.mark.parametrize("method", ["nerf", "neus", "ngp", "splat"])
def test_resume_is_exact_with_as_many(ran, method):
    """That both processes are equal at each checkpoint, saving has asserted."""
    whole, half = ((ran / f"{method}-{out}" / "checkpoint.safetensors").read_bytes() for out in ("whole", "half"))
    assert whole == half


def test_tables_that_each_steps_a_part_of_are_as_if_each_had_stepped_all(ran):
    """Through common memory each process steps half of the hash table; by messages, both step all of it."""
    states = [load_state(ran / f"ngp-{way}" / "checkpoint.safetensors") for way in ("whole", "messages")]
    tables = [[*(s["optimizer"][str(i)][key] for i in range(2) for key in "mv"), *s["method"].values()] for s in states]
    for divided, whole in zip(*tables, strict=True):
        torch.testing.assert_close(divided, whole, rtol=1e-5, atol=1e-9)
    assert {m["step"] for m in states[0]["optimizer"].values()} == {m["step"] for m in states[1]["optimizer"].values()}


@pytest.mark.parametrize("method", ["ngp", "splat"])
def test_one_process_goes_on_where_two_stood(ran, tmp_path, method):
    """And what they counted apart is not lost."""
    run = shutil.copytree(ran / f"{method}-whole", tmp_path / "run")
    before = load_state(run / "checkpoint.safetensors")
    trainer = Trainer.resume(run, CPU)
    if method == "splat":
        counted = before["method"]["control.views"] + before["others"]["1"]["counted"]["control.views"]
        assert counted.sum() > before["method"]["control.views"].sum() > 0
        torch.testing.assert_close(trainer.method.control.views, counted)
    trainer.fit(before["step"] + 4, previews=False)
    assert trainer.step == before["step"] + 4
    load(run, "cpu")


def test_steps_count_photos(ran):
    """Of which two processes take two at once: 16 steps were eight rounds."""
    state = load_state(ran / "splat-whole" / "checkpoint.safetensors")
    assert state["step"] == 16 and state["extra"]["steps"] == 16
    assert {moment["step"] for moment in state["optimizer"].values()} <= set(range(9))


def test_alone_nothing_is_exchanged():
    x, generator = torch.ones(3), torch.Generator()
    ALONE.total(x)
    assert x.tolist() == [1, 1, 1] and ALONE.sums(2, 3) == [2, 3] and ALONE.share(7) == 7
    assert ALONE.common(generator) is generator


def test_what_is_touched():
    grad = torch.zeros(4, 2)
    grad[1, 1], grad[3, 0] = 1e-30, -2
    assert touched(grad).tolist() == [0, 1, 0, 1]
    assert touched(torch.tensor([[0.0, 0, 0], [0, 0, 1]])).tolist() == [0, 1]


def test_a_method_for_one_process_says_so(tmp_path):
    photos = ball_capture(tmp_path / "photos")
    command = [*TORCHRUN, "-m", "neural3d", "train", str(photos), "run", "--method", "dvr", "--device", "cpu"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode and "dvr trains in one process alone" in done.stderr


def test_where_one_is_killed_the_other_ends_soon_and_says_how_to_go_on(tmp_path):
    photos, run = ball_capture(tmp_path / "photos", train=6, test=1, size=24), tmp_path / "run"
    command = [*TORCHRUN, "-m", "neural3d", "train", str(photos), str(run), "--method", "splat", "--steps",
               "1000000", "--device", "cpu"]  # fmt: skip
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as started:
        try:
            until(lambda: (run / "checkpoint.safetensors").exists(), 120)
            children = subprocess.run(["pgrep", "-P", str(started.pid)], capture_output=True, text=True).stdout.split()
            assert len(children) == 2
            killed = time.monotonic()
            os.kill(int(children[1]), signal.SIGKILL)
            _, said = started.communicate(timeout=60)
            assert time.monotonic() - killed < 30
        finally:
            started.kill()
    assert re.search(r"another process of this training has ended.*--resume|saved at step \d+", said, re.DOTALL), said
    before = load_state(run / "checkpoint.safetensors")["step"]
    Trainer.resume(run, CPU).fit(before + 2, previews=False)
    assert json.loads((run / "config.json").read_text())["method"] == "splat"


def until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
