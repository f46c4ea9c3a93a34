"""The main job on a toy: capture in, scene out; exact resume; nothing lost."""

import json
import subprocess
import sys

import pytest
import torch
from toy import ball_capture

from neural3d import saving
from neural3d.checkpoint import load_state
from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.evaluate.views import evaluate
from neural3d.run import configure, load
from neural3d.train import Trainer, learning_rate

SMALL = [
    "horizon=200", "log2_table=14", "levels=8", "max_resolution=128",
    "samples_per_batch=16384", "grid_budget=8192", "steps_per_unit=48",
]  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return ball_capture(tmp_path_factory.mktemp("ball"))


def start(capture, out, *settings, seed=0):
    return Trainer.create(out, *configure(capture, "ngp", [*SMALL, *settings], seed=seed), CPU)


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ball"
    start(capture, out).fit(200)
    return out


def test_a_capture_becomes_a_scene(trained):
    report = evaluate(load(trained, "cpu"))
    assert report["results"]["psnr"] > 20.5
    assert json.loads((trained / "eval.json").read_text()) == report
    assert report["protocol"]["background"] == "white" and report["protocol"]["views"] == 4
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == [50, 100, 150, 200]
    assert lines[-1]["psnr"] > lines[0]["psnr"]


def test_resume_is_exact_to_the_byte(capture, trained, tmp_path):
    start(capture, tmp_path / "half").fit(77)
    Trainer.resume(tmp_path / "half", CPU).fit(200)
    whole, halves = (p / "checkpoint.safetensors" for p in (trained, tmp_path / "half"))
    assert whole.read_bytes() == halves.read_bytes()


def test_resume_is_exact_with_every_option(capture, tmp_path):
    options = ("exposure=true", "refine_poses=true", "distortion=0.01", "random_background=false")
    start(capture, tmp_path / "whole", *options).fit(40)
    start(capture, tmp_path / "half", *options).fit(23)
    Trainer.resume(tmp_path / "half", CPU).fit(40)
    whole, halves = ((tmp_path / p / "checkpoint.safetensors").read_bytes() for p in ("whole", "half"))
    assert whole == halves


