"""`neural3d batch` with real processes on this machine: killed ones resume, bad ones do not stop others, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import ball_capture

from neural3d.batch.needs import GIB, Room
from neural3d.checkpoint import saved_step
from neural3d.cli import main

TINY = ["--method", "splat", "--device", "cpu", "--export", "ply"]
SETTINGS = ["--set", "max_splats=300", "random_points=200", "sh_degree=0"]


def ended(words, capsys) -> tuple[int, str]:
    """Exit code, and all that was said in one line."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, " ".join((out + err).split())


def jobs(folder) -> dict:
    return {job["name"]: job for job in json.loads((folder / "batch.json").read_text())["jobs"]}


def test_killed_ones_resume_bad_ones_do_not_stop_others_and_none_is_done_twice(tmp_path, monkeypatch, capsys):
    """a is killed half-way, beside it b, the same capture, is not; c is empty, and mended before the second go."""
    monkeypatch.setattr("neural3d.batch.work.PROGRAM", [sys.executable, str(Path(__file__).with_name("killed.py"))])
    monkeypatch.setattr("neural3d.batch.local.this_machine", lambda device: Room(2, 4 * GIB))
    for name in "ab":
        ball_capture(tmp_path / name, train=4, test=2)
    (tmp_path / "c").mkdir()
    folder = tmp_path / "out"
    words = ["batch", *(tmp_path / n for n in "abc"), "--out", folder, "--steps", "20", *TINY, *SETTINGS]
    code, said = ended(words, capsys)
    found = jobs(folder)
    assert code == 3 and "done: 2 of 3" in said and f"failed: c: train: {tmp_path / 'c'}" in said
    assert max(said.index("a: train on"), said.index("b: train on")) < said.index(": done in")
    assert (found["a"]["state"], found["a"]["attempts"]) == ("done", 2) and "SIGKILL" in said
    assert (found["b"]["state"], found["b"]["attempts"]) == ("done", 1)
    assert (found["c"]["state"], found["c"]["failures"]) == ("failed", 3)
    assert found["a"]["figures"]["placed"] == 6 and found["a"]["figures"]["step"] == 20
    assert found["a"]["figures"]["psnr"] == found["b"]["figures"]["psnr"] > 5
    logs = {name: (folder / name / "log.txt").read_text() for name in "ab"}
    assert logs["a"].count("$ neural3d train") == 2 and logs["a"].count("train --resume") == 1
    written = [folder / name / f"{name}.ply" for name in "ab"]
    assert written[0].read_bytes() == written[1].read_bytes()

    ball_capture(tmp_path / "c", train=4, test=2)
    code, said = ended(words, capsys)
    assert code == 0 and "2 done before" in said and "done: 3 of 3" in said
    assert logs == {name: (folder / name / "log.txt").read_text() for name in "ab"}
    assert jobs(folder)["c"]["figures"]["files"] == ["c/c.ply"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_jobs_end_with_the_batch_and_are_saved(tmp_path, number):
    ball_capture(tmp_path / "a", train=4, test=2)
    words = ["batch", tmp_path / "a", "--out", tmp_path / "out", "--steps", "1000000", *TINY, *SETTINGS]
    command = [sys.executable, "-m", "neural3d.cli", *map(str, words)]
    run = tmp_path / "out" / "a" / "run"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as batch:
        try:
            wait(lambda: (run / "metrics.jsonl").exists() or batch.poll() is not None)
            process = json.loads((tmp_path / "out" / "a" / "now.json").read_text())["process"]
            batch.send_signal(number)
            said, _ = batch.communicate(timeout=300)
        finally:
            batch.kill()
    wait(lambda: not alive(process))
    assert saved_step(run / "checkpoint.safetensors") >= 50
    if number == signal.SIGINT:
        assert batch.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
        assert jobs(tmp_path / "out")["a"]["state"] == "waiting"


def wait(until, seconds=300.0):
    begin = time.monotonic()
    while not until():
        assert time.monotonic() - begin < seconds
        time.sleep(0.1)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "out"], "needs CAPTURES"),
        (["a"], "needs --out DIR"),
        (["a", "x/a", "--out", "out"], "two captures are called 'a'"),
        (["none", "--out", "out"], "none does not exist"),
        (["a", "--out", "out", "--steps", "0"], "--steps must be at least 1"),
        (["a", "--out", "out", "--minutes", "-1"], "--minutes must be positive"),
        (["a", "--out", "out", "--minutes", "1", "--steps", "1"], "choose one"),
        (["a", "--out", "out", "--method", "splaat"], "did you mean 'splat'"),
        (["a", "--out", "out", "--method", "vae"], "learns from examples"),
        (["a", "--out", "out", "--method", "ngp", "--set", "level=3"], "did you mean 'levels'"),
        (["a", "--out", "out", "--export", "glb,xyz"], "unknown mesh format '.xyz'"),
        (["a", "--out", "out", "--export", "ply", "--texture", "512"], "--texture: none of ply holds one"),
        (["a", "--out", "file"], "is a file already"),
    ],
)
def test_bad_input_is_refused_before_work_starts(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "x/a"):
        Path(name).mkdir(parents=True)
    Path("file").touch()
    code, told = ended(["batch", *words], capsys)
    assert code == 2 and said in told and told.count("error:") == 1 and not Path("out").exists()
