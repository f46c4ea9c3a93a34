"""What becomes of jobs, with an executor that only pretends: failures, three of them, going on, none done twice."""

import json

import pytest

from neural3d.batch import queue
from neural3d.batch.book import FILE, Book, Job, Options, open_book
from neural3d.batch.needs import GIB, Room, forecast, method_memory, shares
from neural3d.batch.work import last_words, left, seconds_trained
from neural3d.errors import UserError
from neural3d.methods.splat import SplatConfig, splat_bytes

ONE = Room(1, GIB)


class Pretender:
    """Does what a script says: for each job what its attempts end in; room for `most` at once."""

    def __init__(self, script: dict[str, list[str]], most: int = 2):
        self.machines, self.script, self.most = [Room(most, most * GIB)], script, most
        self.running: dict[str, int] = {}
        self.started: list[str] = []
        self.at_once = 0
        self.stopped = False

    def start(self, task, takes):
        if len(self.running) == self.most:
            return False
        (task.place).mkdir(exist_ok=True)
        now = {"attempt": task.attempt, "stage": "train", "host": "here"}
        (task.place / "now.json").write_text(json.dumps(now))
        assert task.name not in self.running
        self.running[task.name] = task.attempt
        self.started.append(task.name)
        self.at_once = max(self.at_once, len(self.running))
        return True

    def ended(self):
        ends = [(name, self.script[name].pop(0)) for name in self.running if self.script[name]]
        for name, _ in ends:
            del self.running[name]
        return ends

    def stop(self):
        self.stopped = True


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.setattr("neural3d.batch.work.figures", lambda task: {"psnr": 30.0, "files": []})


def book(folder, names="abc") -> Book:
    folder.mkdir(exist_ok=True)
    return Book(folder, Options(), [Job(name, folder / name) for name in names])


def do(a_book, executor, **more):
    events = []
    takes = {job.name: ONE for job in a_book.jobs}
    queue.run(a_book, executor, takes, lambda job, event: events.append((job.name, event)), pause=0.0, tick=0.0, **more)
    return events


def test_failures_are_tried_again_and_three_are_enough(tmp_path, figures):
    executor = Pretender({"a": [""], "b": ["node died", "eval: no room", ""], "c": ["x", "y", "train: too dark"]})
    mine = book(tmp_path)
    events = do(mine, executor)
    a, b, c = mine.jobs
    assert (a.state, a.attempts, a.failures, a.figures["psnr"]) == ("done", 1, 0, 30.0)
    assert (b.state, b.attempts, b.failures, b.error) == ("done", 3, 2, "")
    assert (c.state, c.attempts, c.failures, c.error) == ("failed", 3, 3, "train: too dark")
    assert executor.at_once == 2 and executor.stopped
    assert [e for n, e in events if n == "c" and e != "stage"] == ["failed", "failed", "given up"]
    written = {job["name"]: job for job in json.loads((tmp_path / FILE).read_text())["jobs"]}
    assert written["c"]["error"] == "train: too dark" and written["a"]["where"] == "here"


def test_it_goes_on_where_it_was_killed(tmp_path, figures):
    """What the file says after a kill: a is done, b was running, c had failed for good."""
    captures = [tmp_path / name for name in "abc"]
    for path in captures:
        path.mkdir()
    folder = tmp_path / "out"
    folder.mkdir()
    first = open_book(folder, captures, Options(steps=20))
    first.jobs[0].state, first.jobs[0].attempts = "done", 1
    first.jobs[1].state, first.jobs[1].attempts = "running", 2
    first.jobs[2].state, first.jobs[2].attempts, first.jobs[2].failures = "failed", 3, 3
    first.save()
    again = open_book(folder, captures, Options(steps=20))
    executor = Pretender({"a": [""], "b": [""], "c": ["x", ""]})
    do(again, executor)
    assert sorted(executor.started) == ["b", "c", "c"]
    assert [(j.state, j.attempts) for j in again.jobs] == [("done", 1), ("done", 3), ("done", 5)]
    third = open_book(folder, captures, Options(steps=20))
    do(third, executor := Pretender({}))
    assert executor.started == []


