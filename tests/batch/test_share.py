"""Files of jobs on machines that share no folder, by an address (here file://): there, back, and on elsewhere."""

import json
import tempfile
import time

import pytest

from neural3d.batch import share, work
from neural3d.batch.book import FILE, Options
from neural3d.batch.share import Share, bring, entrust, work_away
from neural3d.batch.work import Task
from neural3d.cli import main
from neural3d.errors import UserError


@pytest.fixture
def address(tmp_path):
    return f"file://{tmp_path}/share"


@pytest.fixture
def task(tmp_path):
    capture = tmp_path / "photos" / "garden"
    capture.mkdir(parents=True)
    (capture / "1.png").write_bytes(b"one")
    (capture / ".hidden").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(b"two")
    (capture / "more").symlink_to(tmp_path / "elsewhere")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / FILE).write_text("{}")
    return Task("garden", capture, folder, Options(), 1, 1)


def machine(tmp_path, monkeypatch, name):
    """From here on this is another machine, whose temporary folder is its own."""
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))


def a_step(task, stop):
    """Work that reads the capture, and goes on from where it finds the run."""
    assert sorted(p.name for p in task.source.rglob("*.png")) == ["1.png", "2.png"] and (task.folder / FILE).exists()
    run = task.place / "run"
    run.mkdir(exist_ok=True)
    steps = json.loads((run / "config.json").read_text()) if (run / "config.json").exists() else {"steps": 0}
    if steps["steps"]:
        assert steps["scene"] == str(task.source) and steps["views"][0] == str(task.place / "garden-capture" / "1.png")
    now = {"scene": str(task.source), "steps": steps["steps"] + 1, "of": f"{task.source}-x"}
    (run / "config.json").write_text(json.dumps(now | {"views": [str(task.place / "garden-capture" / "1.png")]}))
    return ""


def test_an_attempt_goes_on_where_another_machine_was(address, task, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "work", a_step)
    for attempt, name in enumerate(("first", "second"), 1):
        capture = entrust(Share(address), task)
        machine(tmp_path, monkeypatch, name)
        now = Task(task.name, task.source, task.folder, task.options, 1, attempt)
        assert work_away(now, address, capture) == ""
    assert not (tmp_path / "share" / capture / ".hidden").exists()
    bring(Share(address), task.name, task.place, task.source)
    config = json.loads((task.place / "run" / "config.json").read_text())
    assert config["steps"] == 2 and config["scene"] == str(task.source)
    assert config["views"] == [str(task.place / "garden-capture" / "1.png")]
    assert config["of"].startswith(str(tmp_path / "second"))  # another path that only begins alike is left alone
    assert work.now(task.place)["attempt"] == 2 and not list(tmp_path.rglob("*.part"))


def test_only_what_changed_is_sent(address, task, tmp_path, monkeypatch):
    there = Share(address)
    sent = []
    put = there.files.put_file
    monkeypatch.setattr(there.files, "put_file", lambda path, to, **more: (sent.append(to), put(path, to, **more)))
    there.send(task.source, "captures/x/garden")
    there.send(task.source, "captures/x/garden")
    assert len(sent) == 2
    (task.source / "1.png").write_bytes(b"another")
    there.send(task.source, "captures/x/garden")
    assert len(sent) == 3
    there.fetch("captures/x/garden", tmp_path / "back")
    assert (tmp_path / "back" / "1.png").read_bytes() == b"another" and (tmp_path / "back" / "more" / "2.png").exists()
    there.fetch("captures/y", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert share.captured(task.source) != "captures/x/garden" and share.captured(task.source).endswith("/garden")


def test_who_was_given_up_as_lost_stops_and_sends_no_more(address, task, tmp_path, monkeypatch):
    monkeypatch.setattr(share, "SEND_EVERY", 0.05)
    machine(tmp_path, monkeypatch, "slow")

    def slow(task, stop):
        work.tell_now(Task(task.name, task.source, task.folder, task.options, 1, 2), "train", 1)
        Share(address).send(task.place, task.name)  # as another machine does, in the second attempt
        work.tell_now(task, "train", 1)
        (task.place / "stale").touch()
        begin = time.monotonic()
        while not stop():
            assert time.monotonic() - begin < 20
            time.sleep(0.01)
        return "stopped"

    monkeypatch.setattr(work, "work", slow)
    assert work_away(task, address, entrust(Share(address), task)) == "stopped"
    assert not (tmp_path / "share" / "garden" / "stale").exists()
    assert Share(address).read(f"garden/{work.NOW}")["attempt"] == 2


def test_a_place_that_cannot_be_used_is_a_sentence(task, tmp_path):
    with pytest.raises(UserError, match=r"--share nowhere://x.*nowhere"):
        Share("nowhere://x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Share(f"file://{tmp_path}/file").send(task.source, "captures")


def test_it_is_for_clusters(task, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(task.source), "--out", str(tmp_path / "new"), "--share", "file://x"])
    assert ended.value.code == 2 and "--address" in capsys.readouterr().err