def test_threads_do_not_change_a_byte_but_seeds_do(capture, tmp_path):
    threads = torch.get_num_threads()
    try:
        for name, count, seed in (("one", 1, 0), ("two", 2, 0), ("other", 2, 1)):
            torch.set_num_threads(count)
            start(capture, tmp_path / name, seed=seed).fit(20)
    finally:
        torch.set_num_threads(threads)
    one, two, other = ((tmp_path / n / "checkpoint.safetensors").read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_finished_run_can_be_extended_and_metrics_do_not_repeat(capture, tmp_path):
    start(capture, tmp_path / "run").fit(60)
    (tmp_path / "run" / "metrics.jsonl").open("a").write('{"step": 100}\n')  # reported but never saved
    Trainer.resume(tmp_path / "run", CPU).fit(120)
    steps = [json.loads(x)["step"] for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [50, 100]
    assert load_state(tmp_path / "run" / "checkpoint.safetensors")["step"] == 120


def test_stopping_saves(capture, tmp_path):
    trainer = start(capture, tmp_path / "run")
    trainer.fit(1000, stop=lambda: trainer.step >= 9)
    assert load_state(tmp_path / "run" / "checkpoint.safetensors")["step"] == 9


def test_a_killed_training_has_saved_by_the_clock(capture, tmp_path, monkeypatch):
    """Long before any number of steps: here as often as it can."""
    monkeypatch.setattr(saving, "OFTEN", 0.0)
    monkeypatch.setattr(saving, "SHARE", 1e9)
    trainer = start(capture, tmp_path / "run")
    times = set()

    def killed() -> None:
        if (written := tmp_path / "run" / "checkpoint.safetensors").exists():
            times.add(written.stat().st_mtime_ns)
        if trainer.step == 40:
            raise MemoryError

    with pytest.raises(MemoryError):
        trainer.fit(1000, between_steps=killed)
    assert len(times) >= 2
    step = load_state(tmp_path / "run" / "checkpoint.safetensors")["step"]
    assert 1 < step <= 40
    start(capture, tmp_path / "whole").fit(step)
    run, whole = ((tmp_path / p / "checkpoint.safetensors").read_bytes() for p in ("run", "whole"))
    assert run == whole, "a copy of one moment, though training went on meanwhile"


def test_an_existing_run_is_not_overwritten(capture, trained):
    before = (trained / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        start(capture, trained)
    assert (trained / "checkpoint.safetensors").read_bytes() == before


def poison(trainer, what):
    if what == "parameter":
        trainer.method.field.color_net.weights[0].data[0] = float("nan")
    elif what == "moment":
        next(iter(trainer.players[0].optimizer.state.values()))["v"].view(-1)[3] = float("inf")
    else:
        trainer.method.background[0] = float("nan")


@pytest.mark.parametrize("what", ["parameter", "moment", "buffer"])
def test_divergence_between_two_reports_keeps_the_checkpoint(capture, tmp_path, monkeypatch, what):
    """No report is due in these steps, so nothing has looked at the loss: what is saved is looked at itself."""
    monkeypatch.setattr(saving, "OFTEN", float("inf"))  # not by the clock either, however slow the machine
    trainer = start(capture, tmp_path / "run")
    trainer.fit(10)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    poison(trainer, what)
    with pytest.raises(UserError, match=r"diverged by step 20 .*keeps the checkpoint of step 10.*--set"):
        trainer.fit(20)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before
    poison(resumed := Trainer.resume(tmp_path / "run", CPU), what)
    with pytest.raises(UserError, match=r"diverged by step 12 .*checkpoint of step 10"):  # stopped, as by Ctrl-C
        resumed.fit(20, stop=lambda: resumed.step == 12)
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_divergence_is_told_at_the_next_report(capture, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "OFTEN", float("inf"))
    trainer = start(capture, tmp_path / "run")
    poison(trainer, "parameter")
    with pytest.raises(UserError, match=r"diverged by step 50 \(loss nan\); nothing had been saved yet"):
        trainer.fit(1000)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_learning_rate_decays_over_the_horizon():
    group = {"lr": 1e-2, "lr_final": 1e-4, "warmup": 10}
    assert learning_rate(group, 0.0, 0) == pytest.approx(1e-3)
    assert learning_rate(group, 0.5, 500) == pytest.approx(1e-3)
    group["lr"] = 0.5  # what the optimizer was last told does not matter
    assert learning_rate(group, 1.0, 1000) == pytest.approx(1e-4)
    late = {"lr": 1e-2, "lr_final": 1e-4, "waits_until": 0.3}
    assert [(late := late | {"lr": learning_rate(late, p, 1)})["lr"] for p in (0.0, 0.29)] == [0, 0]
    assert learning_rate(late, 0.5, 500) == pytest.approx(1e-3)


def command(*words):
    return subprocess.run([sys.executable, "-m", "neural3d.cli", *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere"], "nowhere"),
        (["train", "{capture}", "--method", "ngpp"], "unknown method 'ngpp'; did you mean 'ngp'"),
        (["train", "{capture}", "--method", "ngp", "--set", "lrr=1"], "did you mean 'lr'"),
        (["train", "{capture}", "--method", "ngp", "--set", "backend=tcnn"], "tiny-cuda-nn"),
        (["train"], "needs a SCENE"),
        (["train", "--resume", "{tmp}"], "not a run"),
        (["train", "--resume", "{run}", "--steps", "100"], "already at step 200"),
        (["train", "{capture}", "--out", "{run}"], "already holds a run"),
        (["eval", "{run}", "--split", "val"], "has no views; choose among"),
        (["export", "{run}", "{tmp}/mesh.xyz"], "mesh.xyz"),
        (["render", "{run}", "--path", "{tmp}/no.json", "--out", "{tmp}/x"], "no.json"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capture, trained, tmp_path, words, message):
    words = [w.format(capture=capture, run=trained, tmp=tmp_path) for w in words]
    done = command(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_the_command_line_from_capture_to_mesh(capture, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", str(capture), "--method", "ngp", "--out", "run", "--steps", "100", "--set", *SMALL])
    main(["train", "--resume", "run", "--steps", "150"])
    main(["eval", "run"])
    main(["render", "run", "--path", "orbit", "--frames", "3", "--out", "orbit"])
    main(["export", "run", "mesh.ply", "--resolution", "48"])
    main(["info", "run"])
    main(["info", str(capture)])
    main(["info", "mesh.ply"])
    printed = capsys.readouterr().out
    assert "PSNR" in printed and "150" in printed
    assert (tmp_path / "mesh.ply").exists()
    assert len(list((tmp_path / "orbit").glob("**/*.png"))) >= 3
