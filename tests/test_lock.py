"""One process at a time in a run folder; the second is told who, and readers do not notice."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from toy import ball_capture

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.lock import Lock
from neural3d.run import configure, load
from neural3d.train import Trainer

SMALL = ["log2_table=11", "levels=4", "max_resolution=32", "samples_per_batch=4096", "grid_budget=1024"]
CPU = torch.device("cpu")


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    code = f"from neural3d.lock import Lock\nfrom pathlib import Path\np = Path({str(tmp_path)!r})\n"
    code += "lock = Lock(p / '.lock', p).acquire()\nprint('held', flush=True)\nimport time\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_told_who_and_gets_it_when_the_first_is_killed(tmp_path, holder):
    lock = Lock(tmp_path / ".lock", tmp_path)
    host = os.uname().nodename
    with pytest.raises(UserError, match=rf"is in use: process {holder.pid} on {host} since \d+-\d+-\d+ \d+:\d+:\d+"):
        lock.acquire()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock:
        assert f"process {os.getpid()} " in lock.path.read_text()
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            Lock(tmp_path / ".lock", tmp_path).acquire()
    Lock(tmp_path / ".lock", tmp_path).acquire().release()


def test_two_trainings_exclude_each_other_and_readers_go_on(tmp_path, capsys):
    capture = ball_capture(tmp_path / "capture", train=4, test=1, size=16)
    run = tmp_path / "run"
    trainer = Trainer.create(run, *configure(capture, "ngp", SMALL), CPU)
    with pytest.raises(UserError, match="is in use"):  # from the start on, when there is no checkpoint yet
        Trainer.create(run, *configure(capture, "ngp", SMALL), CPU)
    said = []

    def second() -> None:
        if not said and trainer.step == 3:
            for words in (["--resume", str(run)], [str(capture), "--method", "ngp", "--out", str(run)]):
                with pytest.raises(SystemExit) as stop:
                    main(["train", *words, "--steps", "9", "--device", "cpu"])
                assert stop.value.code == 2
            said.append(capsys.readouterr().err)

    trainer.fit(2)
    trainer = Trainer.resume(run, CPU)
    before = (run / "config.json").read_bytes()
    trainer.fit(5, between_steps=second, previews=False, stop=lambda: trainer.step == 3 and load(run, "cpu").step != 2)
    assert "is in use: process" in said[0] and "already holds a run" in said[0]
    assert (run / "config.json").read_bytes() == before
    assert load(run, "cpu").step == 5
    Trainer.resume(run, CPU).fit(6)  # let go at the end


def test_what_a_killed_process_left_is_removed(tmp_path):
    capture = ball_capture(tmp_path / "capture", train=4, test=1, size=16)
    run = tmp_path / "run"
    Trainer.create(run, *configure(capture, "ngp", SMALL), CPU).fit(2)
    (run / ".checkpoint.4711.part.safetensors").write_bytes(b"half")
    with open(run / "metrics.jsonl", "w") as f:
        f.write('{"step": 1}\n{"step": 2, "lo')
    Trainer.resume(run, CPU).fit(3)
    assert not list(run.glob("*.part*")) and not list(run.glob(".*.part*"))
    assert (run / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_file_system_without_locks_does_not_stop_anybody(tmp_path, monkeypatch):
    def unsupported(file):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("neural3d.lock._lock", unsupported)
    with Lock(tmp_path / ".lock", tmp_path), Lock(tmp_path / ".lock", tmp_path):
        pass