def test_stopping_leaves_jobs_waiting(tmp_path):
    mine, executor = book(tmp_path), Pretender({"a": [], "b": [], "c": []})
    do(mine, executor, stop=lambda: len(executor.started) == 2)
    assert executor.stopped and [job.state for job in mine.jobs] == ["waiting"] * 3
    assert json.loads((tmp_path / FILE).read_text())["jobs"][0]["attempts"] == 1


def test_a_folder_belongs_to_one_batch(tmp_path):
    for name in ("x/a", "y/a", "b", "out"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="two captures are called 'a'"):
        open_book(tmp_path / "out", [tmp_path / "x/a", tmp_path / "y/a"], Options())
    with pytest.raises(UserError, match="does not exist"):
        open_book(tmp_path / "out", [tmp_path / "z"], Options())
    open_book(tmp_path / "out", [tmp_path / "x/a"], Options()).save()
    with pytest.raises(UserError, match=r"batch of other captures \(.*b\)"):
        open_book(tmp_path / "out", [tmp_path / "b", tmp_path / "x/a"], Options())
    with pytest.raises(UserError, match=r"other options \(--steps 0\)"):
        open_book(tmp_path / "out", [tmp_path / "x/a"], Options(steps=5))
    (tmp_path / "out" / FILE).write_text("[]")
    with pytest.raises(UserError, match="holds no batch"):
        open_book(tmp_path / "out", [tmp_path / "x/a"], Options())


def test_the_forecast_is_the_engines_own(tmp_path):
    config = SplatConfig()
    assert method_memory(Options()) == config.max_splats * splat_bytes(config.sh_degree)
    assert method_memory(Options(set=["max_splats=10", "sh_degree=0"])) == 10 * splat_bytes(0)
    assert forecast(tmp_path / "none", Options(method="ngp")) == GIB  # its job will say what is wrong
    with pytest.raises(UserError, match="unknown setting"):
        method_memory(Options(method="ngp", set=["max_splats=10"]))


def test_cores_are_shared_among_those_that_memory_holds():
    machine = Room(8, 8 * GIB)
    assert shares([machine], [GIB] * 100, "cpu") == [Room(1, GIB)] * 100
    assert shares([machine], [4 * GIB, GIB], "cpu") == [Room(4, 4 * GIB), Room(4, GIB)]
    assert shares([machine, Room(2, GIB)], [GIB], "cpu") == [Room(8, GIB)]
    assert shares([machine], [20 * GIB], "cpu") == [Room(8, 8 * GIB)]
    assert shares([Room(8, 64 * GIB, 2)], [GIB] * 3, "auto") == [Room(4, GIB, 1)] * 3
    assert shares([Room(8, 64 * GIB, 2)], [GIB], "cpu") == [Room(8, GIB)]


def test_why_a_command_failed_in_one_line():
    assert last_words("step 50\nerror: a.png is damaged; copy it again.\n", 2) == "a.png is damaged; copy it again."
    assert last_words("only 2 of 9 photos could be placed: no whole capture\nregistered\n", 3).startswith("only 2 of 9")
    assert "memory ends" in last_words("step 50 loss 0.1\n", -9) and last_words("", -11) == "killed (SIGSEGV)"
    assert last_words("Traceback\n  File x\nKeyError: 'a'\n", 1) == "KeyError: 'a'"
    assert last_words("", 5) == "ended with exit code 5"


def test_minutes_that_are_left(tmp_path):
    lines = [{"seconds": s} for s in (10.0, 30.0, 5.0, 15.0)]  # 30 s, then a new process, 15 s
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"sec')
    assert seconds_trained(tmp_path / "metrics.jsonl") == 45
    assert left(tmp_path, Options(minutes=1)) == ["--minutes", "1.000"]  # nothing was saved of it
    (tmp_path / "checkpoint.safetensors").touch()
    assert left(tmp_path, Options(minutes=1)) == ["--minutes", "0.250"]
    assert left(tmp_path, Options(minutes=0.75)) is None
